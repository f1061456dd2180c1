"""The arguments of `%%remote`: the flags, their help, and the checked values of one line.

The help of `%%remote?` is made from the flags. A line with a mistake raises a UsageError, which IPython shows as one
sentence; the cell does not run.
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
    """The arguments of one cell, checked."""

    #: Name in the notebook for the cell's ref, or for the value of a blocking cell.
    name: str | None = None
    #: Names to send; None for all that the cell reads.
    inputs: tuple[str, ...] | None = None
    #: Names that the cell binds and that become refs in the notebook.
    outputs: tuple[str, ...] = ()
    #: Whether the notebook waits for the cell.
    block: bool = False
    #: Name of the session that the cell runs in.
    session: str | None = None
    #: Whether the names that the cell reads are sent.
    capture: bool = True
    #: Whether the cell's ref and the note about stored values stay hidden.
    quiet: bool = False
    #: Time that the cell may run, in seconds.
    timeout: float | None = None
    #: Options of the cell's task, such as `num_cpus`, by name.
    options: tuple[tuple[str, Any], ...] = ()
    #: First part of the cell's label in displays.
    label: str = CELL_LABEL

    def task_options(self) -> TaskOptions:
        """Return the options of the task that runs the cell."""
        given = {"max_retries": 0, **dict(self.options), "name": self.label}
        return task_options({**given, "num_returns": 1 + len(self.outputs)})


#: Names and details of each argument, in the order of the help.
_FLAGS: Final[tuple[tuple[tuple[str, ...], dict[str, Any]], ...]] = (
    (("name",), {"nargs": "?", "default": None, "help": "bind the cell's ref to this name in the notebook"}),
    (
        ("-i", "--input"),
        {
            "metavar": "a,b",
            "action": "append",
            "help": "send these names of the notebook and no others; imported modules are always there",
        },
    ),
    (
        ("-o", "--output"),
        {
            "metavar": "x,y",
            "action": "append",
            "help": "names that the cell binds; in the notebook, each becomes a ref of its value",
        },
    ),
    (
        ("-b", "--block"),
        {
            "action": "store_true",
            "help": "wait for the cell, which then behaves like a local one: its value is shown and bound to "
            "NAME, its error is raised here",
        },
    ),
    (
        ("-s", "--session"),
        {
            "metavar": "SESSION",
            "help": "run the cell in the session of this name; the variables of a session stay for its next cell",
        },
    ),
    (
        ("--num-cpus",),
        {
            "metavar": "F",
            "help": "number of CPUs that the cell needs (1); a session holds them while it lives (0)",
        },
    ),
    (("--num-gpus",), {"metavar": "F", "help": "number of GPUs that the cell needs (0)"}),
    (
        ("--resources",),
        {"metavar": "JSON", "help": "amounts of other resources that the cell needs: '{\"disk\": 1}'"},
    ),
    (
        ("--retries",),
        {
            "metavar": "N",
            "help": "run the cell again, up to N times, when it raises an exception or its worker dies "
            "(0; -1 for no limit)",
        },
    ),
    (
        ("--timeout",),
        {"metavar": "S", "help": "end the cell with a TimeoutError after it has run for S seconds"},
    ),
    (("--name",), {"dest": "title", "metavar": "LABEL", "help": "what to call the cell in displays"}),
    (("--no-capture",), {"action": "store_true", "help": "send no names but those behind -i"}),
    (
        ("-q", "--quiet"),
        {
            "action": "store_true",
            "help": "show what the cell prints, but neither its ref nor the note about stored values",
        },
    ),
)

#: The flags of options whose names may stand in a sentence about a wrong value.
_FLAG_OF: Final = {"num_cpus": "--num-cpus", "num_gpus": "--num-gpus", "max_retries": "--retries"}

#: Help of each flag, for tab completion.
FLAGS: Final[dict[str, str]] = {
    name: str(details["help"]) for names, details in _FLAGS for name in names if name.startswith("-")
}


def takes_cell_arguments(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Declare the flags of a magic, below `magic_arguments`."""
    for names, details in reversed(_FLAGS):
        fn = argument(*names, **details)(fn)  # type: ignore[no-untyped-call]  # IPython has no hints here
    return fn


def parsed(magic: Callable[..., Any], line: str) -> CellArguments:
    """Return the checked arguments of a line. Raises UsageError."""
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
        raise UsageError(
            f"%%remote: the name of a session consists of letters, digits and underscores, unlike {given.session!r}"
        )
    if given.session is not None and given.retries is not None:
        raise UsageError(
            "%%remote: --retries does not work with --session: a cell of a session is never run again, because the "
            "variables that it has changed would stay changed"
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
            # The part after the space would silently become the NAME, or a stray argument.
            raise UsageError(
                f"%%remote: write the names behind {flag} without spaces between them: {flag} a,b"
            )
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
            raise UsageError(
                f"%%remote: --resources takes JSON, such as '{{\"disk\": 1}}': {error}"
            ) from None
    try:
        check_options(options, TASK_OPTIONS, "a remote cell")
    except (TypeError, ValueError, NotImplementedError) as error:
        raise UsageError(f"%%remote: {_in_flags(str(error))}") from None
    return tuple(options.items())


def _in_flags(sentence: str) -> str:
    """Return a sentence about options with the flags in place of the options' names."""
    return re.sub(
        rf"\b({'|'.join(_FLAG_OF)})\b(=(\S+))?",
        lambda found: f"{_FLAG_OF[found[1]]}{f' {found[3]}' if found[3] else ''}",
        sentence,
    )


def _number(text: str, name: str, *, whole: bool = False) -> float:
    try:
        return int(text) if whole else float(text)
    except ValueError:
        kind = "whole number" if whole else "number"
        raise UsageError(f"%%remote: --{name.replace('_', '-')} takes a {kind}, not {text!r}") from None


def _positive(text: str | None) -> float | None:
    if text is None:
        return None
    seconds = _number(text, "timeout")
    if not 0 < seconds < 1e9:
        raise UsageError(f"%%remote: --timeout takes a number of seconds above 0, not {text}")
    return seconds


def _unquoted(text: str) -> str:
    """Return an argument without the quotes around it, which IPython leaves there."""
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text
