"""Messages to bytes and back.

    frame     = msgpack([sequence, [message, message, ...]])
    greeting  = secret (32 bytes) + msgpack(Hello)
    boot      = msgpack(Boot) or msgpack(EnvironmentBoot)
    report    = msgpack(TaskDone) or msgpack(TaskFailed), in a worker's progress page

A message is an array whose first element is its tag, so a decoder is made of the union of all that its side accepts:
`FromClient` for the scheduler, `ToClient` for a client. What does not decode raises `DecodeError`.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import msgspec

from ipyremote.messages.boot import Boot, EnvironmentBoot
from ipyremote.messages.from_client import (
    Bind,
    Bye,
    CancelTask,
    Consumed,
    CreateActor,
    CreateGroup,
    Define,
    DefineEnvironment,
    Explain,
    Free,
    Hello,
    Hold,
    Kept,
    KillActor,
    ListState,
    LookUp,
    LookUpGroups,
    NoRoom,
    Put,
    Release,
    RemoveGroup,
    Spans,
    Spilled,
    Status,
    Submit,
    Summarize,
    Taken,
    Unwatch,
    UseNamespace,
    Want,
    Watch,
)
from ipyremote.messages.from_worker import Blocked, Returned, TaskDone, TaskFailed, Titled, Unblocked, Yield
from ipyremote.messages.to_client import (
    DisplayContent,
    DropSegments,
    Evict,
    Explanation,
    GroupsReply,
    KeptReply,
    Listing,
    Names,
    Notice,
    ObjectReady,
    OutputText,
    ProgressUpdate,
    SpansReply,
    Spill,
    StatusReply,
    StreamItem,
    Summary,
    TaskUpdate,
    Trim,
    Welcome,
)
from ipyremote.messages.to_worker import CancelRun, Exit, Recall, RunTask, StreamDemand
from ipyremote.messages.values import Display, Output, Progress

__all__ = [
    "SECRET_BYTES",
    "DecodeError",
    "FromClient",
    "RareFromClient",
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

#: What the functions that decode raise.
DecodeError = msgspec.DecodeError
#: Length of a session's secret in bytes.
SECRET_BYTES: Final = 32
#: What the scheduler accepts: what it gets rarely, and everything.
RareFromClient: TypeAlias = (
    Define
    | DefineEnvironment
    | CreateActor
    | CancelTask
    | KillActor
    | Watch
    | Unwatch
    | Status
    | Explain
    | Bye
    | NoRoom
    | Spilled
    | Free
    | Spans
    | Bind
    | Kept
    | Taken
    | UseNamespace
    | LookUp
    | CreateGroup
    | RemoveGroup
    | LookUpGroups
    | Titled
    | Consumed
    | ListState
    | Summarize
)
FromClient: TypeAlias = (
    RareFromClient
    | Submit
    | Put
    | Hold
    | Release
    | Want
    | TaskDone
    | TaskFailed
    | Blocked
    | Unblocked
    | Returned
    | Output
    | Display
    | Progress
    | Yield
)
#: What a client accepts.
ToClient: TypeAlias = (
    Welcome
    | ObjectReady
    | DropSegments
    | Trim
    | Spill
    | Evict
    | TaskUpdate
    | OutputText
    | Notice
    | StatusReply
    | Explanation
    | DisplayContent
    | ProgressUpdate
    | SpansReply
    | KeptReply
    | Names
    | GroupsReply
    | Listing
    | Summary
    | Define
    | RunTask
    | Recall
    | CancelRun
    | Exit
    | StreamItem
    | StreamDemand
)
_encoder = msgspec.msgpack.Encoder()
_from_client = msgspec.msgpack.Decoder(tuple[int, list[FromClient]])
_to_client = msgspec.msgpack.Decoder(tuple[int, list[ToClient]])
_hello = msgspec.msgpack.Decoder(Hello)
_boot = msgspec.msgpack.Decoder(Boot)
_environment_boot = msgspec.msgpack.Decoder(EnvironmentBoot)
_report: msgspec.msgpack.Decoder[TaskDone | TaskFailed] = msgspec.msgpack.Decoder(TaskDone | TaskFailed)


def encode_frame(sequence: int, batch: list[FromClient] | list[ToClient]) -> bytes:
    """One frame; see the module docstring."""
    return _encoder.encode((sequence, batch))


def decode_from_client(frame: bytes | memoryview) -> tuple[int, list[FromClient]]:
    """What the scheduler received. Raises DecodeError when it is not a frame."""
    return _from_client.decode(frame)


def decode_to_client(frame: bytes) -> tuple[int, list[ToClient]]:
    """What a client received. Raises DecodeError when it is not a frame."""
    return _to_client.decode(frame)


def encode_greeting(secret: bytes, hello: Hello) -> bytes:
    """The first frame of a connection."""
    return secret + _encoder.encode(hello)


def decode_hello(rest: bytes) -> Hello:
    """The greeting without its secret. Raises DecodeError."""
    return _hello.decode(rest)


def encode_boot(boot: Boot | EnvironmentBoot) -> bytes:
    """A process start record as bytes."""
    return _encoder.encode(boot)


def decode_boot(data: bytes) -> Boot:
    """The scheduler's start record. Raises DecodeError."""
    return _boot.decode(data)


def decode_environment_boot(data: bytes) -> EnvironmentBoot:
    """The start record of an environment's process. Raises DecodeError."""
    return _environment_boot.decode(data)


def encode_report(report: TaskDone | TaskFailed) -> bytes:
    """One report, for the worker's progress page."""
    return _encoder.encode(report)


def decode_report(data: bytes) -> TaskDone | TaskFailed:
    """The opposite of `encode_report`. Raises DecodeError."""
    return _report.decode(data)
