"""The worker program. The zygote forks it and calls `main`; `__main__` starts it where fork is unsafe.

User code runs on the main thread. While it runs, the session's background thread reads the socket, so cancels, recalls
and the end of the scheduler are noticed; it also sends text that has waited long enough.
"""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import NoReturn

from ipyremote.backend import current
from ipyremote.client.environments import run_hook
from ipyremote.client.session import Session
from ipyremote.ids import TaskId
from ipyremote.messages import WorkerBoot
from ipyremote.remote_cells import install
from ipyremote.remote_cells.output import OutputCapture
from ipyremote.store.directory import SessionDirectory
from ipyremote.store.progress_page import ProgressPage
from ipyremote.store.segments import SegmentStore
from ipyremote.worker.host import Host
from ipyremote.worker.reporter import ChannelReporter
from ipyremote.worker.run import Runner
from ipyremote.worker.title import WorkerTitle

__all__ = ["main"]


def main(boot: WorkerBoot) -> None:
    """Run tasks until the scheduler says `Exit` or is gone."""
    faulthandler.enable()
    sys.path[:] = map(os.fsdecode, boot.sys_path)
    sys.argv[:] = map(os.fsdecode, boot.argv)
    with contextlib.suppress(OSError):  # the driver's directory may be gone by now
        os.chdir(boot.cwd)
    environment = boot.environment
    if environment is not None:
        # The hook runs before the scheduler hears of this process, and before there is a session to call.
        current.start_with(_refuse)
        run_hook(environment)
        _flush()
    directory = SessionDirectory.attach(Path(boot.directory))
    host = Host()
    title = WorkerTitle(host)
    signal.signal(signal.SIGINT, host.on_sigint)
    session = Session(
        key=boot.key,
        client_id=boot.worker_id,
        socket_path=str(directory.socket_path),
        secret=boot.secret,
        store=SegmentStore(directory.path, boot.worker_id, boot.capacity),
        alive=boot.lifeline,
        host=host,
    )
    if environment is not None:
        session.environments.inherit(environment)
    current.install(session)
    progress = ProgressPage.create(directory.path, boot.worker_id)
    installation = install(
        ChannelReporter(session.channel),
        owner=lambda: session.running.task_id,
        wake=session.channel.wake,
        log=1,
        # What a hook has printed is in the log already.
        log_from_start=environment is not None,
    )
    output = installation.output
    host.look_after(partial(_attend, title, output), output.send_all)
    runner = Runner(session, host, output, progress)
    _work(session, host, runner, title)
    # The process ends without the interpreter's own end, so functions registered with `atexit` are run here.
    atexit._run_exitfuncs()
    output.send_all()
    session.channel.leave()


def _refuse() -> NoReturn:
    raise RuntimeError(
        "This is called by a worker_process_setup_hook, before its process belongs to the session. Do it in a task."
    )


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # a hook may have put anything there
            stream.flush()


def _attend(title: WorkerTitle, output: OutputCapture[TaskId]) -> bool:
    """Do what is due in a worker now and then. Returns whether text waits that is due soon."""
    title.update()
    return output.send_late()


def _work(session: Session, host: Host, runner: Runner, title: WorkerTitle) -> None:
    while _take(session, host):
        assignment = host.current
        if assignment is None:
            return
        runner.run(assignment)
        actor = assignment.message.actor
        if actor is None or runner.instance is None:
            continue
        title.become_actor(assignment.message.spec.label)
        # Imported only by actors that need it: asyncio takes as long to import as all of the worker.
        if runner.is_async or actor.max_concurrency > 1 or actor.groups:
            from ipyremote.worker import actors

            serve = actors.serve_async if runner.is_async else actors.serve_threads
            serve(session, host, runner, actor)
            return


def _take(session: Session, host: Host) -> bool:
    """Wait for the next run. Returns False when the session has ended."""
    # The socket is read only when the queue is empty: a look at the socket costs as much as a small task.
    if not session.channel.call_locked(host.take):
        session.channel.wait_until(host.take)
    return not session.ended
