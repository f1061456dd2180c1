"""A session that outlives its driver, seen from its scheduler's process."""

from __future__ import annotations

import os
import subprocess

import pytest

from ipyremote.ids import DRIVER, FIRST_JOINED_CLIENT, ClientId, ObjectId
from ipyremote.messages import Bind, Bound, Bye, Hold, Inline, Kept, KeptReply, ObjectReady, Want
from ipyremote.wire.connection import Connection
from tests.scheduler.sessions import DriverSide, session
from tests.support.waiting import until

pytestmark = pytest.mark.processes


def _bind(side: DriverSide, order: str) -> ObjectId:
    """Submit a task, bind its result to the name "x" and return the id. The scheduler has heard of both by then."""
    object_id = side.order(order)
    side.send(Bind((Bound("x", (object_id,), b"payload"),)))
    side.result(object_id)
    return object_id


def _join(side: DriverSide, number: int, *, claim: bool) -> tuple[Connection, KeptReply]:
    connection = side.connect(ClientId(FIRST_JOINED_CLIENT + number))
    connection.queue(Kept(1, claim))
    connection.flush()
    reply = side.receive(lambda message: isinstance(message, KeptReply), connection)
    assert isinstance(reply, KeptReply)
    return connection, reply


def _end(side: DriverSide) -> None:
    """End a session that has lost its driver."""
    heir, reply = _join(side, 1, claim=True)
    assert not reply.is_taken
    heir.queue(Bye())
    heir.flush()
    assert side.wait() == 0


def test_the_next_driver_gets_the_objects_that_the_first_driver_has_left() -> None:
    with session(keep_alive=60) as side:
        object_id = _bind(side, "echo hello")
        side.cut_lifeline()
        until(lambda: "of its names are kept 60 s" in side.log(), "the driver's end is noticed")
        _, seen = _join(side, 0, claim=False)
        heir, reply = _join(side, 1, claim=True)
        assert [saved.bound.payload for saved in seen.saved] == [b"payload"]
        assert [(saved.bound.name, saved.state) for saved in reply.saved] == [("x", "done")]
        assert 0 < reply.seconds <= 60
        heir.queue(Hold((object_id,)))
        heir.queue(Want((object_id,)))
        heir.flush()
        ready = side.receive(lambda message: isinstance(message, ObjectReady), heir)
        assert isinstance(ready.value, Inline)  # type: ignore[union-attr]  # it is an ObjectReady
        processes = side.processes()
        heir.queue(Bye())
        heir.flush()
        assert side.wait() == 0
        assert not side.path.exists()
        until(lambda: not any(process.is_running() for process in processes), "all are gone")


def test_a_question_that_comes_while_a_driver_leaves_is_answered_when_the_driver_has_left() -> None:
    with session(keep_alive=60) as side:
        _bind(side, "echo hello")
        side.cut_lifeline()
        # The connection of the driver is still open, so more messages might come.
        _, seen = _join(side, 0, claim=False)
        assert not seen.is_taken
        assert [saved.bound.name for saved in seen.saved] == ["x"]
        _end(side)


def test_the_last_messages_of_a_driver_are_heard_before_its_end() -> None:
    with session(keep_alive=60) as side:
        driver = subprocess.Popen(["sleep", "1000"])
        side._driver = side.connect(DRIVER, pid=driver.pid)
        object_id = side.order("echo hello")
        side.result(object_id)
        side.send(*[Bind((Bound(f"x{number}", (object_id,), b""),)) for number in range(5000)])
        driver.kill()
        driver.wait()
        until(lambda: "5000 of its names are kept" in side.log(), "its names are known")
        _end(side)


def test_without_names_the_session_ends_with_its_driver() -> None:
    with session(keep_alive=60) as side:
        side.ask("echo hello")
        side.cut_lifeline()
        assert side.wait() == 0
        assert not side.path.exists()


def test_a_driver_that_never_sent_anything_leaves_no_session() -> None:
    with session(keep_alive=60) as side:
        side.cut_lifeline()
        assert side.wait() == 0


def test_a_kept_session_ends_when_no_driver_comes() -> None:
    with session(keep_alive=0.3) as side:
        _bind(side, "echo hello")
        side.cut_lifeline()
        assert side.wait() == 0
        assert not side.path.exists()


def test_a_driver_that_has_left_cannot_come_back_under_its_number() -> None:
    with session(keep_alive=60) as side:
        _bind(side, "echo hello")
        side.cut_lifeline()
        until(lambda: "driver 1 has left" in side.log(), "the driver's end is noticed")
        side.driver.close(quickly=True)
        side.connect(DRIVER, pid=os.getpid())
        until(lambda: "this number was another driver's" in side.log(), "it is refused")
        _end(side)
