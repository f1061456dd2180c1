"""A client's end of the wire: one DEALER socket to the scheduler.

It queues, sends and receives whole frames; what the messages mean is not known here.

Rules. Not thread-safe: the owner calls it under one lock. Every step can be interrupted by KeyboardInterrupt between
any two bytecodes and repeated: a batch keeps its sequence number until it is known to be sent (the scheduler drops a
repeated number), and received frames go from the socket into a deque without a bytecode in between.

libzmq's file descriptor is edge-triggered: after *any* operation on the socket a readable event may have been
consumed, so every operation here ends by pulling what has arrived into `_frames`. Whoever polls `fd` must call
`messages()` before.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

import zmq

from ipyremote.messages import FromClient, Hello, ToClient, decode_to_client, encode_frame, encode_greeting

__all__ = ["MAX_FRAME_BYTES", "Connection", "routing_id"]

#: A batch above this many bytes of payload is split, so that no single frame grows without bound.
FRAME_BYTES: Final = 4 << 20
#: The server ends the connection of who sends it a larger frame. Big data goes through the store.
MAX_FRAME_BYTES: Final = 1 << 30
#: How long unsent frames may hold up `close`, in milliseconds.
LINGER_MS = 500


def routing_id(client_id: int) -> bytes:
    """The zmq routing id of a client: "c" (zmq reserves ids that start with a zero byte) and its number, big-endian."""
    return b"c" + client_id.to_bytes(8, "big")


class Connection:
    """Frames to and from the scheduler. See the module docstring for the rules."""

    def __init__(self, socket_path: str, secret: bytes, hello: Hello) -> None:
        self._context = zmq.Context(io_threads=1)
        try:
            self._socket = _connected_dealer(self._context, socket_path, hello.client_id)
        except BaseException:
            self._context.term()
            raise
        self.fd = int(self._socket.getsockopt(zmq.FD))
        self._send: Callable[[bytes], None] = partial(self._socket.send, flags=zmq.DONTWAIT)
        self._receive: Callable[[], bytes] = partial(self._socket.recv, zmq.DONTWAIT)
        self._unsent: list[FromClient] = []
        self._unsent_bytes = 0
        #: Number of messages queued so far.
        self.queued = 0
        #: The number of the last frame, and what of it may not have been sent: empty but while `flush` runs or after it
        #: was interrupted. One tuple, so that both change at once.
        self._batch: tuple[int, list[FromClient]] = (0, [])
        self._seen = 0
        self._frames: deque[bytes] = deque()
        self._send(encode_greeting(secret, hello))
        self._pull()

    @property
    def unsent(self) -> int:
        """Number of messages queued."""
        return len(self._unsent)

    def queue(self, message: FromClient, size: int = 0) -> None:
        """Add a message to the next frame. `size`: bytes of user data in it, if many."""
        self._unsent.append(message)
        self.queued += 1
        if size:
            self._unsent_bytes += size
            if self._unsent_bytes > FRAME_BYTES:
                self.flush()

    def flush(self) -> None:
        """Send what is queued."""
        while True:
            number, batch = self._batch
            if not batch:
                batch = self._unsent
                if not batch:
                    break
                number += 1
                self._batch = (number, batch)
            if batch is self._unsent:
                self._unsent = []
                self._unsent_bytes = 0
            try:
                frame = _encoded(number, batch)
            except (
                Exception
            ):  # it has a number beyond 64 bits, say: what else is in it must not wait for ever
                self._batch = (number - 1, [])
                self._unsent = [message for message in batch if _can_be_encoded(message)] + self._unsent
                raise
            self._send(frame)
            self._batch = (number, [])
        self._pull()

    def messages(self) -> Iterator[ToClient]:
        """What has arrived. A frame is forgotten only after its last message was taken."""
        self._pull()
        frames = self._frames
        while frames:
            sequence, batch = decode_to_client(frames[0])
            if sequence > self._seen:
                yield from batch
                self._seen = sequence
            frames.popleft()

    def _pull(self) -> None:
        # All in C: no bytecode boundary, hence no KeyboardInterrupt, between taking a frame and keeping it.
        try:
            self._frames.extend(iter(self._receive, None))
        except zmq.Again:
            return

    def close(self, *, quickly: bool = False) -> None:
        """Send what is queued, within LINGER_MS, and close the socket and its context. Idempotent.

        `quickly`: throw away what is queued, since nobody is there to read it.
        """
        if not self._socket.closed:
            if quickly:
                self._socket.setsockopt(zmq.LINGER, 0)
            else:
                self.flush()
            self._socket.close()
            self._context.term()


def _encoded(number: int, batch: list[FromClient]) -> bytes:
    frame = encode_frame(number, batch)
    if len(frame) > MAX_FRAME_BYTES:
        raise ValueError(
            f"a message of {len(frame) >> 20:,} MiB is too large: at most {MAX_FRAME_BYTES >> 20:,} MiB travel at "
            "once. Put large values into the store, with put(), and pass their refs."
        )
    return frame


def _can_be_encoded(message: FromClient) -> bool:
    try:
        _encoded(0, [message])
    except Exception:  # whatever the encoder has against it
        return False
    return True


def _connected_dealer(
    context: zmq.Context[zmq.Socket[bytes]], path: str, client_id: int
) -> zmq.Socket[bytes]:
    dealer = context.socket(zmq.DEALER)
    try:
        dealer.setsockopt(zmq.ROUTING_ID, routing_id(client_id))
        dealer.setsockopt(zmq.SNDHWM, 0)
        dealer.setsockopt(zmq.RCVHWM, 0)
        dealer.setsockopt(zmq.LINGER, LINGER_MS)
        dealer.setsockopt(zmq.RECONNECT_IVL, 3)
        dealer.connect(f"ipc://{path}")
    except BaseException:
        dealer.close(0)
        raise
    return dealer
