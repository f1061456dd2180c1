"""Interrupts between any two bytecodes of a connection lose, double and reorder no message."""

from __future__ import annotations

import random
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import zmq

from ipyremote.ids import DRIVER, ObjectId
from ipyremote.messages import (
    Define,
    Hello,
    Hold,
    Notice,
    decode_from_client,
    encode_frame,
)
from ipyremote.wire import connection as module
from ipyremote.wire.connection import Connection

#: Ids of objects.
O1, O2 = ObjectId(1), ObjectId(2)


class Wire:
    """A stand-in for the socket that keeps sent frames as the scheduler would, and hands out given frames."""

    def __init__(self) -> None:
        self.seen = 0
        self.got: list[int] = []
        self.incoming: deque[bytes] = deque()
        self.frames = 0
        #: Counts down at each call; at 0 it raises, before or after the call has had its effect.
        self.cut = -1
        self.late = False

    def send(self, frame: bytes) -> None:
        self._tick(False)
        sequence, batch = decode_from_client(frame)
        self.frames += 1
        if sequence > self.seen:
            assert sequence == self.seen + 1
            self.seen = sequence
            self.got.extend(message.ids[0] for message in batch)  # type: ignore[union-attr]  # all are Holds
        self._tick(True)

    def receive(self) -> bytes:
        self._tick(False)
        if not self.incoming:
            raise zmq.Again
        # What the C code of a socket has taken it gives back: it cannot be interrupted after that.
        return self.incoming.popleft()

    def _tick(self, late: bool) -> None:
        if late is self.late and self.cut >= 0:
            self.cut -= 1
            if self.cut < 0:
                raise KeyboardInterrupt


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Connection, Wire]]:
    connection = Connection(str(tmp_path / "nobody"), bytes(32), Hello(DRIVER, 1, "driver"))
    wire = Wire()
    connection._send = wire.send
    connection._receive = wire.receive
    yield connection, wire
    connection._send = lambda frame: None
    connection.close(quickly=True)


def interrupted_at(number: int, fn: Callable[[], Any]) -> bool:
    """Call `fn` with a KeyboardInterrupt before the bytecode with this number in the connection's module.

    Returns whether `fn` came that far. The call has a thread of its own, because CPython's record of the exception that
    a thread handles does not survive all of these interrupts.
    """
    left = number
    outcome: list[bool] = []

    def trace(frame: FrameType, event: str, arg: Any) -> Any:
        if frame.f_code.co_filename != module.__file__:
            return None
        frame.f_trace_opcodes = True
        return trace_one

    def trace_one(frame: FrameType, event: str, arg: Any) -> Any:
        nonlocal left
        if event == "opcode":
            left -= 1
            if left < 0:
                sys.settrace(None)
                raise KeyboardInterrupt
        return trace_one

    def call() -> None:
        sys.settrace(trace)
        try:
            fn()
            outcome.append(False)
        except KeyboardInterrupt:
            outcome.append(True)
        finally:
            sys.settrace(None)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    return outcome[0]


def feed(wire: Wire, numbers: range, first: int) -> None:
    for sequence, number in enumerate(numbers, first):
        wire.incoming.append(encode_frame(sequence, [Notice(f"{number}a"), Notice(f"{number}b")]))


def test_queued_messages_are_sent_once_and_in_order(pair: tuple[Connection, Wire]) -> None:
    connection, wire = pair
    for number in range(10):
        connection.queue(Hold((ObjectId(number),)))
        if number % 3 == 0:
            connection.flush()
    connection.flush()
    assert (wire.got, wire.frames, connection.unsent) == (list(range(10)), 4, 0)
    connection.flush()
    assert wire.frames == 4


def test_a_batch_of_many_bytes_is_sent_at_once(pair: tuple[Connection, Wire]) -> None:
    connection, wire = pair
    for number in range(5):
        connection.queue(Hold((ObjectId(number),)), 1 << 20)
    assert wire.frames == 1
    connection.queue(Hold((ObjectId(5),)))
    assert wire.frames == 1


def test_a_flush_that_is_interrupted_anywhere_loses_and_doubles_no_message(tmp_path: Path) -> None:
    number = 0
    while True:
        connection = Connection(str(tmp_path / "nobody"), bytes(32), Hello(DRIVER, 1, "driver"))
        wire = Wire()
        connection._send, connection._receive = wire.send, wire.receive
        for message in range(3):
            connection.queue(Hold((ObjectId(message),)))
        interrupted = interrupted_at(number, connection.flush)
        connection.queue(Hold((ObjectId(3),)))
        connection.flush()
        connection.queue(Hold((ObjectId(4),)))
        connection.flush()
        assert wire.got == [0, 1, 2, 3, 4], f"interrupted before bytecode {number}"
        assert connection.unsent == 0
        connection.close(quickly=True)
        if not interrupted:
            break
        number += 1
    assert number > 20


def test_a_queue_that_is_interrupted_anywhere_takes_the_message_once_or_not_at_all(tmp_path: Path) -> None:
    number = 0
    while True:
        connection = Connection(str(tmp_path / "nobody"), bytes(32), Hello(DRIVER, 1, "driver"))
        wire = Wire()
        connection._send, connection._receive = wire.send, wire.receive
        connection.queue(Hold((ObjectId(0),)))
        # So large that it is sent from within.
        interrupted = interrupted_at(number, lambda: connection.queue(Hold((O1,)), 1 << 30))  # noqa: B023  # called here
        connection.queue(Hold((O2,)))
        connection.flush()
        assert wire.got in ([0, 1, 2], [0, 2]), f"interrupted before bytecode {number}"
        connection.close(quickly=True)
        if not interrupted:
            assert wire.got == [0, 1, 2]
            break
        number += 1
    assert number > 20


def test_a_message_is_handled_at_least_once_and_in_order_wherever_an_interrupt_strikes(
    tmp_path: Path,
) -> None:
    number = 0
    while True:
        connection = Connection(str(tmp_path / "nobody"), bytes(32), Hello(DRIVER, 1, "driver"))
        wire = Wire()
        connection._send, connection._receive = wire.send, wire.receive
        feed(wire, range(3), 1)
        handled: list[str] = []

        def handle() -> None:
            for message in connection.messages():  # noqa: B023  # called in this round only
                handled.append(message.text)  # type: ignore[union-attr]  # noqa: B023

        interrupted = interrupted_at(number, handle)
        handle()
        feed(wire, range(3, 4), 4)
        handle()
        assert list(dict.fromkeys(handled)) == [f"{i}{half}" for i in range(4) for half in "ab"]
        connection.close(quickly=True)
        if not interrupted:
            assert len(handled) == 8
            break
        number += 1
    assert number > 20


def test_a_handler_that_is_interrupted_gets_the_frame_again(pair: tuple[Connection, Wire]) -> None:
    connection, wire = pair
    feed(wire, range(2), 1)
    messages = connection.messages()
    assert next(messages) == Notice("0a")
    messages.close()  # type: ignore[attr-defined]  # a generator
    assert [message.text for message in connection.messages()] == ["0a", "0b", "1a", "1b"]  # type: ignore[union-attr]
    assert list(connection.messages()) == []


def test_a_frame_that_comes_twice_is_handled_once(pair: tuple[Connection, Wire]) -> None:
    connection, wire = pair
    frame = encode_frame(1, [Notice("once")])
    wire.incoming.extend([frame, frame])
    assert list(connection.messages()) == [Notice("once")]


@pytest.mark.parametrize("seed", range(200))
def test_interrupts_at_random_calls_of_the_socket_change_nothing(
    pair: tuple[Connection, Wire], seed: int
) -> None:
    connection, wire = pair
    rng = random.Random(seed)
    queued: list[int] = []
    handled: list[str] = []
    fed = 0
    for number in range(40):
        wire.cut, wire.late = (rng.randrange(4), rng.random() < 0.5) if rng.random() < 0.6 else (-1, False)
        try:
            queued.append(number)
            connection.queue(Hold((ObjectId(number),)), rng.choice((0, 0, 3 << 20)))
            if rng.random() < 0.5:
                connection.flush()
            if rng.random() < 0.4:
                wire.incoming.append(encode_frame(fed + 1, [Notice(str(fed))]))
                fed += 1
            if rng.random() < 0.5:
                handled.extend(message.text for message in connection.messages())  # type: ignore[union-attr]
        except KeyboardInterrupt:
            continue
    wire.cut = -1
    connection.flush()
    handled.extend(message.text for message in connection.messages())  # type: ignore[union-attr]
    assert wire.got == queued
    assert list(dict.fromkeys(handled)) == [str(i) for i in range(fed)]


def test_a_message_that_cannot_be_encoded_does_not_stop_later_messages(pair: tuple[Connection, Wire]) -> None:
    connection, wire = pair
    connection.queue(Hold((O1,)))
    connection.queue(Hold((ObjectId(1 << 70),)))
    connection.queue(Hold((O2,)))
    with pytest.raises(OverflowError):
        connection.flush()
    connection.queue(Hold((ObjectId(3),)))
    connection.flush()
    assert wire.got == [1, 2, 3]


def test_a_message_that_is_too_large_is_refused_and_does_not_stop_later_messages(
    pair: tuple[Connection, Wire], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_FRAME_BYTES", 1 << 20)
    connection, wire = pair
    connection.queue(Hold((O1,)))
    connection.queue(Define(b"d", bytes(1 << 20)))
    connection.queue(Hold((O2,)))
    with pytest.raises(ValueError, match="at most 1 MiB travel at once"):
        connection.flush()
    connection.flush()
    assert wire.got == [1, 2]
