"""A scheduler of a few lines in a thread of the test, which records a session's messages and sends given replies."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ipyremote.client.session import Session
from ipyremote.client.value_packing import inline
from ipyremote.ids import DRIVER
from ipyremote.messages import FromClient, Hello, Inline, Submit, ToClient, Welcome
from ipyremote.serialization.pickling import dumps
from ipyremote.store.directory import SessionDirectory
from ipyremote.store.segments import SegmentStore
from ipyremote.wire.server import Server
from tests.support.waiting import until

__all__ = ["FakeScheduler", "scheduler_and_session", "value_of"]

_SECRET = bytes(32)


def value_of(value: Any) -> Inline:
    """Return a small value as it travels on the wire."""
    return inline(dumps(value))


class FakeScheduler:
    """The scheduler of one session in a directory."""

    def __init__(self, directory: SessionDirectory) -> None:
        #: Messages of the session so far.
        self.heard: list[FromClient] = []
        #: Function from a message of the session to the replies.
        self.answer: Callable[[FromClient], list[ToClient]] = lambda message: []
        self._outbox: list[ToClient] = []
        self._lock = threading.Lock()
        self._server = Server(directory.socket_path, _SECRET)
        self._stop = False
        self._thread = threading.Thread(target=self._run, name="fake-scheduler")
        self._thread.start()

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._server.fd, select.POLLIN)
        greeted = False
        while not self._stop:
            for client_id, message in self._server.receive():
                if isinstance(message, Hello):
                    self._server.send(client_id, Welcome(client_id, 4711))
                    greeted = True
                    continue
                self.heard.append(message)
                for answer in self.answer(message):
                    self._server.send(client_id, answer)
            with self._lock:
                # Nothing can be sent to a client before its greeting.
                for queued in self._outbox if greeted else ():
                    self._server.send(DRIVER, queued)
                if greeted:
                    self._outbox.clear()
            self._server.flush()
            if not self._server.readable():
                poll.poll(2)
        self._server.close(0)

    def say(self, *messages: ToClient) -> None:
        """Send these messages as soon as the session has greeted."""
        with self._lock:
            self._outbox.extend(messages)

    def wait_heard(self, kind: type, count: int = 1) -> list[Any]:
        """Wait until the session has sent `count` messages of a kind; return all messages of this kind so far."""
        until(lambda: len(self.all_of(kind)) >= count, f"{count} x {kind.__name__} arrive", 10)
        return self.all_of(kind)

    def all_of(self, kind: type) -> list[Any]:
        """Return the messages of a kind so far."""
        return [message for message in list(self.heard) if isinstance(message, kind)]

    def order(self, *kinds: type) -> list[str]:
        """Return the names of the messages of these kinds, in the order of their arrival."""
        return [type(message).__name__ for message in list(self.heard) if isinstance(message, kinds)]

    def submitted(self, number: int = 0) -> Submit:
        """Wait for the submission with this number, counted from 0, and return it."""
        found: Submit = self.wait_heard(Submit, number + 1)[number]
        return found

    def stop(self) -> None:
        """End the scheduler's thread and close its socket."""
        self._stop = True
        self._thread.join()


class _Owner:
    def __init__(self, fds: list[int]) -> None:
        self._fds = fds

    def stop(self) -> None:
        while self._fds:
            os.close(self._fds.pop())

    def cancel_start(self) -> bool:
        return False

    def explain_end(self) -> str:
        return " It had been faked."


@contextmanager
def scheduler_and_session(
    capacity: int = 64 << 20,
) -> Iterator[tuple[FakeScheduler, Session, Callable[[], None]]]:
    """Give a scheduler, a session connected to it, and a function that makes the scheduler's process seem to end."""
    directory = SessionDirectory.create(capacity)
    alive, alive_end = os.pipe()
    ends = [alive_end]

    def end() -> None:
        while ends:
            os.close(ends.pop())

    scheduler = FakeScheduler(directory)
    session = Session(
        key="ab" * 20,
        client_id=DRIVER,
        socket_path=str(directory.socket_path),
        secret=_SECRET,
        store=SegmentStore(directory.path, DRIVER, capacity),
        alive=alive,
        owner=_Owner([alive]),
    )
    try:
        yield scheduler, session, end
    finally:
        session.shutdown()
        scheduler.stop()
        end()
        directory.remove()
