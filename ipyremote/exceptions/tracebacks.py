"""Tracebacks of tasks as text: taken in the worker from a live exception, shown in the driver.

It knows nothing of tasks beyond a label, and it raises nothing. Rules. Frames of ipyremote itself are left out. A frame
of a notebook cell is named as the notebook names it (`In [4]`), never by the temporary file that stands for it. The
text holds no process id, no address and no time, so that a notebook gives the same text whenever it runs.

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

#: Every file of ipyremote starts with this.
PACKAGE: Final = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
#: The first line of a traceback, as Python writes it.
HEADER: Final = "Traceback (most recent call last):\n"
#: In the globals of a frame that stands for one of a task.
TASK_FRAME: Final = "__ipyremote_task__"
#: The values of so many frames go along with an exception, the innermost ones of the user's own code,
_MOST_FRAMES: Final = 8
#: of so many names in each,
_MOST_NAMES: Final = 40
#: in so many characters together,
_MOST_TEXT: Final = 4_000
#: and for so many seconds.
_MOST_SECONDS: Final = 0.05
#: Types that are simply copied, and how long their text may be.
_SIMPLE: Final = (int, float, complex, bool, str, bytes, type(None))
_MOST_OF_ONE: Final = 400
#: Packages whose `__repr__` takes no longer for a large value than for a small one.
_QUICK: Final = frozenset(
    {"numpy", "pandas", "polars", "torch", "datetime", "pathlib", "decimal", "uuid", "ipyremote"}
)
#: Characters of a text about an exception that are kept, half of them from its end, where the message is.
_MOST_OF_ALL: Final = 1 << 18
_LIBRARY: Final = re.compile(r"/(?:site|dist)-packages/|/lib(?:64)?/python3[^/]*/|<frozen ")


class Likeness:
    """What a variable of a task was: a value that stayed there, by its `repr`, for a debugger to show."""

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

    #: As shown: `In [4]`, or a path.
    filename: str
    lineno: int
    function: str
    #: The line itself without indentation; empty when it is not known.
    source: str
    #: Label of the task in which it ran.
    task: str = ""
    #: Its variables by name: simple values as they were, likenesses of the others. Bounded, and of the innermost
    #: frames only.
    values: tuple[tuple[str, Any], ...] = ()


def display_name(filename: str) -> str | None:
    """`In [4]` for the file that stands for a cell of this process's notebook; None for other files."""
    # IPython's compiler knows its cells. It is asked only where a notebook has loaded it already.
    ipython = sys.modules.get("IPython")
    if ipython is None:
        return None
    shell = ipython.get_ipython()
    name = shell.compile.format_code_name(filename) if shell is not None else None
    if name is None:
        return None
    number = re.fullmatch(r"In\s*\[(\d+)\]", name[1])
    return f"In [{number[1]}]" if number else str(name[1])


#: Name to show for each file of typed code that came from another process, by file name.
_received: dict[str, str] = {}


def register_source(filename: str, name: str, text: str, *, replace: bool = False) -> None:
    """Let tracebacks in this process show a file that exists only in another process.

    `name` is shown for the file, such as "In [4]". `replace`: also where this process knows a text of the file.
    """
    _received[filename] = name
    if replace or filename not in linecache.cache:
        # Without a modification time, linecache does not look for the file.
        linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)


def received_names() -> Mapping[str, str]:
    """Return the names of the files that `register_source` has made known, by file name."""
    return MappingProxyType(_received)


def is_library(filename: str) -> bool:
    """Whether a file is of an installed package or of the standard library, and so not the user's own code."""
    return _LIBRARY.search(filename) is not None


def describe(
    error: BaseException, *, task: str = "", hide: str = PACKAGE, names: Mapping[str, str] | None = None
) -> tuple[str, tuple[Frame, ...]]:
    """The whole text of an exception with its causes, and the frames of the exception itself.

    `hide` is the start of file names to leave out, `names` says how to show file names that mean nothing to a reader.
    """
    summary = _summary(error, hide, names or {})
    return _text(summary), _frames(summary, task, _values(error, hide))


def describe_stack(
    error: BaseException, *, task: str = "", hide: str = PACKAGE, names: Mapping[str, str] | None = None
) -> tuple[str, tuple[Frame, ...]]:
    """Like `describe`, without the causes and without the closing line of the exception itself."""
    summary = _summary(error, hide, names or {})
    return _cells_unquoted(shortened("".join(summary.stack.format()))), _frames(
        summary, task, _values(error, hide)
    )


def body_of(text: str) -> str:
    """A traceback's text without its first line, when that is the usual one."""
    return text.removeprefix(HEADER)


def first_line(kind: str, text: str) -> str:
    """Return one line about a failure: for an error of user code its type and the first line of its message.

    `kind` is a key of `exceptions.FAILURES`, `text` the text of that exception.
    """
    first = text.partition("\n")[0]
    if kind != "task_error":
        return first
    # The traceback below says the same with the type in front, not indented.
    named = (line for line in text.splitlines()[1:] if line.endswith(f": {first}"))
    return next((line for line in named if not line.startswith(" ")), first)


def shortened(text: str) -> str:
    """A text about an exception without its middle, if a message of megabytes is part of it."""
    left_out = len(text) - _MOST_OF_ALL
    if left_out <= 0:
        return text
    half = _MOST_OF_ALL // 2
    return f"{text[:half]}\n[{left_out:,} characters are left out here]\n{text[-half:]}"


def local_lines(trace: TracebackType | None, *, hide: str = PACKAGE, until: str = "") -> list[str]:
    """The frames of this process's own user code, as lines; those of ipyremote and IPython are left out, and what the
    first frame in the file `until` has called."""
    kept: list[traceback.FrameSummary] = []
    for frame, lineno in traceback.walk_tb(trace):
        if str(frame.f_globals.get("__name__", "")).partition(".")[0] in ("IPython", "ipykernel"):
            # They run the cell: what came before is theirs.
            kept.clear()
        elif frame.f_code.co_filename == until or TASK_FRAME in frame.f_globals:
            break
        elif not frame.f_code.co_filename.startswith(hide):
            kept.append(traceback.FrameSummary(frame.f_code.co_filename, lineno, frame.f_code.co_name))
    return _cells_unquoted(
        "".join(traceback.StackSummary.from_list(_renamed(kept, {})).format())
    ).splitlines()


def _summary(error: BaseException, hide: str, names: Mapping[str, str]) -> traceback.TracebackException:
    """The interpreter's own record of an exception, with frames left out and renamed, in its causes and members too."""
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
        # The user has set `sys.tracebacklimit`.
        values = [()] * len(summary.stack)
    return tuple(
        Frame(one.filename, one.lineno or 0, one.name, one.line or "", task, known)
        for one, known in zip(summary.stack, values, strict=True)
    )


def _values(error: BaseException, hide: str) -> list[tuple[tuple[str, Any], ...]]:
    """The variables of each frame that is not left out, as far as the bounds allow, those of the innermost first."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    frames = [frame for frame in frames if not frame.f_code.co_filename.startswith(hide)]
    found: list[tuple[tuple[str, Any], ...]] = [() for _ in frames]
    names = [frame.f_code.co_filename for frame in frames]
    own = [n for n, name in enumerate(names) if not is_library(name) and not name.startswith("<")]
    likenesses = _Likenesses()
    for number in reversed(own[-_MOST_FRAMES:]):
        found[number] = tuple(likenesses.of(frames[number]))
    return found


class _Likenesses(reprlib.Repr):
    """Takes likenesses, until there are enough of them."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = _MOST_OF_ONE
        self._left = _MOST_TEXT
        self._until = time.monotonic() + _MOST_SECONDS

    def of(self, frame: FrameType) -> Iterator[tuple[str, Any]]:
        """Names and values of a frame; of a cell's own code those that the code names."""
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
        except Exception:  # the class is the user's
            return f"<{type(value).__qualname__}>"
        return text if len(text) <= _MOST_OF_ONE else f"{text[: _MOST_OF_ONE - 3]}..."

    def repr_instance(self, x: Any, level: int) -> str:
        """Of a class that `reprlib` does not know: its own `repr` where that is known to be quick."""
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
    """`In [4], line 2` in place of `File "In [4]", line 2`, which would look like a path."""
    return re.sub(
        r'^(\s*(?:\| )*\s*)File "((?:In \[\d+\]|%%\w[^"\n]*))", line ', r"\1\2, line ", text, flags=re.M
    )
