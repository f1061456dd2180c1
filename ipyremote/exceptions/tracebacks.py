"""Tracebacks of tasks as text: the worker formats a live exception, and the driver shows the text.

This module knows only the label of a task, and its functions raise no exceptions. Rules. Frames of ipyremote itself are
left out. A frame of a notebook cell shows the notebook's name of the cell (`In [4]`), never the cell's temporary file.
The text contains no process id, address or time, so each run of a notebook produces the same text.

    Traceback (most recent call last):
      In [4], line 3, in outer
        return ray.get(inner.remote())
      in task inner#1:
      In [3], line 3, in inner
        raise ValueError("bad")
    ValueError: bad
"""

from __future__ import annotations

import linecache
import os
import re
import reprlib
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from types import FrameType, MappingProxyType, ModuleType, TracebackType
from typing import Any, Final, NamedTuple

__all__ = [
    "HEADER",
    "PACKAGE",
    "TASK_FRAME",
    "Frame",
    "Likeness",
    "body_of",
    "describe",
    "describe_stack",
    "display_name",
    "first_line",
    "is_library",
    "local_lines",
    "received_names",
    "register_source",
    "shortened",
]

#: Path prefix of every file of ipyremote.
PACKAGE: Final = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
#: The first line of a traceback, as Python writes it.
HEADER: Final = "Traceback (most recent call last):\n"
#: Name in the globals of a synthetic frame, which stands for a frame of a task.
TASK_FRAME: Final = "__ipyremote_task__"
#: Maximum number of frames whose variables are sent with an exception: the innermost frames of user code.
_MOST_FRAMES: Final = 8
#: Maximum number of variables sent of one frame.
_MOST_NAMES: Final = 40
#: Maximum length of the names and values of all frames together, in characters.
_MOST_TEXT: Final = 4_000
#: Maximum time for taking the `repr` of variables, in seconds.
_MOST_SECONDS: Final = 0.05
#: Types whose values are sent as they are if their `repr` is short.
_SIMPLE: Final = (int, float, complex, bool, str, bytes, type(None))
#: Maximum length of the `repr` of one value, in characters.
_MOST_OF_ONE: Final = 400
#: Packages whose `__repr__` is as fast for a large value as for a small one.
_QUICK: Final = frozenset(
    {"numpy", "pandas", "polars", "torch", "datetime", "pathlib", "decimal", "uuid", "ipyremote"}
)
#: Maximum length of the text about an exception, in characters; half of them are its end, where the message is.
_MOST_OF_ALL: Final = 1 << 18
#: Matches file names of the standard library and of installed packages.
_LIBRARY: Final = re.compile(r"/(?:site|dist)-packages/|/lib(?:64)?/python3[^/]*/|<frozen ")


class Likeness:
    """Stand-in for a variable whose value stayed in the worker: shows the value's `repr` in a debugger."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Likeness) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)


class Frame(NamedTuple):
    """One line of user code on the way to an exception."""

    #: File name as shown to users: `In [4]`, or a path.
    filename: str
    lineno: int
    function: str
    #: Source text of the line without indentation; empty when the source is not known.
    source: str
    #: Label of the task that ran the line.
    task: str = ""
    #: Names and values of the frame's variables: simple values unchanged, a `Likeness` for each other value. Present
    #: in the innermost frames only, and bounded in number and size.
    values: tuple[tuple[str, Any], ...] = ()


def display_name(filename: str) -> str | None:
    """Return the name of a notebook cell, such as `In [4]`, for the cell's file; None for other files."""
    # IPython's compiler knows the files of its cells. Only a process that has already imported IPython has such cells.
    ipython = sys.modules.get("IPython")
    if ipython is None:
        return None
    shell = ipython.get_ipython()
    name = shell.compile.format_code_name(filename) if shell is not None else None
    if name is None:
        return None
    number = re.fullmatch(r"In\s*\[(\d+)\]", name[1])
    return f"In [{number[1]}]" if number else str(name[1])


#: Shown name of each file of interactive code that came from another process, by file name.
_received: dict[str, str] = {}


def register_source(filename: str, name: str, text: str, *, replace: bool = False) -> None:
    """Make the source of a file that exists only in another process available to tracebacks in this process.

    `name` is the shown name of the file, such as "In [4]". With `replace`, `text` replaces a text of the file that this
    process already has.
    """
    _received[filename] = name
    if replace or filename not in linecache.cache:
        # The None is the modification time: without one, linecache does not check for the file on disk.
        linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)


def received_names() -> Mapping[str, str]:
    """Return the shown names of the files given to `register_source`, by file name."""
    return MappingProxyType(_received)


def is_library(filename: str) -> bool:
    """Return whether a file belongs to an installed package or the standard library, and is therefore not user code."""
    return _LIBRARY.search(filename) is not None


def describe(
    error: BaseException, *, task: str = "", hide: str = PACKAGE, names: Mapping[str, str] | None = None
) -> tuple[str, tuple[Frame, ...]]:
    """Return the whole text of an exception with its causes, and the frames of the exception itself.

    Frames whose file name begins with `hide` are left out. `names` maps file names to shown names.
    """
    summary = _summary(error, hide, names or {})
    return _text(summary), _frames(summary, task, _values(error, hide))


def describe_stack(
    error: BaseException, *, task: str = "", hide: str = PACKAGE, names: Mapping[str, str] | None = None
) -> tuple[str, tuple[Frame, ...]]:
    """Return the stack text and frames of an exception, without its causes and without its closing message line.

    The arguments are those of `describe`.
    """
    summary = _summary(error, hide, names or {})
    return _cells_unquoted(shortened("".join(summary.stack.format()))), _frames(
        summary, task, _values(error, hide)
    )


def body_of(text: str) -> str:
    """Return the text of a traceback without the header line, if it begins with `HEADER`."""
    return text.removeprefix(HEADER)


def first_line(kind: str, text: str) -> str:
    """Return one line about a failure: for an error of user code its type and the first line of its message.

    `kind` is a key of `exceptions.FAILURES`, and `text` is the text of the exception.
    """
    first = text.partition("\n")[0]
    if kind != "task_error":
        return first
    # The traceback that follows the message has an unindented line with the type in front of the message.
    named = (line for line in text.splitlines()[1:] if line.endswith(f": {first}"))
    return next((line for line in named if not line.startswith(" ")), first)


def shortened(text: str) -> str:
    """Return the text of an exception, with its middle left out if the text is longer than `_MOST_OF_ALL`."""
    left_out = len(text) - _MOST_OF_ALL
    if left_out <= 0:
        return text
    half = _MOST_OF_ALL // 2
    return f"{text[:half]}\n[{left_out:,} characters are left out here]\n{text[-half:]}"


def local_lines(trace: TracebackType | None, *, hide: str = PACKAGE, until: str = "") -> list[str]:
    """Return traceback lines for the frames of user code in this process.

    Frames of ipyremote and IPython are left out. The first frame in the file `until` is left out too, with all frames
    below that frame.
    """
    kept: list[traceback.FrameSummary] = []
    for frame, lineno in traceback.walk_tb(trace):
        if str(frame.f_globals.get("__name__", "")).partition(".")[0] in ("IPython", "ipykernel"):
            # IPython and ipykernel run the cell: all frames above this frame are theirs.
            kept.clear()
        elif frame.f_code.co_filename == until or TASK_FRAME in frame.f_globals:
            break
        elif not frame.f_code.co_filename.startswith(hide):
            kept.append(traceback.FrameSummary(frame.f_code.co_filename, lineno, frame.f_code.co_name))
    return _cells_unquoted(
        "".join(traceback.StackSummary.from_list(_renamed(kept, {})).format())
    ).splitlines()


def _summary(error: BaseException, hide: str, names: Mapping[str, str]) -> traceback.TracebackException:
    """Return a `TracebackException` with hidden frames removed and files renamed, also in its causes and members."""
    summary = traceback.TracebackException(type(error), error, error.__traceback__, compact=True)
    pending = [summary]
    while pending:
        one = pending.pop()
        stack = [step for step in one.stack if not step.filename.startswith(hide)]
        one.stack = traceback.StackSummary.from_list(_renamed(stack, names))
        pending.extend(inner for inner in (one.__cause__, one.__context__) if inner is not None)
        pending.extend(one.exceptions or ())
    return summary


def _frames(
    summary: traceback.TracebackException, task: str, values: Sequence[tuple[tuple[str, Any], ...]]
) -> tuple[Frame, ...]:
    if len(values) != len(summary.stack):
        # The user has set `sys.tracebacklimit`, which shortens the stack of the summary but not the list of values.
        values = [()] * len(summary.stack)
    return tuple(
        Frame(one.filename, one.lineno or 0, one.name, one.line or "", task, known)
        for one, known in zip(summary.stack, values, strict=True)
    )


def _values(error: BaseException, hide: str) -> list[tuple[tuple[str, Any], ...]]:
    """Return the variables of each frame that is not hidden, in the order of the frames.

    The bounds are spent from the innermost frame outwards; a frame beyond the bounds has no variables.
    """
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    frames = [frame for frame in frames if not frame.f_code.co_filename.startswith(hide)]
    found: list[tuple[tuple[str, Any], ...]] = [() for _ in frames]
    names = [frame.f_code.co_filename for frame in frames]
    own = [n for n, name in enumerate(names) if not is_library(name) and not name.startswith("<")]
    likenesses = _LikenessMaker()
    for number in reversed(own[-_MOST_FRAMES:]):
        found[number] = tuple(likenesses.of(frames[number]))
    return found


class _LikenessMaker(reprlib.Repr):
    """Maker of likenesses that stops when the bounds on characters or on seconds are reached."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = _MOST_OF_ONE
        self._left = _MOST_TEXT
        self._until = time.monotonic() + _MOST_SECONDS

    def of(self, frame: FrameType) -> Iterator[tuple[str, Any]]:
        """Yield names and values of a frame's variables; at the top level of a cell, only names that the code uses."""
        variables = frame.f_locals
        if variables is frame.f_globals:
            variables = {name: variables[name] for name in frame.f_code.co_names if name in variables}
        for name, value in list(variables.items())[:_MOST_NAMES]:
            if name.startswith("__") or isinstance(value, ModuleType):
                continue
            if self._left <= 0 or time.monotonic() > self._until:
                return
            text = self._text_of(value)
            self._left -= len(name) + len(text)
            simple = type(value) in _SIMPLE and len(text) < _MOST_OF_ONE
            yield name, value if simple else Likeness(text)

    def _text_of(self, value: object) -> str:
        try:
            text = self.repr(value)
        except Exception:  # `__repr__` of a user class may raise anything
            return f"<{type(value).__qualname__}>"
        return text if len(text) <= _MOST_OF_ONE else f"{text[: _MOST_OF_ONE - 3]}..."

    def repr_instance(self, x: Any, level: int) -> str:
        """Return the instance's own `repr` if its package is known to be quick, otherwise only its type."""
        kind = type(x)
        if kind.__module__.partition(".")[0] in _QUICK:
            return super().repr_instance(x, level)
        if isinstance(x, BaseException):
            return f"{kind.__qualname__}({', '.join(self.repr1(one, level - 1) for one in x.args)})"
        return f"<{kind.__module__}.{kind.__qualname__}>"


def _renamed(
    stack: list[traceback.FrameSummary], names: Mapping[str, str]
) -> Iterator[traceback.FrameSummary]:
    for step in stack:
        name = names.get(step.filename) or display_name(step.filename)
        # The source line is looked up under the real name, before the name changes.
        if name and step.line is not None:
            step.filename = name
        yield step


def _text(summary: traceback.TracebackException) -> str:
    text = _cells_unquoted(shortened("".join(summary.format())))
    return text if summary.stack or not text.startswith(HEADER) else body_of(text)


def _cells_unquoted(text: str) -> str:
    """Replace `File "In [4]", line 2` by `In [4], line 2`, because a cell is not a path."""
    return re.sub(
        r'^(\s*(?:\| )*\s*)File "((?:In \[\d+\]|%%\w[^"\n]*))", line ', r"\1\2, line ", text, flags=re.M
    )
