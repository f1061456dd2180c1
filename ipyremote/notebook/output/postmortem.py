"""`%debug` of a failure in a task: the traceback goes on in frames that look like those of the task.

A frame of another process cannot be had. Here stands one that was stopped at the same line of the same file and has
the same variables, as far as they came along (`tracebacks.Frame.values`). Nothing in it can be stepped or changed. A
cell is called by its number, `<In [4]>`, and its text is that of the notebook's history.
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
#: Something that raises without needing a name.
_STOP: Final = compile("0 / 0", "<task>", "exec")


def extend_traceback(error: TaskError, shell: Any) -> None:
    """Let the error's traceback go on inside the task, without frames of ours, and have debuggers look at that."""
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
    """Of the error, or of the first one in a group that has some."""
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
    """One step of the traceback: a frame that was stopped where the task's was."""
    name = _file_of(frame, shell)
    code = _STOP.replace(co_filename=name, co_name=frame.function, co_firstlineno=max(frame.lineno, 1))
    known = {TASK_FRAME: frame.task, "__name__": f"task {frame.task}", "__file__": name}
    here: TracebackType | None = None
    try:
        exec(code, known, dict(frame.values))
    except ZeroDivisionError as stopped:
        # The first step is this function.
        here = stopped.__traceback__ and stopped.__traceback__.tb_next
    assert here is not None, "the code raises"
    return TracebackType(following, here.tb_frame, here.tb_lasti, frame.lineno)


def _file_of(frame: Frame, shell: Any) -> str:
    """The name under which `linecache` has the frame's source."""
    if linecache.getline(frame.filename, frame.lineno).strip() == frame.source.strip():
        return frame.filename
    cell = _CELL.fullmatch(frame.filename)
    lines = _history(shell, int(cell[1])) if cell else []
    if frame.lineno > len(lines) or lines[frame.lineno - 1].strip() != frame.source.strip():
        # All that is known is the line itself.
        lines = [*[""] * (frame.lineno - 1), frame.source]
    name = f"<{frame.filename.strip('<>')}>"
    text = [f"{line}\n" for line in lines]
    linecache.cache[name] = (sum(map(len, text)), None, text, name)
    return name


def _history(shell: Any, number: int) -> list[str]:
    cells = shell.history_manager.input_hist_raw
    return str(cells[number]).splitlines() if number < len(cells) else []
