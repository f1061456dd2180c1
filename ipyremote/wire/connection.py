"""A client's end of the wire: one DEALER socket to the scheduler.

A connection queues, sends and receives whole frames, and does not know the meaning of messages.

Rules. A connection is not thread-safe: its owner calls it under one lock. A KeyboardInterrupt may strike between any
two bytecodes, and every step can be repeated after that: a batch keeps its sequence number until the batch is known to
be sent (the scheduler drops a repeated number), and received frames go from the socket into a deque without a bytecode
in between.

libzmq's file descriptor is edge-triggered: *any* operation on the socket may consume a readable event, so every
operation here ends by pulling all arrived frames into `_frames`. A thread that polls `fd` must call `messages()`
before.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

import zmq

from ipyremote.ids import ClientId
from ipyremote.messages import FromClient, Hello, ToClient, decode_to_client, encode_frame, encode_greeting

__all__ = ["MAX_FRAME_BYTES", "Connection", "routing_id"]

#: Size of the user data in a batch above which the batch is sent at once, in bytes, so that no frame grows without
#: bound.
FRAME_BYTES: Final = 4 << 20
#: Size of the largest frame, in bytes. The server ends a connection that sends a larger one. Large values go through
#: the store.
MAX_FRAME_BYTES: Final = 1 << 30
#: Time that unsent frames may hold up `close`, in milliseconds.
LINGER_MS = 500


def routing_id(client_id: ClientId) -> bytes:
    """Return the zmq routing id of a client: "c" and the client's number, big-endian.

    The letter is there because zmq reserves ids that start with a zero byte.
    """
    return b"c" + client_id.to_bytes(8, "big")


class Connection:
    """Frames to and from the scheduler. The module's docstring has the rules."""

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
        #: Number of the last frame, and those of its messages that may not have been sent. There are such messages only
        #: while `flush` runs and after `flush` was interrupted. The two are one tuple, so that they change at once.
        self._batch: tuple[int, list[FromClient]] = (0, [])
        self._seen = 0
        self._frames: deque[bytes] = deque()
        self._send(encode_greeting(secret, hello))
        self._pull()

    @property
    def unsent(self) -> int:
        """Number of queued messages."""
        return len(self._unsent)

    def queue(self, message: FromClient, size: int = 0) -> None:
        """Add a message to the next frame. `size`: number of bytes of user data in the message, if there are many."""
        self._unsent.append(message)
        self.queued += 1
        if size:
            self._unsent_bytes += size
            if self._unsent_bytes > FRAME_BYTES:
                self.flush()

    def flush(self) -> None:
        """Send the queued messages."""
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
            except Exception:  # such as a number beyond 64 bits in one message
                # The other messages of the batch must not wait for ever.
                self._batch = (number - 1, [])
                self._unsent = [message for message in batch if _can_be_encoded(message)] + self._unsent
                raise
            self._send(frame)
            self._batch = (number, [])
        self._pull()

    def messages(self) -> Iterator[ToClient]:
        """Yield the messages that have arrived. A frame is forgotten only after its last message was taken."""
        self._pull()
        frames = self._frames
        while frames:
            sequence, batch = decode_to_client(frames[0])
            if sequence > self._seen:
                yield from batch
                self._seen = sequence
            frames.popleft()

    def _pull(self) -> None:
        # The line runs in C, without a boundary of bytecodes, so no KeyboardInterrupt strikes between taking a frame
        # from the socket and keeping it.
        try:
            self._frames.extend(iter(self._receive, None))
        except zmq.Again:
            return

    def close(self, *, quickly: bool = False) -> None:
        """Send the queued messages within LINGER_MS, and close the socket and its context. Idempotent.

        `quickly`: throw the queued messages away, because nobody is there to read them.
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
    except Exception:  # any complaint of the encoder
        return False
    return True


def _connected_dealer(
    context: zmq.Context[zmq.Socket[bytes]], path: str, client_id: ClientId
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
