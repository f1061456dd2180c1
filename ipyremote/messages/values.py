"""Values and output of tasks.

A task's result, a task's argument or a `put` value is one of

    Inline(data, sizes)              a small value: the bytes themselves
    Stored(segment, head, buffers)   a large value: the file in the session directory that has the bytes
    Failure(kind, text, data)        an error in the place of a value
    Forward(object_id)               the task returned a deferred ref: its value is that of another object (a tail call)

`Inline.sizes` is empty when `data` is one pickle. Otherwise `data` is a pickle and its out-of-band buffers, each padded
with zeros to a multiple of 16 bytes, and `sizes` are their lengths without the zeros:

    data  = | pickle    0 0 0 | buffer 1  0 | buffer 2      0 0 |
    sizes = ( length of the pickle, length of buffer 1, length of buffer 2 )

Output is text, a display or the state of a progress bar. A display is one JSON object, which the scheduler hands on
unread:

    {"kind": "display_data" | "update_display_data" | "clear_output",
     "data": {mime type: ...}, "metadata": {...}, "transient": {"display_id"?: str}, "wait"?: bool}

How messages travel is no part of this module, so the worker side of any engine can use these structs.
"""

from __future__ import annotations

from typing import Any, TypeAlias, TypeVar

import msgspec

from ipyremote.exceptions import tracebacks
from ipyremote.ids import ObjectId, TaskId

__all__ = [
    "Display",
    "Failure",
    "Forward",
    "Inline",
    "Output",
    "Progress",
    "Stored",
    "Struct",
    "Value",
    "decode_content",
    "replace",
]


class Struct(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Base of every wire struct: immutable, encoded as an array, never part of a reference cycle."""


class Inline(Struct, frozen=True, tag=1):
    """A small value."""

    #: One pickle, or a pickle and its buffers, as the module docstring draws them.
    data: bytes
    #: Lengths of the pickle and of each buffer in bytes; empty when `data` is one pickle.
    sizes: tuple[int, ...] = ()


class Stored(Struct, frozen=True, tag=2):
    """A large value in the store."""

    #: Name of the file in the session directory or, once the value was moved to disk, in the spill directory. The name
    #: begins with "disk-" if the file was made in the spill directory, because memory had no room.
    segment: str
    #: Bytes of the file that this object occupies, for accounting.
    size: int
    #: Length of the pickle, which starts at offset 0.
    head: int
    #: (offset, length) of each out-of-band buffer; offsets are multiples of 64.
    buffers: tuple[tuple[int, int], ...] = ()


class Failure(Struct, frozen=True, tag=3):
    """An error in the place of a value."""

    #: Key of `exceptions.FAILURES`.
    kind: str
    #: Message, with the traceback after it where user code raised.
    text: str
    #: Pickle of the exception; empty unless user code raised.
    data: bytes = b""
    #: Ids of objects and actors referred to inside `data`. Every object with this failure as its value holds them.
    refs: tuple[ObjectId, ...] = ()

    @property
    def line(self) -> str:
        """Return one line about the failure; see `tracebacks.first_line`."""
        return tracebacks.first_line(self.kind, self.text)


class Forward(Struct, frozen=True, tag=4):
    """A value that is the value of another object, as soon as that object has one."""

    object_id: ObjectId


Value: TypeAlias = Inline | Stored | Failure | Forward


class Output(Struct, frozen=True, tag=35):
    """Text that a task wrote."""

    #: 0 for text that was written outside any task.
    task_id: TaskId
    #: 1 for stdout, 2 for stderr.
    stream: int
    text: str


class Display(Struct, frozen=True, tag=36):
    """A display of a task: anything shown that is not text."""

    task_id: TaskId
    #: The JSON object that the module docstring draws.
    content: bytes


class Progress(Struct, frozen=True, tag=37):
    """State of a progress bar of a task. Nothing follows for a bar that is closed."""

    task_id: TaskId
    #: Number of the bar, unique in the task. A bar encloses all open bars with larger numbers.
    bar: int
    description: str
    #: Number of units that are done.
    done: float
    #: Number of units in all; below 0 when it is not known.
    total: float
    unit: str
    closed: bool


_json_decoder: msgspec.json.Decoder[dict[str, Any]] = msgspec.json.Decoder(dict[str, Any])


def decode_content(data: bytes) -> dict[str, Any]:
    """Return the JSON object of a `Display`. Raises DecodeError."""
    return _json_decoder.decode(data)


S = TypeVar("S", bound=msgspec.Struct)


def replace(struct: S, **changes: object) -> S:
    """Return a copy of a struct in which these fields have other values."""
    return msgspec.structs.replace(struct, **changes)
