"""Exceptions to failures, which travel and are kept, and back to exceptions, a fresh one for each request.

A failure of user code carries the pickled `TaskError`; a failure that an engine has made is a kind and a text. Every
failure has a text, so that it can be shown without unpickling anything. An engine whose wire has a record of its own
for failures makes the record from the fields of a `PickledFailure`, and hands the record to the functions here.
"""

from __future__ import annotations

import sys
import types
import warnings
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, Final, NamedTuple, Protocol

from ipyremote.declare.exports import Export
from ipyremote.exceptions import IPyRemoteError, TaskError, UnserializableException, from_failure, tracebacks
from ipyremote.ids import ObjectId
from ipyremote.serialization import pickling

__all__ = ["FREED", "FailureParts", "PickledFailure", "check_size", "exception_of", "failure_of", "together"]

#: Number of failures in one error, and number of failures whose tracebacks the error shows.
_HELD: Final = 1_000
_SHOWN: Final = 4
#: Number of other failed tasks that an error names by label.
_NAMED: Final = 3
#: Sizes of a pickled function or class above which it is warned of, or refused, in bytes.
FUNCTION_WARN_BYTES: Final = 10 << 20
FUNCTION_ERROR_BYTES: Final = 100 << 20
#: Largest pickle of an exception that travels, in bytes. Exceptions do not go through the store.
EXCEPTION_BYTES: Final = 100 << 20


class FailureParts(Protocol):
    """The fields of a failure that every engine has."""

    @property
    def kind(self) -> str:
        """A key of `exceptions.FAILURES`."""

    @property
    def text(self) -> str:
        """The message, and for an exception of user code the traceback."""

    @property
    def data(self) -> bytes:
        """The pickled exception; empty unless user code raised."""


class PickledFailure(NamedTuple):
    """A failure in one piece. The fields are those of `FailureParts`."""

    kind: str
    text: str
    data: bytes = b""
    #: Ids of the objects and actors that the exception in `data` refers to.
    refs: tuple[ObjectId, ...] = ()

    @property
    def line(self) -> str:
        """One line about the failure; see `tracebacks.first_line`."""
        return tracebacks.first_line(self.kind, self.text)


#: Stands in the place of a value that was freed with `free()`.
FREED: Final = PickledFailure(
    "object_freed", "The value was freed by hand, with free(). Free only values that no code needs any more."
)


def failure_of(error: TaskError) -> PickledFailure:
    """Return the failure of an exception of user code, which must live until the failure's `refs` are held."""
    try:
        pickled = pickling.dumps_whole(error)
    except BaseException:  # pickling the user's exception can raise anything
        return _without_cause(error)
    if len(pickled.head) <= EXCEPTION_BYTES:
        return PickledFailure("task_error", _text_of(error), pickled.head, pickled.refs)
    return _without_cause(
        error,
        f"(The exception itself stays in its process: its pickle has {len(pickled.head) >> 20:,} MiB, "
        f"and at most {EXCEPTION_BYTES >> 20} MiB travel.)\n",
    )


def _without_cause(error: TaskError, note: str = "") -> PickledFailure:
    text = _text_of(error) + note
    alone = error.without_cause()
    alone.traceback_text += note
    try:
        pickled = pickling.dumps_whole(alone)
    except Exception:  # a frame or label cannot be pickled either
        return PickledFailure("task_error", text)
    return PickledFailure("task_error", text, pickled.head, pickled.refs)


def _text_of(error: TaskError) -> str:
    # A message travels as UTF-8, which cannot encode surrogates.
    return tracebacks.shortened(str(error)).encode("utf-8", "replace").decode()


def exception_of(failure: FailureParts) -> IPyRemoteError:
    """Return a fresh exception to raise for a failure."""
    if not failure.data:
        return from_failure(failure.kind, failure.text)
    try:
        error = pickling.loads(failure.data)
    except Exception as problem:  # the user's exception can be pickled but not unpickled here
        return UnserializableException(
            f"The task failed, and its exception cannot be unpickled here ({problem!r}). Its traceback:\n{failure.text}"
        )
    if failure.kind != "task_error":
        return from_failure(failure.kind, failure.text, error)
    return error.as_instanceof_cause() if isinstance(error, TaskError) else error


def check_size(name: str, size: int) -> None:
    """Warn of a pickled function or class above 10 MiB, and raise ValueError above 100 MiB. As in Ray."""
    advice = (
        "Check that its definition does not capture a large array or other object. "
        "Tip: use put() and pass the ref as an argument."
    )
    if size > FUNCTION_ERROR_BYTES:
        raise ValueError(
            f"The remote function {name} is too large ({size >> 20} MiB > "
            f"FUNCTION_SIZE_ERROR_THRESHOLD={FUNCTION_ERROR_BYTES >> 20} MiB). {advice}"
        )
    if size > FUNCTION_WARN_BYTES:
        text = f"The remote function {name} is very large ({size >> 20} MiB). {advice}"
        warnings.warn(text, stacklevel=_outside())


def _outside() -> int:
    """Return the stack level, for the caller's `warnings.warn`, of the user's code that has called the package."""
    frame = sys._getframe(1)
    frames = [frame]
    while (back := frames[-1].f_back) is not None:
        frames.append(back)
    # Between this frame and that of `Export.to`, which calls the engine, may be frames of another package's engine.
    asked = [number for number, one in enumerate(frames) if one.f_code is Export.to.__code__]
    level = asked[0] if asked else 0
    while level + 1 < len(frames) and frames[level].f_code.co_filename.startswith(tracebacks.PACKAGE):
        level += 1
    return level + 1


def together(failures: Iterable[FailureParts]) -> IPyRemoteError:
    """Return a fresh exception to raise for the failures of a list of refs, of which there is at least one, in order.

    One failure becomes its own exception. Several become an ExceptionGroup that also has the class of the first, so
    `except ValueError` catches the group as it would catch the first alone. A failure of several refs counts once.
    """
    different = {failure.text: failure for failure in failures}
    errors = [exception_of(failure) for failure in islice(different.values(), _HELD)]
    return _grouped(f"{len(different):,} tasks failed", errors)


def _grouped(message: str, errors: Sequence[IPyRemoteError]) -> IPyRemoteError:
    first = errors[0]
    if len(errors) == 1 or not isinstance(first, TaskError):
        return first
    name = type(first).__name__.replace("TaskError", "TaskErrorGroup")
    try:
        kind = types.new_class(name, (_Group, type(first), ExceptionGroup))
        kind.__module__ = TaskError.__module__
        return kind(message, errors)  # type: ignore[no-any-return]  # made two lines above
    except TypeError:
        # Instances of the cause's class, such as OSError, have a memory layout of their own.
        first.add_note(_others(errors[1:]))
        return first


class _Group:
    """What makes a `TaskError` the first of a group."""

    def __new__(cls, message: str, errors: Sequence[Exception]) -> Any:
        return ExceptionGroup.__new__(cls, message, errors)  # type: ignore[type-var]  # whoever derives is one

    def __init__(self, message: str, errors: Sequence[IPyRemoteError]) -> None:
        first = errors[0]
        assert isinstance(first, TaskError), "or there is no group"
        text = _text(message, errors)
        TaskError.__init__(self, first.label, first.cause, text, first.pid, first.frames)  # type: ignore[arg-type]

    def __reduce__(self) -> tuple[Any, ...]:
        errors: Sequence[IPyRemoteError] = self.exceptions  # type: ignore[attr-defined]  # the group's
        return _grouped, (self.message, list(errors))  # type: ignore[attr-defined]  # the same


def _text(message: str, errors: Sequence[IPyRemoteError]) -> str:
    """Return the tracebacks of the first few errors, and the message, which has the number of errors."""
    parts = []
    for error in errors[:_SHOWN]:
        if not isinstance(error, TaskError):
            parts.append(f"  {type(error).__name__}: {str(error).strip()}")
            continue
        body = tracebacks.body_of(error.traceback_text).rstrip("\n")
        # The first traceback has no label here: the label is already shown with the whole error.
        parts.append(f"  in task {error.label}:\n{body}" if parts else f"{tracebacks.HEADER}{body}")
    shown = f". These are the first {_SHOWN}" if len(errors) > _SHOWN else ""
    return "\n\n".join(
        [*parts, f"{message}{shown}; the attribute `exceptions` of the error has all of them."]
    )


def _others(errors: Sequence[IPyRemoteError]) -> str:
    named = ", ".join(_label(error) for error in errors[:_NAMED])
    more = f" and {len(errors) - _NAMED:,} more" if len(errors) > _NAMED else ""
    return f"{named}{more} failed as well."


def _label(error: IPyRemoteError) -> str:
    return error.label if isinstance(error, TaskError) else type(error).__name__
