"""The server: which clients get in, which frames are dropped, and which messages arrive exactly once."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

import pytest
import zmq

from ipyremote.ids import DRIVER, ClientId, ObjectId
from ipyremote.messages import (
    Define,
    FromClient,
    Hello,
    Hold,
    Notice,
    Release,
    ToClient,
    Welcome,
    decode_to_client,
    encode_frame,
    encode_greeting,
)
from ipyremote.wire import server as server_module
from ipyremote.wire.connection import Connection, routing_id
from ipyremote.wire.server import AddressInUse, Fault, Server
from tests.support.waiting import until

#: Ids of objects.
O5, O6 = ObjectId(5), ObjectId(6)
#: Numbers of clients.
C9 = ClientId(9)


SECRET = bytes(range(32))
Item = TypeVar("Item")


class Peer:
    """A raw DEALER that can send anything."""

    def __init__(self, path: Path, client_id: ClientId, route: bytes | None = None) -> None:
        self.client_id = client_id
        self._context = zmq.Context()
        self.socket = self._context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.ROUTING_ID, routing_id(client_id) if route is None else route)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.connect(f"ipc://{path}")

    def greet(self, secret: bytes = SECRET, client_id: ClientId | None = None, role: str = "driver") -> None:
        number = self.client_id if client_id is None else client_id
        self.socket.send(encode_greeting(secret, Hello(number, os.getpid(), role)))

    def frames(self, count: int) -> list[tuple[int, list[ToClient]]]:
        found = []
        for _ in range(count):
            assert self.socket.poll(5000), "nothing came"
            found.append(decode_to_client(self.socket.recv()))
        return found

    def close(self) -> None:
        self.socket.close(0)
        self._context.term()


def taken(found: list[Item], more: Iterable[Item]) -> list[Item]:
    """Return a list to which more items were added."""
    found.extend(more)
    return found


class Bench:
    """A server, and peers that are closed with it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.log: list[str] = []
        self.refused: dict[int, str] = {}
        self.server = Server(
            path, SECRET, admit=lambda hello: self.refused.get(hello.client_id, ""), log=self.log.append
        )
        self._peers: list[Peer] = []

    def peer(self, client_id: ClientId, route: bytes | None = None, *, greet: bool = False) -> Peer:
        peer = Peer(self.path, client_id, route)
        self._peers.append(peer)
        if greet:
            peer.greet()
            self.receive(1)
        return peer

    def receive(self, count: int) -> list[tuple[int, object]]:
        """Wait for so many messages, and check that no more arrive."""
        found: list[tuple[int, object]] = []
        self.until(lambda: len(taken(found, self.server.receive())) >= count)
        assert len(found) == count
        return found

    def until_dropped(self, count: int) -> list[tuple[int, object]]:
        found: list[tuple[int, object]] = []
        self.until(lambda: taken(found, self.server.receive()) is found and self.server.dropped >= count)
        assert self.server.dropped == count
        return found

    def until(self, condition: Callable[[], object], what: str = "the server has done its part") -> None:
        """Wait for a condition that reads from the server. Each readable event wakes the wait."""
        poll = zmq.Poller()
        poll.register(self.server.fd, zmq.POLLIN)

        def met() -> object:
            return condition() or (not self.server.readable() and poll.poll(5) and condition())

        until(met, what, 5, pause=0)

    def close(self) -> None:
        for peer in self._peers:
            peer.close()
        self.server.close(0)


@pytest.fixture
def bench(tmp_path):
    bench = Bench(tmp_path / "s")
    yield bench
    bench.close()


def test_a_greeting_and_the_messages_after_it_arrive_in_order(bench):
    peer = bench.peer(1)
    peer.greet()
    batch: list[FromClient] = [Hold((O5,)), Release((O5,))]
    peer.socket.send(encode_frame(1, batch))
    peer.socket.send(encode_frame(2, [Hold((O6,))]))
    assert bench.receive(4) == [
        (1, Hello(DRIVER, os.getpid(), "driver")),
        (1, Hold((O5,))),
        (1, Release((O5,))),
        (1, Hold((O6,))),
    ]
    assert bench.server.dropped == 0


def test_a_connection_of_ipyremote_talks_to_the_server(bench):
    connection = Connection(str(bench.path), SECRET, Hello(C9, os.getpid(), "worker"))
    connection.queue(Hold((ObjectId(1), ObjectId(2))))
    connection.flush()
    assert bench.receive(2)[1] == (9, Hold((ObjectId(1), ObjectId(2))))
    bench.server.send(9, Welcome(C9, 77))
    bench.server.flush()
    got: list[object] = []
    bench.until(lambda: taken(got, connection.messages()))
    assert got == [Welcome(C9, 77)]
    connection.close()


def test_a_frame_that_is_sent_twice_counts_once(bench):
    peer = bench.peer(1, greet=True)
    frame = encode_frame(1, [Hold((O5,))])
    peer.socket.send(frame)
    peer.socket.send(frame)
    peer.socket.send(encode_frame(2, [Hold((O6,))]))
    assert bench.receive(2) == [(1, Hold((O5,))), (1, Hold((O6,)))]


def test_missing_frames_are_a_fault(bench):
    peer = bench.peer(1, greet=True)
    peer.socket.send(encode_frame(1, [Hold((O5,))]))
    peer.socket.send(encode_frame(4, [Hold((O6,))]))
    peer.socket.send(encode_frame(5, [Hold((ObjectId(7),))]))
    assert bench.receive(3) == [(1, Hold((O5,))), (1, Hold((O6,))), (1, Hold((ObjectId(7),)))]
    assert bench.server.faults() == [Fault(DRIVER, "frame 4 after frame 1, and nothing between them")]
    assert bench.log == ["client 1 sent frame 4 after frame 1, and nothing between them"]
    assert bench.server.dropped == 0


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"x",
        b"x" * 31,
        b"x" * 32,
        bytes(32) + b"\x93\x01\x02\xa6driver",
        SECRET[:31],
        SECRET[:31] + b"\x00" + b"\x93\x01\x02\xa6driver",
        encode_frame(1, [Hold((O5,))]),
        os.urandom(1 << 20),
    ],
    ids=["empty", "byte", "short", "wrong", "zeros", "part", "nearly", "no-greeting", "megabyte"],
)
def test_without_the_secret_nothing_is_decoded(bench, monkeypatch, frame):
    def decoded(data):
        raise AssertionError("decoded before the peer was known")

    monkeypatch.setattr(server_module, "decode_hello", decoded)
    monkeypatch.setattr(server_module, "decode_from_client", decoded)
    bench.peer(1).socket.send(frame)
    assert bench.until_dropped(1) == []
    assert bench.log == ["dropped a connection without the session's secret"]


def test_a_peer_that_was_dropped_may_greet_correctly_later(bench):
    peer = bench.peer(1)
    peer.socket.send(b"hello?")
    peer.greet()
    assert bench.until_dropped(1) + bench.server.receive() == [(1, Hello(DRIVER, os.getpid(), "driver"))]


@pytest.mark.parametrize("rest", [b"", b"\xc1", b"\x93\x01\x02\xff", b"\x93\xff\x02\xa6driver" + b"x"])
def test_a_greeting_that_cannot_be_decoded_is_refused(bench, rest):
    bench.peer(1).socket.send(SECRET + rest)
    assert bench.until_dropped(1) == []


@pytest.mark.parametrize("client_id", [-1, 1 << 63])
def test_a_greeting_with_an_impossible_number_is_refused(bench, client_id):
    bench.peer(1).greet(client_id=client_id)
    assert bench.until_dropped(1) == []


@pytest.mark.parametrize("route", [b"somebody", b"\x01", routing_id(ClientId(2))])
def test_a_routing_id_of_another_client_is_refused(bench, route):
    bench.peer(1, route).greet()
    assert bench.until_dropped(1) == []
    assert "its routing id belongs to another client" in bench.log[0]


def test_a_client_that_the_owner_does_not_admit_is_refused_with_the_reason(bench):
    bench.refused[3] = "no such worker"
    bench.peer(3).greet(role="worker")
    assert bench.until_dropped(1) == []
    assert bench.log == [f"dropped the greeting of worker 3 (pid {os.getpid()}): no such worker"]


def test_a_second_connection_cannot_take_the_number_of_a_living_client(bench):
    first = bench.peer(1, greet=True)
    second = bench.peer(1)
    second.greet()
    second.socket.send(encode_frame(1, [Hold((ObjectId(666),))]))
    first.socket.send(encode_frame(1, [Hold((O5,))]))
    assert bench.receive(1) == [(1, Hold((O5,)))]
    bench.server.send(1, Notice("for the first"))
    bench.server.flush()
    assert first.frames(1) == [(1, [Notice("for the first")])]
    assert not second.socket.poll(20)


def test_a_second_greeting_on_the_same_connection_is_a_fault(bench):
    peer = bench.peer(1, greet=True)
    peer.greet()
    assert bench.until_dropped(1) == []
    assert [fault.client_id for fault in bench.server.faults()] == [1]


def test_a_forgotten_number_can_greet_again_and_counts_from_one(bench):
    first = bench.peer(1, greet=True)
    first.socket.send(encode_frame(1, [Hold((O5,))]))
    bench.receive(1)
    first.close()
    bench.until(lambda: not bench.server.is_connected(1))
    bench.server.forget(1)
    second = bench.peer(1, greet=True)
    second.socket.send(encode_frame(1, [Hold((O6,))]))
    assert bench.receive(1) == [(1, Hold((O6,)))]


@pytest.mark.parametrize(
    "garbage", [b"", b"\x00", os.urandom(500), b"\x92\x01\x91\x91\x63", b"\xdd\xff\xff\xff\xff"]
)
def test_garbage_from_a_known_client_is_reported_and_later_frames_are_read(bench, garbage):
    peer = bench.peer(4, greet=True)
    peer.socket.send(garbage)
    peer.socket.send(encode_frame(1, [Hold((O5,))]))
    assert bench.receive(1) == [(4, Hold((O5,)))]
    (fault,) = bench.server.faults()
    assert fault.client_id == 4
    assert "cannot be decoded" in fault.text
    assert bench.server.faults() == ()


def test_a_message_that_only_clients_understand_is_garbage_to_the_server(bench):
    peer = bench.peer(4, greet=True)
    peer.socket.send(encode_frame(1, [Notice("I am the scheduler")]))
    bench.until_dropped(1)
    assert len(bench.server.faults()) == 1


def test_a_message_of_many_frames_is_dropped_whole(bench):
    peer = bench.peer(4, greet=True)
    peer.socket.send_multipart([encode_frame(1, [Hold((O5,))]), b"more", b"and more"])
    peer.socket.send(encode_frame(1, [Hold((O6,))]))
    assert bench.receive(1) == [(4, Hold((O6,)))]
    assert bench.server.dropped == 1


def test_an_oversized_frame_ends_its_connection_only(bench, monkeypatch, tmp_path):
    monkeypatch.setattr(server_module, "MAX_FRAME_BYTES", 1 << 20)
    small = Bench(tmp_path / "small")
    try:
        honest = small.peer(DRIVER, greet=True)
        small.peer(ClientId(2)).socket.send(SECRET + bytes(1 << 21))
        honest.socket.send(encode_frame(1, [Define(b"d", bytes(1 << 19))]))
        assert small.receive(1) == [(1, Define(b"d", bytes(1 << 19)))]
        assert small.server.dropped == 0
    finally:
        small.close()


def test_each_flush_sends_one_frame_to_each_client(bench):
    one, two = bench.peer(1, greet=True), bench.peer(2, greet=True)
    for text in ("a", "b", "c"):
        bench.server.send(1, Notice(text))
    bench.server.send(2, Notice("d"))
    bench.server.flush()
    bench.server.flush()
    bench.server.send(1, Notice("e"))
    bench.server.flush()
    assert one.frames(2) == [(1, [Notice("a"), Notice("b"), Notice("c")]), (2, [Notice("e")])]
    assert two.frames(1) == [(1, [Notice("d")])]


def test_a_long_batch_is_split_by_number(bench):
    peer = bench.peer(1, greet=True)
    sent = [Notice(str(number)) for number in range(server_module.SPLIT_MESSAGES * 2 + 1)]
    for notice in sent:
        bench.server.send(1, notice)
    bench.server.flush()
    frames = peer.frames(3)
    assert [sequence for sequence, _ in frames] == [1, 2, 3]
    assert [message for _, batch in frames for message in batch] == sent


def test_a_heavy_batch_is_split_by_size(bench):
    peer = bench.peer(1, greet=True)
    sent = [Define(bytes([number]), bytes(3 << 20)) for number in range(6)]
    for define in sent:
        bench.server.send(1, define)
    bench.server.flush()
    got: list[object] = []
    sequences = []
    while len(got) < len(sent):
        ((sequence, batch),) = peer.frames(1)
        sequences.append(sequence)
        got.extend(batch)
        assert sum(len(define.payload) for define in batch) <= server_module.SPLIT_BYTES
    assert got == sent
    assert sequences == list(range(1, len(sequences) + 1))


def test_sending_to_a_client_that_is_gone_or_unknown_is_harmless(bench):
    peer = bench.peer(1, greet=True)
    bench.server.send(5, Notice("nobody"))
    peer.close()
    bench.until(lambda: not bench.server.is_connected(1))
    bench.server.send(1, Notice("too late"))
    bench.server.flush()
    bench.server.send(1, Notice("later still"))
    bench.server.forget(1)
    bench.server.flush()
    bench.server.forget(1)


def test_every_message_of_a_dead_peer_is_there_once_its_connection_is_gone(bench):
    peer = bench.peer(3, greet=True)
    count = 3000
    for number in range(count):
        peer.socket.send(encode_frame(number + 1, [Hold((ObjectId(number),))]))
    peer.socket.close(5000)
    peer._context.term()
    bench.until(lambda: not bench.server.is_connected(3))
    got = bench.server.receive()
    while bench.server.readable():
        got += bench.server.receive()
    assert [message.ids[0] for _, message in got] == list(range(count))


def test_one_turn_reads_a_bounded_number_of_frames(bench, monkeypatch):
    monkeypatch.setattr(server_module, "FRAMES_PER_RECEIVE", 10)
    peer = bench.peer(1, greet=True)
    for number in range(25):
        peer.socket.send(encode_frame(number + 1, [Hold((ObjectId(number),))]))
    turns: list[int] = []
    bench.until(lambda: sum(taken(turns, [len(bench.server.receive())])) == 25)
    assert max(turns) <= 10


def test_a_flood_in_both_directions_does_not_block(bench):
    peer = bench.peer(1, greet=True)
    payload = bytes(1 << 20)
    for number in range(40):
        peer.socket.send(encode_frame(number + 1, [Define(b"d", payload)]))
        bench.server.send(1, Define(b"d", payload))
        bench.server.flush()
    assert len(bench.receive(40)) == 40
    assert len(peer.frames(40)) == 40


def test_the_socket_is_open_to_its_owner_only(bench):
    assert stat.S_IMODE(bench.path.stat().st_mode) == 0o600
    umask = os.umask(0o022)
    os.umask(umask)
    assert umask != 0o177


def test_the_address_of_a_living_server_is_not_taken_over(bench):
    with pytest.raises(AddressInUse):
        Server(bench.path, SECRET)
    bench.peer(1, greet=True)


def test_the_socket_file_of_a_killed_server_does_not_stop_the_next_server(tmp_path):
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    bench = Bench(path)
    bench.peer(DRIVER, greet=True)
    bench.close()


def test_a_secret_of_the_wrong_length_is_refused(tmp_path):
    with pytest.raises(ValueError, match="32 bytes"):
        Server(tmp_path / "s", b"short")


def test_a_closed_server_leaves_no_descriptor(tmp_path):
    def cycle() -> None:
        bench = Bench(tmp_path / "s")
        bench.peer(DRIVER, greet=True)
        bench.close()
        bench.close()

    cycle()
    fds = len(os.listdir("/proc/self/fd"))
    cycle()
    assert len(os.listdir("/proc/self/fd")) == fds
