"""Encoding of messages as bytes, and decoding.

    frame     = msgpack([sequence, [message, message, ...]])
    greeting  = secret (32 bytes) + msgpack(Hello)
    boot      = msgpack(Boot) or msgpack(EnvironmentBoot)
    report    = msgpack(TaskDone) or msgpack(TaskFailed), in a worker's progress page

A message is an array whose first element is its tag. Each side has one decoder for all messages that it accepts:
`FromClient` for the scheduler, `ToClient` for a client. Bytes that are no such message raise `DecodeError`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

import msgspec

from ipyremote.messages.boot import Boot, EnvironmentBoot
from ipyremote.messages.from_client import Define, FrequentFromClient, Hello, RareFromClient
from ipyremote.messages.from_worker import FromWorker, TaskDone, TaskFailed
from ipyremote.messages.to_client import ToEveryClient
from ipyremote.messages.to_worker import ToWorker
from ipyremote.messages.values import Display, Output, Progress

__all__ = [
    "SECRET_BYTES",
    "DecodeError",
    "FromClient",
    "ToClient",
    "decode_boot",
    "decode_environment_boot",
    "decode_from_client",
    "decode_hello",
    "decode_report",
    "decode_to_client",
    "encode_boot",
    "encode_frame",
    "encode_greeting",
    "encode_report",
]

#: Exception of all functions that decode.
DecodeError = msgspec.DecodeError
#: Length of a session's secret in bytes.
SECRET_BYTES: Final = 32
#: All messages that the scheduler accepts after the greeting.
FromClient: TypeAlias = RareFromClient | FrequentFromClient | FromWorker | Output | Display | Progress
#: All messages that a client accepts. The scheduler hands a `Define` on to the workers that need it.
ToClient: TypeAlias = ToEveryClient | ToWorker | Define
_encoder = msgspec.msgpack.Encoder()
_from_client = msgspec.msgpack.Decoder(tuple[int, list[FromClient]])
_to_client = msgspec.msgpack.Decoder(tuple[int, list[ToClient]])
_hello = msgspec.msgpack.Decoder(Hello)
_boot = msgspec.msgpack.Decoder(Boot)
_environment_boot = msgspec.msgpack.Decoder(EnvironmentBoot)
_report: msgspec.msgpack.Decoder[TaskDone | TaskFailed] = msgspec.msgpack.Decoder(TaskDone | TaskFailed)


def encode_frame(sequence: int, batch: Sequence[FromClient] | Sequence[ToClient]) -> bytes:
    """Return one frame with these messages."""
    return _encoder.encode((sequence, batch))


def decode_from_client(frame: bytes | memoryview) -> tuple[int, list[FromClient]]:
    """Return number and messages of a frame that the scheduler received. Raises DecodeError."""
    return _from_client.decode(frame)


def decode_to_client(frame: bytes) -> tuple[int, list[ToClient]]:
    """Return number and messages of a frame that a client received. Raises DecodeError."""
    return _to_client.decode(frame)


def encode_greeting(secret: bytes, hello: Hello) -> bytes:
    """Return the first frame of a connection."""
    return secret + _encoder.encode(hello)


def decode_hello(rest: bytes) -> Hello:
    """Return the message of a greeting, given the bytes after the secret. Raises DecodeError."""
    return _hello.decode(rest)


def encode_boot(boot: Boot | EnvironmentBoot) -> bytes:
    """Return a start record as bytes."""
    return _encoder.encode(boot)


def decode_boot(data: bytes) -> Boot:
    """Return the start record of the scheduler. Raises DecodeError."""
    return _boot.decode(data)


def decode_environment_boot(data: bytes) -> EnvironmentBoot:
    """Return the start record of an environment's process. Raises DecodeError."""
    return _environment_boot.decode(data)


def encode_report(report: TaskDone | TaskFailed) -> bytes:
    """Return a report as bytes, for the worker's progress page."""
    return _encoder.encode(report)


def decode_report(data: bytes) -> TaskDone | TaskFailed:
    """Return a report from a progress page. Raises DecodeError."""
    return _report.decode(data)
