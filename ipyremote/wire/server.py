"""The scheduler's end of the wire: one ROUTER socket, to which every client's DEALER connects.

It authenticates connections, drops repeated frames, and batches what goes out, one frame per client and flush. What the
messages mean, and which clients are expected, is the owner's business (`admit`).

Rules.

- The first frame of a connection is a greeting. Its first 32 bytes are compared with the secret in constant time before
  anything of it is decoded; until a greeting is accepted, frames are dropped unread.
- The routing id of a connection is chosen by the peer. It must be the one of the client number in the greeting, and no
  number is accepted twice while its client is known.
- A frame of an accepted client that cannot be decoded, or that is missing, is reported as a `Fault`: what was in it is
  lost, so the owner must not wait for it.
- No call blocks. Queues are unbounded in both directions: two peers that both wait for room would wait for ever.
- libzmq's descriptor is edge-triggered: any operation on the socket may consume the event. Whoever polls `fd` therefore
  asks `readable()` after its last operation, immediately before it polls.
"""

from __future__ import annotations

import errno
import hmac
import os
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

import zmq

from ipyremote.messages import (
    SECRET_BYTES,
    DecodeError,
    FromClient,
    Hello,
    ToClient,
    decode_from_client,
    decode_hello,
    encode_frame,
)
from ipyremote.wire.connection import MAX_FRAME_BYTES, routing_id

__all__ = ["AddressInUse", "Fault", "Incoming", "Server"]

#: What `receive` yields: a `Hello` is an accepted greeting.
Incoming: TypeAlias = tuple[int, FromClient | Hello]

#: A batch that encodes to more than this is sent as several frames.
SPLIT_BYTES: Final = 8 << 20
#: At most so many messages in a frame, so that the receiver starts on the first while later ones are on the way.
SPLIT_MESSAGES: Final = 512
#: At most so many frames are read in one `receive`, so that one flooding client cannot keep the loop from its work.
FRAMES_PER_RECEIVE: Final = 1000
# As plain integers: combining pyzmq's enum members costs more than the call that they are for.
_DONTWAIT: Final = int(zmq.DONTWAIT)
_SEND_MORE: Final = int(zmq.SNDMORE) | int(zmq.DONTWAIT)
_POLLIN: Final = int(zmq.POLLIN)
#: How long unsent frames may hold up `close`, in milliseconds.
LINGER_MS: Final = 200


class AddressInUse(OSError):
    """Somebody is listening on the socket's path."""


class Fault(NamedTuple):
    """A client broke the protocol."""

    client_id: int
    text: str


class _Peer:
    """An accepted client."""

    __slots__ = ("client_id", "outbox", "route", "seen", "sent")

    def __init__(self, client_id: int, route: bytes) -> None:
        self.client_id = client_id
        #: Routing id of its connection.
        self.route = route
        #: Number of the last frame received from it.
        self.seen = 0
        #: Number of the last frame sent to it.
        self.sent = 0
        #: Messages for the next flush.
        self.outbox: list[ToClient] = []


def _admit_all(hello: Hello) -> str:
    return ""


class Server:
    """The scheduler's socket. Not thread-safe. See the module docstring for the rules.

    `admit` is asked about each authentic greeting and returns why it is refused, or an empty string. `log` gets a
    sentence about each thing that is dropped.
    """

    def __init__(
        self,
        path: Path,
        secret: bytes,
        *,
        admit: Callable[[Hello], str] = _admit_all,
        log: Callable[[str], None] = lambda text: None,
    ) -> None:
        if len(secret) != SECRET_BYTES:
            raise ValueError(f"the secret must be {SECRET_BYTES} bytes long")
        self._secret = secret
        self._admit = admit
        self._log = log
        self._by_route: dict[bytes, _Peer] = {}
        self._by_id: dict[int, _Peer] = {}
        self._dirty: list[_Peer] = []
        self._faults: list[Fault] = []
        #: Number of frames dropped: unauthenticated, refused or not decodable.
        self.dropped = 0
        self._context = zmq.Context(io_threads=1)
        try:
            self._socket = _bound_router(self._context, path)
        except BaseException:
            self._context.term()
            raise
        #: Edge-triggered: see the module docstring.
        self.fd: Final = int(self._socket.getsockopt(zmq.FD))

    def readable(self) -> bool:
        """Whether `receive` has something to read now."""
        return bool(self._socket.getsockopt(zmq.EVENTS) & _POLLIN)  # type: ignore[operator]  # an integer

    def receive(self) -> list[Incoming]:
        """All that has arrived, bounded: what `readable()` still announces afterwards is for the next call."""
        incoming: list[Incoming] = []
        receive = self._socket.recv
        peers = self._by_route
        for _ in range(FRAMES_PER_RECEIVE):
            # Asking first is cheaper than being refused: raising zmq.Again costs as much as four questions.
            if not self.readable():
                break
            route = receive(_DONTWAIT)
            # A view of libzmq's memory, decoded in place. The routing id is always followed by at least one part.
            frame = receive(_DONTWAIT, copy=False)
            if frame.more:
                self._drop_rest()
                self._drop("a message of more than one frame")
                continue
            peer = peers.get(route)
            if peer is None:
                self._greet(route, frame.bytes, incoming)
                continue
            try:
                sequence, batch = decode_from_client(frame.buffer)
            except DecodeError as error:
                self.dropped += 1
                self._fault(peer, f"a frame that cannot be decoded: {error}")
                continue
            if sequence <= peer.seen:
                continue
            if sequence > peer.seen + 1:
                self._fault(peer, f"frame {sequence} after frame {peer.seen}, and nothing between them")
            peer.seen = sequence
            client_id = peer.client_id
            incoming.extend((client_id, message) for message in batch)
        return incoming

    def _greet(self, route: bytes, frame: bytes, incoming: list[Incoming]) -> None:
        if not hmac.compare_digest(frame[:SECRET_BYTES], self._secret):
            self._drop("a connection without the session's secret")
            return
        try:
            hello = decode_hello(frame[SECRET_BYTES:])
            expected = routing_id(hello.client_id)
        except (DecodeError, OverflowError) as error:
            self._drop(f"a greeting that cannot be decoded: {error}")
            return
        refusal = "its routing id is another's" if route != expected else self._admit(hello)
        if refusal:
            self._drop(f"the greeting of {hello.role} {hello.client_id} (pid {hello.pid}): {refusal}")
            return
        peer = _Peer(hello.client_id, route)
        self._by_route[route] = peer
        self._by_id[hello.client_id] = peer
        incoming.append((hello.client_id, hello))

    def _drop_rest(self) -> None:
        while self._socket.getsockopt(zmq.RCVMORE):
            self._socket.recv(_DONTWAIT)

    def _drop(self, what: str) -> None:
        self.dropped += 1
        self._log(f"dropped {what}")

    def _fault(self, peer: _Peer, what: str) -> None:
        self._log(f"client {peer.client_id} sent {what}")
        self._faults.append(Fault(peer.client_id, what))

    def faults(self) -> Sequence[Fault]:
        """Breaches of the protocol since the last call."""
        if not self._faults:
            return ()
        faults, self._faults = self._faults, []
        return faults

    def send(self, client_id: int, message: ToClient) -> None:
        """Queue a message for the next `flush`. Nothing happens when the client is not known (any more)."""
        peer = self._by_id.get(client_id)
        if peer is None:
            return
        if not peer.outbox:
            self._dirty.append(peer)
        peer.outbox.append(message)

    def flush(self) -> None:
        """Send what is queued. What is for a client whose connection is gone is thrown away."""
        if not self._dirty:
            return
        dirty, self._dirty = self._dirty, []
        for peer in dirty:
            outbox, peer.outbox = peer.outbox, []
            if len(outbox) <= SPLIT_MESSAGES:
                self._send_batch(peer, outbox)
                continue
            for start in range(0, len(outbox), SPLIT_MESSAGES):
                self._send_batch(peer, outbox[start : start + SPLIT_MESSAGES])

    def _send_batch(self, peer: _Peer, batch: list[ToClient]) -> None:
        frame = encode_frame(peer.sent + 1, batch)
        if len(frame) > SPLIT_BYTES and len(batch) > 1:
            middle = len(batch) // 2
            self._send_batch(peer, batch[:middle])
            self._send_batch(peer, batch[middle:])
            return
        peer.sent += 1
        self._send_frame(peer, frame)

    def _send_frame(self, peer: _Peer, frame: bytes) -> bool:
        try:
            self._socket.send(peer.route, _SEND_MORE)
            self._socket.send(frame, _DONTWAIT)
        except zmq.ZMQError as error:
            # ROUTER_MANDATORY: without it libzmq would drop silently what it cannot route.
            if error.errno not in (errno.EHOSTUNREACH, errno.EAGAIN):
                raise
            return False
        return True

    def is_connected(self, client_id: int) -> bool:
        """Whether more can come from a client whose process is known to have ended. Do not ask about a live one.

        libzmq reports a lost connection only to who sends on it, so an empty frame is sent. Once it is refused, all
        that the client has ever sent is in the socket's queue, where the next `receive` finds it.
        """
        peer = self._by_id.get(client_id)
        return peer is not None and self._send_frame(peer, b"")

    def forget(self, client_id: int) -> None:
        """The client is gone: its number may greet again."""
        peer = self._by_id.pop(client_id, None)
        if peer is not None:
            del self._by_route[peer.route]
            peer.outbox.clear()
            self._dirty = [other for other in self._dirty if other is not peer]

    def close(self, linger_ms: int = LINGER_MS) -> None:
        """Close the socket. What has been flushed but not sent gets `linger_ms` to leave. Idempotent."""
        if not self._socket.closed:
            self._socket.close(linger_ms)
            self._context.term()


def _bound_router(context: zmq.Context[zmq.Socket[bytes]], path: Path) -> zmq.Socket[bytes]:
    _clear_stale(path)
    router = context.socket(zmq.ROUTER)
    try:
        router.setsockopt(zmq.ROUTER_MANDATORY, 1)
        router.setsockopt(zmq.SNDHWM, 0)
        router.setsockopt(zmq.RCVHWM, 0)
        router.setsockopt(zmq.LINGER, LINGER_MS)
        router.setsockopt(zmq.MAXMSGSIZE, MAX_FRAME_BYTES)
        # libzmq makes the socket file with the process's umask, by default open to everybody.
        umask = os.umask(0o177)
        try:
            router.bind(f"ipc://{path}")
        finally:
            os.umask(umask)
    except BaseException:
        router.close(0)
        raise
    return router


def _clear_stale(path: Path) -> None:
    """Remove the file that a killed server left. libzmq would also remove a live one's, and steal its address."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except FileNotFoundError:
            return
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
    raise AddressInUse(errno.EADDRINUSE, "a server is listening on this socket", str(path))
