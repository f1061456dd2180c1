"""What a task gives: values, and what it shows while it runs.

A task's result, a task's argument or a `put` value is one of

    Inline(data, sizes)              small: the bytes themselves
    Stored(segment, head, buffers)   large: where they lie in the session directory
    Failure(kind, text, data)        an error that stands in a value's place
    Forward(object_id)               a deferred ref was returned: the value is that object's (a tail call)

`Inline.sizes` is empty when `data` is one pickle. Otherwise `data` is a pickle and its out-of-band buffers, each padded
with zeros to a multiple of 16 bytes, and `sizes` are their lengths without the zeros:

    data  = | pickle    0 0 0 | buffer 1  0 | buffer 2      0 0 |
    sizes = ( length of the pickle, length of buffer 1, length of buffer 2 )

Output is text, a display or the state of a progress bar. A display is one JSON object, which the scheduler does not
look into:

    {"kind": "display_data" | "update_display_data" | "clear_output",
     "data": {mime type: ...}, "metadata": {...}, "transient": {"display_id"?: str}, "wait"?: bool}

This module has no part in how an engine moves its messages: the worker side of any engine may use it.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias, TypeVar

import msgspec

from ipyremote.exceptions import tracebacks

__all__ = [
    "RESOURCE_UNIT",
    "Display",
    "Failure",
    "Forward",
    "Inline",
    "Output",
    "Progress",
    "Resources",
    "Stored",
    "Struct",
    "Value",
    "decode_content",
    "replace",
]

#: Resources are counted in ten-thousandths, so that fractions add up exactly.
RESOURCE_UNIT: Final = 10_000
#: (name, amount in ten-thousandths) pairs, sorted by name, no zero amounts.
Resources: TypeAlias = tuple[tuple[str, int], ...]


class Struct(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Base of every wire struct: immutable, encoded as an array, never part of a reference cycle."""


class Inline(Struct, frozen=True, tag=1):
    """A small value: its bytes. `sizes` is explained in the module docstring."""

    data: bytes
    sizes: tuple[int, ...] = ()


class Stored(Struct, frozen=True, tag=2):
    """A large value in the store."""

    #: File name in the session directory or, once it was moved to disk, in the spill directory. One that was made
    #: there, because the memory had no room, begins with "disk-".
    segment: str
    #: Bytes of the segment file that this object occupies, for accounting.
    size: int
    #: Length of the pickle, which starts at offset 0.
    head: int
    #: (offset, length) of each out-of-band buffer; offsets are multiples of 64.
    buffers: tuple[tuple[int, int], ...] = ()


class Failure(Struct, frozen=True, tag=3):
    """An error in a value's place. `kind`: see `exceptions.FAILURES`. `data`: empty unless user code raised."""

    kind: str
    text: str
    data: bytes = b""
    #: Objects and actors referred to inside `data`; held by whatever object has this failure as its value.
    refs: tuple[int, ...] = ()

    @property
    def line(self) -> str:
        """One line about the failure; see `tracebacks.first_line`."""
        return tracebacks.first_line(self.kind, self.text)


class Forward(Struct, frozen=True, tag=4):
    """The value is that of another object, once it has one."""

    object_id: int


Value: TypeAlias = Inline | Stored | Failure | Forward


class Output(Struct, frozen=True, tag=35):
    """Text that a task wrote. `stream` is 1 for stdout, 2 for stderr. Task 0: written outside any task."""

    task_id: int
    stream: int
    text: str


class Display(Struct, frozen=True, tag=36):
    """Something that a task shows and that is not text; see the module docstring."""

    task_id: int
    content: bytes


class Progress(Struct, frozen=True, tag=37):
    """State of a progress bar of a task. A closed bar is never heard of again."""

    task_id: int
    #: Number of the bar, unique in the task. Smaller ones enclose larger ones, as long as both are open.
    bar: int
    description: str
    done: float
    #: Below 0 when it is not known.
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
