"""The scheduler's end of the wire: one ROUTER socket, to which every client's DEALER connects.

The server authenticates connections, drops repeated frames, and sends one frame per client and flush. The owner of the
server knows the meaning of messages and which clients are expected (`admit`).

Rules.

- The first frame of a connection is a greeting. Its first 32 bytes are compared with the secret in constant time before
  the rest of the frame is decoded. Until a greeting is accepted, frames are dropped unread.
- The peer chooses the routing id of its connection. The routing id must belong to the client number in the greeting,
  and a number is not accepted twice while its client is known.
- A frame of an accepted client that cannot be decoded, or is missing, is reported as a `Fault`: the messages in the
  frame are lost, so the owner must not wait for them.
- No call blocks. Queues are unbounded in both directions, because two peers that both wait for room would wait for
  ever.
- libzmq's descriptor is edge-triggered: any operation on the socket may consume the event. A thread that polls `fd`
  therefore asks `readable()` after its last operation, immediately before the poll.
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

from ipyremote.ids import ClientId
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

#: Client id and message, as `receive` gives them. A `Hello` is an accepted greeting.
Incoming: TypeAlias = tuple[ClientId, FromClient | Hello]

#: Size of a frame above which its batch is sent as several frames, in bytes.
SPLIT_BYTES: Final = 8 << 20
#: Largest number of messages in a frame, so that the receiver can begin while later frames are on the way.
SPLIT_MESSAGES: Final = 512
#: Largest number of frames that one `receive` reads, so that a flooding client cannot keep the loop from its work.
FRAMES_PER_RECEIVE: Final = 1000
# The flags are plain integers, because combining pyzmq's enum members costs more than the call that takes the flags.
_DONTWAIT: Final = int(zmq.DONTWAIT)
_SEND_MORE: Final = int(zmq.SNDMORE) | int(zmq.DONTWAIT)
_POLLIN: Final = int(zmq.POLLIN)
#: Time that unsent frames may hold up `close`, in milliseconds.
LINGER_MS: Final = 200


class AddressInUse(OSError):
    """Another server is listening on the socket's path."""


class Fault(NamedTuple):
    """A breach of the protocol by a client. `text` says what the client has sent."""

    client_id: ClientId
    text: str


class _Peer:
    """An accepted client."""

    __slots__ = ("client_id", "outbox", "route", "seen", "sent")

    def __init__(self, client_id: ClientId, route: bytes) -> None:
        self.client_id = client_id
        #: Routing id of the connection.
        self.route = route
        #: Number of the last frame received from the client.
        self.seen = 0
        #: Number of the last frame sent to the client.
        self.sent = 0
        #: Messages for the next flush.
        self.outbox: list[ToClient] = []


def _admit_all(hello: Hello) -> str:
    return ""


class Server:
    """The scheduler's socket. Not thread-safe. The module's docstring has the rules.

    `admit` is called for each authentic greeting, and returns why the greeting is refused, or an empty string. `log` is
    called with a sentence about each frame that is dropped.
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
        self._by_id: dict[ClientId, _Peer] = {}
        self._dirty: list[_Peer] = []
        self._faults: list[Fault] = []
        #: Number of dropped frames, which were not authentic, refused or not decodable.
        self.dropped = 0
        self._context = zmq.Context(io_threads=1)
        try:
            self._socket = _bound_router(self._context, path)
        except BaseException:
            self._context.term()
            raise
        #: Descriptor for a poll set; edge-triggered, as the module's docstring explains.
        self.fd: Final = int(self._socket.getsockopt(zmq.FD))

    def readable(self) -> bool:
        """Return whether `receive` has something to read now."""
        return bool(self._socket.getsockopt(zmq.EVENTS) & _POLLIN)  # type: ignore[operator]  # an integer

    def receive(self) -> list[Incoming]:
        """Return the messages that have arrived, up to a limit. If `readable()` is true after that, call again."""
        incoming: list[Incoming] = []
        receive = self._socket.recv
        peers = self._by_route
        for _ in range(FRAMES_PER_RECEIVE):
            # `readable` comes first, because one zmq.Again costs as much as four calls of it.
            if not self.readable():
                break
            route = receive(_DONTWAIT)
            # The frame is a view of libzmq's memory, and is decoded in place. At least one part follows the routing id.
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
        refusal = "its routing id belongs to another client" if route != expected else self._admit(hello)
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
        """Return the breaches of the protocol since the last call."""
        if not self._faults:
            return ()
        faults, self._faults = self._faults, []
        return faults

    def send(self, client_id: ClientId, message: ToClient) -> None:
        """Queue a message for the next `flush`. Nothing happens if the client is not known (any more)."""
        peer = self._by_id.get(client_id)
        if peer is None:
            return
        if not peer.outbox:
            self._dirty.append(peer)
        peer.outbox.append(message)

    def flush(self) -> None:
        """Send the queued messages. Messages to a client whose connection is gone are thrown away."""
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
            # The socket has the option ROUTER_MANDATORY; without it libzmq would silently drop frames without a route.
            if error.errno not in (errno.EHOSTUNREACH, errno.EAGAIN):
                raise
            return False
        return True

    def is_connected(self, client_id: ClientId) -> bool:
        """Return whether messages can still come from a client whose process has ended. Not for a living client.

        libzmq reports a lost connection only when something is sent on it, so this sends an empty frame. Once such a
        frame is refused, all frames of the client are in the socket's queue, where the next `receive` finds them.
        """
        peer = self._by_id.get(client_id)
        return peer is not None and self._send_frame(peer, b"")

    def forget(self, client_id: ClientId) -> None:
        """Forget a client that is gone. Its number may greet again."""
        peer = self._by_id.pop(client_id, None)
        if peer is not None:
            del self._by_route[peer.route]
            peer.outbox.clear()
            self._dirty = [other for other in self._dirty if other is not peer]

    def close(self, linger_ms: int = LINGER_MS) -> None:
        """Close the socket. Frames that are flushed and not sent yet get `linger_ms` milliseconds. Idempotent."""
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
        # libzmq makes the socket file with the umask of the process, which usually opens the file to everybody.
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
    """Remove the socket file of a killed server.

    libzmq itself would also remove the file of a living server, and take over its address.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except FileNotFoundError:
            return
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
    raise AddressInUse(errno.EADDRINUSE, "a server is listening on this socket", str(path))
