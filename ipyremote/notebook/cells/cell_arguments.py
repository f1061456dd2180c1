"""What may stand behind `%%remote`: its flags, their help, and what they come to.

The help of `%%remote?` is made of this. Everything that is wrong with a line is a UsageError, which IPython shows as
one sentence, and nothing runs.
"""

from __future__ import annotations

import json
import keyword
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from IPython.core.error import UsageError
from IPython.core.magic_arguments import argument, parse_argstring

from ipyremote.backend import TaskOptions
from ipyremote.declare.options import TASK_OPTIONS, check_options, task_options
from ipyremote.notebook.output.cell_output import CELL_LABEL

__all__ = ["FLAGS", "CellArguments", "parsed", "takes_cell_arguments"]


@dataclass(frozen=True, slots=True)
class CellArguments:
    """The flags of one cell, checked."""

    #: What the cell's ref, or value, is bound to.
    name: str | None = None
    #: Names to send; None: those that the cell reads.
    inputs: tuple[str, ...] | None = None
    #: Names that the cell binds and the notebook gets.
    outputs: tuple[str, ...] = ()
    block: bool = False
    session: str | None = None
    #: Whether names that it reads are sent.
    capture: bool = True
    quiet: bool = False
    #: Seconds it may run.
    timeout: float | None = None
    #: `num_cpus` and others, as a task has them.
    options: tuple[tuple[str, Any], ...] = ()
    #: What the cell is called.
    label: str = CELL_LABEL

    def task_options(self) -> TaskOptions:
        """For the task that runs the cell."""
        given = {"max_retries": 0, **dict(self.options), "name": self.label}
        return task_options({**given, "num_returns": 1 + len(self.outputs)})


#: (names, details) of each flag, in the order of the help.
_FLAGS: Final[tuple[tuple[tuple[str, ...], dict[str, Any]], ...]] = (
    (("name",), {"nargs": "?", "default": None, "help": "bind the cell's ref to this name in the notebook"}),
    (
        ("-i", "--input"),
        {
            "metavar": "a,b",
            "action": "append",
            "help": "send these names of the notebook, and no others; modules come anyway",
        },
    ),
    (
        ("-o", "--output"),
        {
            "metavar": "x,y",
            "action": "append",
            "help": "names that the cell binds: in the notebook they become refs of their values",
        },
    ),
    (
        ("-b", "--block"),
        {
            "action": "store_true",
            "help": "wait, and behave like a local cell: the value is shown and bound, an error is raised here",
        },
    ),
    (
        ("-s", "--session"),
        {
            "metavar": "SESSION",
            "help": "run in the session of that name, whose variables stay for its next cell",
        },
    ),
    (("--num-cpus",), {"metavar": "F", "help": "CPUs it needs (1); for a session: while it lives (0)"}),
    (("--num-gpus",), {"metavar": "F", "help": "GPUs it needs (0)"}),
    (
        ("--resources",),
        {"metavar": "JSON", "help": "amounts of other resources that it needs: '{\"disk\": 1}'"},
    ),
    (
        ("--retries",),
        {
            "metavar": "N",
            "help": "run it again up to N times when it raises or its worker dies (0; -1: without end)",
        },
    ),
    (("--timeout",), {"metavar": "S", "help": "end it with a TimeoutError after it ran for S seconds"}),
    (("--name",), {"dest": "title", "metavar": "LABEL", "help": "what to call it in displays"}),
    (("--no-capture",), {"action": "store_true", "help": "send nothing that -i does not name"}),
    (
        ("-q", "--quiet"),
        {"action": "store_true", "help": "show what the cell prints, but neither its ref nor what was sent"},
    ),
)

_FLAG_OF: Final = {"num_cpus": "--num-cpus", "num_gpus": "--num-gpus", "max_retries": "--retries"}

#: All flags with their help, for completion.
FLAGS: Final[dict[str, str]] = {
    name: str(details["help"]) for names, details in _FLAGS for name in names if name.startswith("-")
}


def takes_cell_arguments(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Declare the flags of a magic, below `magic_arguments`."""
    for names, details in reversed(_FLAGS):
        fn = argument(*names, **details)(fn)  # type: ignore[no-untyped-call]  # IPython has no hints here
    return fn


def parsed(magic: Callable[..., Any], line: str) -> CellArguments:
    """What a line means. Raises UsageError."""
    try:
        given = parse_argstring(magic, line)  # type: ignore[no-untyped-call]  # IPython has no hints here
    except UsageError as error:
        raise UsageError(f"%%remote: {error}. `%%remote?` explains the flags.") from None
    name = given.name
    if name is not None:
        _check_name(name, "a ref can be bound to")
    inputs = None if given.input is None else _names(given.input, "-i")
    outputs = _names(given.output or [], "-o")
    if given.session is not None and not given.session.isidentifier():
        raise UsageError(f"%%remote: a session has a plain name, not {given.session!r}")
    if given.session is not None and given.retries is not None:
        raise UsageError(
            "%%remote: cells of a session are not repeated, because what they did stays: no --retries"
        )
    title = _unquoted(given.title) if given.title is not None else name
    return CellArguments(
        name=name,
        inputs=inputs,
        outputs=outputs,
        block=given.block,
        session=given.session,
        capture=not given.no_capture,
        quiet=given.quiet,
        timeout=_positive(given.timeout),
        options=_options(given),
        label=f"{CELL_LABEL} {title}" if title else CELL_LABEL,
    )


def _names(parts: list[str], flag: str) -> tuple[str, ...]:
    for part in parts:
        if part.endswith(","):
            # What comes after the space would silently become the NAME, or a stray argument.
            raise UsageError(f"%%remote: names behind {flag} have no spaces between them: {flag} a,b")
    names = [name.strip() for part in parts for name in _unquoted(part).split(",") if name.strip()]
    for name in names:
        _check_name(name, f"{flag} can take")
    return tuple(dict.fromkeys(names))


def _check_name(name: str, what: str) -> None:
    if not name.isidentifier() or keyword.iskeyword(name):
        raise UsageError(f"%%remote: {name!r} is not a name that {what}")


def _options(given: Any) -> tuple[tuple[str, Any], ...]:
    options: dict[str, Any] = {}
    for name in ("num_cpus", "num_gpus"):
        text = getattr(given, name)
        if text is not None:
            options[name] = _number(text, name)
    if given.retries is not None:
        options["max_retries"] = _number(given.retries, "retries", whole=True)
        options["retry_exceptions"] = True
    if given.resources is not None:
        try:
            options["resources"] = json.loads(_unquoted(given.resources))
        except ValueError as error:
            raise UsageError(f"%%remote: --resources is JSON, such as '{{\"disk\": 1}}': {error}") from None
    try:
        check_options(options, TASK_OPTIONS, "a remote cell")
    except (TypeError, ValueError, NotImplementedError) as error:
        raise UsageError(f"%%remote: {_in_flags(str(error))}") from None
    return tuple(options.items())


def _in_flags(sentence: str) -> str:
    """A sentence about options, with the flags that set them."""
    return re.sub(
        r"\b(num_cpus|num_gpus|max_retries)\b(=(\S+))?",
        lambda found: f"{_FLAG_OF[found[1]]}{f' {found[3]}' if found[3] else ''}",
        sentence,
    )


def _number(text: str, name: str, *, whole: bool = False) -> float:
    try:
        return int(text) if whole else float(text)
    except ValueError:
        kind = "whole number" if whole else "number"
        raise UsageError(f"%%remote: --{name.replace('_', '-')} is a {kind}, not {text!r}") from None


def _positive(text: str | None) -> float | None:
    if text is None:
        return None
    seconds = _number(text, "timeout")
    if not 0 < seconds < 1e9:
        raise UsageError(f"%%remote: --timeout is a number of seconds above 0, not {text}")
    return seconds


def _unquoted(text: str) -> str:
    """IPython leaves the quotes around an argument."""
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text
