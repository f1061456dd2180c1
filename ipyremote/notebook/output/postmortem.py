"""`%debug` of a failure in a task: the traceback goes on in frames that look like those of the task.

A frame cannot leave its process. In its place stands a frame that was stopped at the same line of the same file, with
the same variables as far as they were sent (`tracebacks.Frame.values`). Users can look at such a frame, but cannot step
through it or change the task. The file name of a cell has the cell's number, `<In [4]>`; the cell's text comes from the
notebook's history.
"""

from __future__ import annotations

import linecache
import re
import sys
from types import TracebackType
from typing import Any, Final

from ipyremote.exceptions import TaskError
from ipyremote.exceptions.tracebacks import PACKAGE, TASK_FRAME, Frame

__all__ = ["extend_traceback"]

_CELL: Final = re.compile(r"In \[(\d+)\]")
#: Code that raises an exception and reads no name.
_STOP: Final = compile("0 / 0", "<task>", "exec")


def extend_traceback(error: TaskError, shell: Any) -> None:
    """Extend the error's traceback into the task, without frames of ipyremote, and have debuggers use the result."""
    frames = _frames_of(error)
    if not frames:
        return
    steps = [step for step in _steps(error.__traceback__) if _is_local(step)]
    trace: TracebackType | None = None
    for frame in reversed(frames):
        trace = _like(frame, shell, trace)
    for step in reversed(steps):
        trace = TracebackType(trace, step.tb_frame, step.tb_lasti, step.tb_lineno)
    error.__traceback__ = trace
    if getattr(sys, "last_value", None) is error:
        sys.last_traceback = trace


def _frames_of(error: BaseException) -> tuple[Frame, ...]:
    """Return the task's frames of an error, or those of the first error with frames in a group."""
    if isinstance(error, TaskError) and error.frames:
        return error.frames
    if isinstance(error, BaseExceptionGroup):
        return next((frames for inner in error.exceptions if (frames := _frames_of(inner))), ())
    return ()


def _steps(trace: TracebackType | None) -> list[TracebackType]:
    steps = []
    while trace is not None:
        steps.append(trace)
        trace = trace.tb_next
    return steps


def _is_local(step: TracebackType) -> bool:
    frame = step.tb_frame
    return TASK_FRAME not in frame.f_globals and not frame.f_code.co_filename.startswith(PACKAGE)


def _like(frame: Frame, shell: Any, following: TracebackType | None) -> TracebackType:
    """Return one step of a traceback, with a frame that was stopped at the line where the task's frame was."""
    name = _file_of(frame, shell)
    code = _STOP.replace(co_filename=name, co_name=frame.function, co_firstlineno=max(frame.lineno, 1))
    known = {TASK_FRAME: frame.task, "__name__": f"task {frame.task}", "__file__": name}
    here: TracebackType | None = None
    try:
        exec(code, known, dict(frame.values))
    except ZeroDivisionError as stopped:
        # The first step of the traceback is this function; the next one is the code.
        here = stopped.__traceback__ and stopped.__traceback__.tb_next
    assert here is not None, "the code raises"
    return TracebackType(following, here.tb_frame, here.tb_lasti, frame.lineno)


def _file_of(frame: Frame, shell: Any) -> str:
    """Return the name under which `linecache` has the frame's source."""
    if linecache.getline(frame.filename, frame.lineno).strip() == frame.source.strip():
        return frame.filename
    cell = _CELL.fullmatch(frame.filename)
    lines = _history(shell, int(cell[1])) if cell else []
    if frame.lineno > len(lines) or lines[frame.lineno - 1].strip() != frame.source.strip():
        # Only the line itself is known.
        lines = [*[""] * (frame.lineno - 1), frame.source]
    name = f"<{frame.filename.strip('<>')}>"
    text = [f"{line}\n" for line in lines]
    linecache.cache[name] = (sum(map(len, text)), None, text, name)
    return name


def _history(shell: Any, number: int) -> list[str]:
    cells = shell.history_manager.input_hist_raw
    return str(cells[number]).splitlines() if number < len(cells) else []
