"""`display` in a worker, and the other functions of IPython that publish: displays go to the cell of the task.

`display` is among the built-in names, as in a notebook; its first call imports IPython for its formatters. If user code
imports IPython by itself, the functions that would ask a shell to publish are replaced right after the import. Rules.

- Text that was printed before a display is reported before the display. All is reported before the task's result.
- Updates of one display are reported at most ten times a second, and the last one always (see `rate_limit.py`).
- A process that user code forked cannot reach the driver, so it prints the text of a display.
"""

from __future__ import annotations

import base64
import builtins
import dataclasses
import datetime
import enum
import functools
import importlib
import json
import os
import sys
from collections.abc import Callable, Hashable, Mapping
from types import ModuleType
from typing import Any, Final, Generic, TypeVar

from ipyremote.backend.reporter import DISPLAY_LIMIT, Reporter
from ipyremote.remote_cells.changes import Changes
from ipyremote.remote_cells.figures import Figures, png
from ipyremote.remote_cells.output import OutputCapture
from ipyremote.remote_cells.rate_limit import Pacer

__all__ = ["Displays", "installed", "plain_display"]

Task = TypeVar("Task", bound=Hashable)

#: Modules that re-export the functions of `IPython.core.display_functions`.
_TAKERS: Final = ("IPython", "IPython.display", "IPython.core.display")


class _InstalledDisplays:
    """The displays of this process, if the process is a worker."""

    displays: Displays[Any] | None = None


def installed() -> Displays[Any] | None:
    """Return the displays of this process; None where `install` was not called."""
    return _InstalledDisplays.displays


class Displays(Generic[Task]):
    """The displays of a worker's tasks. Thread-safe."""

    def __init__(
        self,
        reporter: Reporter[Task],
        owner: Callable[[], Task],
        output: OutputCapture[Task],
        wake: Callable[[], None],
        *,
        shared: bool = False,
    ) -> None:
        """Report displays to `reporter`. `owner`, `wake` and `shared` are those of `output`."""
        self._owner = owner
        self._shared = shared
        self._output = output
        self._report = reporter.display
        self._updates: Pacer[tuple[Task, bytes]] = Pacer(lambda update: self._report(*update), wake)
        #: IPython's `DisplayFormatter`; None before the first display.
        self._formatter: Any = None
        #: IPython's module `display_functions`; None before its import.
        self._functions: Any = None
        self._pid = os.getpid()
        self.figures = Figures(self.publish)
        output.attach(self)

    def install(self, changes: Changes) -> None:
        """Provide `display`, and adapt IPython and matplotlib, now or when they are imported."""
        changes.replace(_InstalledDisplays, displays=self)
        former = vars(builtins).get("display", plain_display)
        changes.replace(builtins, display=self._or_else(self.display, former))
        changes.after_import("IPython.core.display_functions", lambda module: self._adapt(module, changes))
        if not self._shared:
            self.figures.install(changes)

    def _or_else(self, ours: Callable[..., Any], former: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that calls `ours` for tasks and `former` for other code of a shared process."""
        if not self._shared:
            return ours

        @functools.wraps(former)
        def call(*args: Any, **options: Any) -> Any:
            return (former if self._owner() is None else ours)(*args, **options)

        return call

    # ------------------------------------------------------------------------------------------- what user code calls

    def display(
        self,
        *objects: Any,
        include: Any = None,
        exclude: Any = None,
        metadata: dict[str, Any] | None = None,
        transient: dict[str, Any] | None = None,
        display_id: Any = None,
        raw: bool = False,
        clear: bool = False,
        **options: Any,
    ) -> Any:
        """Do what `IPython.display.display` does, without a shell. Returns a handle if there is a `display_id`."""
        functions = self._functions or _imported()
        if functions is None:
            return plain_display(*objects)
        handle = None
        transient = dict(transient or {})
        if display_id is not None and display_id is not False:
            handle = functions.DisplayHandle(None if display_id is True else display_id)
            transient["display_id"] = handle.display_id
        if options.get("update") and "display_id" not in transient:
            raise TypeError("display_id required for update_display")
        if clear:
            self.clear_output(wait=True)
        for value in objects:
            bundle, details = (value, {}) if raw else self._format(value, include, exclude)
            # An empty bundle means that the object has displayed itself.
            if bundle:
                self.publish(bundle, {**details, **(metadata or {})}, transient=transient, **options)
        return handle

    def publish(
        self,
        data: Mapping[str, Any],
        metadata: Mapping[str, Any] | None = None,
        *,
        transient: Mapping[str, Any] | None = None,
        update: bool = False,
        **_others: Any,
    ) -> None:
        """Report a bundle, as `IPython.display.publish_display_data` does."""
        transient = dict(transient or {})
        content = {
            "kind": "update_display_data" if update else "display_data",
            "data": dict(data),
            "metadata": dict(metadata or {}),
            "transient": transient,
        }
        self._say(content, transient.get("display_id"), update=update)

    def clear_output(self, wait: bool = False) -> None:
        """Do what `IPython.display.clear_output` does."""
        self._say({"kind": "clear_output", "data": {}, "metadata": {}, "transient": {}, "wait": bool(wait)})

    # ----------------------------------------------------------------------------------------------- for the output

    def send_late(self) -> bool:
        """Report updates that have waited long enough. Returns whether any update still waits."""
        return self._updates.send_late()

    def finish(self, task: Hashable) -> None:
        """Report the last updates of a task that has ended."""
        self._updates.finish(task)

    # --------------------------------------------------------------------------------------------------------- inside

    def _say(self, content: dict[str, Any], display_id: str | None = None, *, update: bool = False) -> None:
        if os.getpid() != self._pid:
            text = content["data"].get("text/plain")
            if text:
                print(text)
            return
        task = self._owner()
        encoded = _encoded(content)
        self._output.collect()
        self._output.send_all()
        if display_id is None:
            self._report(task, encoded)
        else:
            self._output.showing.add(task)
            self._updates.post(task, display_id, (task, encoded), now=not update)

    @property
    def formatter(self) -> Any:
        """IPython's formatter, which also the shell of remote cells uses. Imports IPython."""
        if self._formatter is None:
            formatters = importlib.import_module("IPython.core.formatters")
            self._formatter = formatters.DisplayFormatter()
            self._formatter.formatters["image/png"].for_type_by_name("matplotlib.figure", "Figure", png)
        return self._formatter

    def _format(self, value: Any, include: Any, exclude: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        bundle, details = self.formatter.format(value, include, exclude)
        return bundle, details

    def _adapt(self, module: ModuleType, changes: Changes) -> None:
        """Have the functions of IPython, which was just imported, publish here.

        `update_display` and `DisplayHandle` call `display`.
        """
        self._functions = module
        ours: dict[str, Callable[..., Any]] = {
            "display": self.display,
            "publish_display_data": self.publish,
            "clear_output": self.clear_output,
        }
        originals = {name: vars(module).get(name, ours[name]) for name in ours}
        ours = {name: self._or_else(ours[name], originals[name]) for name in ours}
        changes.replace(module, **ours)
        # Modules that were imported before have taken the originals.
        for other in filter(None, map(sys.modules.get, _TAKERS)):
            taken = {name: ours[name] for name in ours if vars(other).get(name, ours) is originals[name]}
            changes.replace(other, **taken)


def plain_display(*objects: Any, **_options: Any) -> None:
    """Print objects, as IPython's `display` does without a notebook."""
    for value in objects:
        print(repr(value))


def _imported() -> ModuleType | None:
    """Return IPython's module `display_functions`; None if IPython is not installed."""
    try:
        return importlib.import_module("IPython.core.display_functions")
    except ImportError:
        return None


# ------------------------------------------------------------------------------------------------------------ as JSON


def _encoded(content: dict[str, Any]) -> bytes:
    """Return a display as JSON; a display that is too large is replaced by a note."""
    encoded = _json(content)
    if len(encoded) <= DISPLAY_LIMIT:
        return encoded
    note = f"(not shown: {len(encoded) / 1e6:,.0f} MB are too much to display)"
    return _json({**content, "data": {"text/plain": note}, "metadata": {}})


def _json(content: dict[str, Any]) -> bytes:
    try:
        return _encoder.encode(content).encode()
    except (UnicodeEncodeError, ValueError, TypeError):
        return _encoder.encode(_sendable(content)).encode()


def _as_json(value: object) -> object:
    """Return a value that JSON can write, in place of a value that JSON cannot write."""
    match value:
        case bytes() | bytearray() | memoryview():
            return base64.b64encode(value).decode("ascii")
        case set() | frozenset():
            return list(value)
        case datetime.datetime() | datetime.date() | datetime.time():
            return value.isoformat()
        case enum.Enum():
            return value.value
        case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        case _:
            # Arrays and numbers of numpy have `tolist`.
            convert = getattr(value, "tolist", None)
            return convert() if callable(convert) else str(value)


_encoder = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=_as_json)


def _sendable(value: Any) -> Any:
    """Return content with replacements for the values that plain JSON cannot carry.

    These values are lone surrogates, as in a file name that is not UTF-8, numbers that are not finite, and keys that
    are not text.
    """
    match value:
        case str():
            return value.encode("utf-8", "replace").decode()
        case float() if value - value != 0:
            return None
        case dict():
            return {_key(key): _sendable(part) for key, part in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_sendable(part) for part in value]
        case None | bool() | int() | float():
            return value
        case _:
            return _sendable(_as_json(value))


def _key(key: Any) -> str:
    return _sendable(key) if isinstance(key, str) else str(key)
