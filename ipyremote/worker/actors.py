"""Actors that run several calls at a time: coroutines on event loops, or pools of threads.

A plain actor needs nothing of this module: its calls run one after another on the main thread, like tasks. An actor
with an `async def` method runs its calls on an event loop on the main thread (a plain method then blocks the loop while
the method runs, as in Ray); an actor with `max_concurrency` above 1 or with concurrency groups runs its calls on
threads. Each concurrency group has threads, or a loop on a thread, of its own, which live as long as the actor. The
scheduler sends calls ahead; `concurrency_groups.py` decides how many run at a time.

Calls arrive in the host's queue on whichever thread reads the socket. This thread, and each thread that ends a call,
starts the calls that there is room for, with the session's lock held.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from ipyremote.client.session import Session
from ipyremote.messages import ActorSpec
from ipyremote.worker.concurrency_groups import DEFAULT, ConcurrencyGroup, ConcurrencyGroups
from ipyremote.worker.host import Assignment, Host
from ipyremote.worker.run import Runner

__all__ = ["serve_async", "serve_threads"]


def _limits(actor: ActorSpec) -> dict[str, int]:
    """Return how many calls may run at a time, by group."""
    return {DEFAULT: actor.max_concurrency, **dict(actor.groups)}


# ---------------------------------------------------------------------------------------------------------- threads


def serve_threads(session: Session, host: Host, runner: Runner, actor: ActorSpec) -> None:
    """Run calls on threads until the worker is told to leave. The main thread reads the socket."""
    with ExitStack() as pools:
        groups: dict[str, ConcurrencyGroup] = {}
        all_groups = ConcurrencyGroups(host, groups)
        for name, limit in _limits(actor).items():
            pool = pools.enter_context(ThreadPoolExecutor(limit, f"ipyremote-{name or 'actor'}"))
            groups[name] = _on_threads(session, runner, all_groups, pool, limit)

        def begin() -> None:
            host.on_work = all_groups.advance
            all_groups.advance()

        session.channel.call_locked(begin)
        session.channel.wait_until(lambda: host.leaving)
        session.channel.call_locked(all_groups.clear)


def _on_threads(
    session: Session, runner: Runner, groups: ConcurrencyGroups, pool: ThreadPoolExecutor, limit: int
) -> ConcurrencyGroup:
    def run(call: Assignment) -> None:
        try:
            runner.run_on_thread(call, last=lambda: not group.waiting)
        finally:
            session.channel.call_locked(lambda: groups.on_ended(call, group))

    def start(batch: list[Assignment]) -> None:
        for call in batch:
            pool.submit(run, call)

    group = ConcurrencyGroup(limit, start)
    return group


# ------------------------------------------------------------------------------------------------------- coroutines


def serve_async(session: Session, host: Host, runner: Runner, actor: ActorSpec) -> None:
    """Run calls as coroutines until the worker is told to leave."""
    loops: dict[str, _Loop] = {}
    groups: dict[str, ConcurrencyGroup] = {}
    all_groups = ConcurrencyGroups(host, groups)
    for name, limit in _limits(actor).items():
        loops[name] = loop = _Loop(session, runner, all_groups, limit)
        groups[name] = loop.group
    others = [threading.Thread(target=loop.serve, daemon=True) for name, loop in loops.items() if name]
    for thread in others:
        thread.start()

    def on_work() -> None:
        if host.leaving and (host.has_left or not all_groups.running):
            all_groups.clear()
            _stop(loops)
        else:
            all_groups.advance()

    def begin() -> None:
        host.on_work = on_work
        on_work()

    for loop in loops.values():
        loop.on_idle = on_work
    session.channel.call_locked(begin)
    loops[DEFAULT].serve()
    for thread in others:
        thread.join()


def _stop(loops: Mapping[str, _Loop]) -> None:
    for loop in loops.values():
        loop.stop()


class _Loop:
    """The event loop of one group, which one thread serves."""

    def __init__(self, session: Session, runner: Runner, groups: ConcurrencyGroups, limit: int) -> None:
        self._session = session
        self._runner = runner
        self._groups = groups
        self.group = ConcurrencyGroup(limit, self._start)
        #: Called, with the session's lock held, when no call of the group runs any more.
        self.on_idle: Callable[[], object] = lambda: None
        self._active: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._end = self._loop.create_future()

    def serve(self) -> None:
        """Run the calls that are started, until `stop`."""
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            # Leaving cancels the coroutines that are left.
            runner.run(self._until_stopped())

    async def _until_stopped(self) -> None:
        await self._end

    def stop(self) -> None:
        """Cancel the calls that still run, and end `serve`. Any thread may call this."""
        self._loop.call_soon_threadsafe(self._finish)

    def _finish(self) -> None:
        if not self._end.done():
            self._end.set_result(None)

    def _start(self, batch: list[Assignment]) -> None:
        self._loop.call_soon_threadsafe(self._begin, batch)

    def _begin(self, batch: list[Assignment]) -> None:
        for call in batch:
            task = self._loop.create_task(self._run(call))
            self._active.add(task)
            # From now on the call can be interrupted. Not earlier: an asyncio task that is cancelled before its first
            # step never runs, not even to report itself. The first step is on the loop's list already, and looks
            # whether a cancel came before this line.
            call.interrupt = lambda task=task: self._loop.call_soon_threadsafe(task.cancel)

    async def _run(self, call: Assignment) -> None:
        try:
            await self._runner.run_on_loop(
                call, last=lambda: len(self._active) == 1 and not self.group.waiting
            )
        finally:
            task = asyncio.current_task()
            if task is not None:
                self._active.discard(task)
            self._session.channel.call_locked(lambda: self._on_ended(call))

    def _on_ended(self, call: Assignment) -> None:
        self._groups.on_ended(call, self.group)
        if not self._active:
            self.on_idle()
