"""`display` in a worker, and everything else that IPython would publish: it goes to the cell that asked for the task.

There is no IPython shell in a worker. `display` is among the built-in names, as in a notebook; its first call imports
IPython for its formatters. Where user code imports IPython by itself, the functions that would ask a shell to publish
are replaced right after the import. Rules.

- What was printed before is sent before. Everything is sent before the task's result.
- Updates of one display go out ten times a second at most, the last one always (see `pacing.py`).
- A copy of the worker that user code forked has no connection: there the text is printed.
"""

from __future__ import annotations

import builtins
import importlib
import os
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, Final

from ipyremote.messages import encode_content
from ipyremote.remote_cells.figures import Figures, png
from ipyremote.remote_cells.import_hooks import after_import
from ipyremote.remote_cells.output import OutputCapture
from ipyremote.remote_cells.rate_limit import Pacer

__all__ = ["Displays"]

#: A larger one is not sent: a notebook that holds it could hardly be opened.
LARGEST: Final = 32 << 20


class Displays:
    """All that tasks of a worker display. Any thread."""

    def __init__(
        self,
        owner: Callable[[], int],
        output: OutputCapture,
        send: Callable[[int, bytes], None],
        wake: Callable[[], None],
    ) -> None:
        """`send(task, content)`, where `content` is that of `messages.Display`."""
        self._owner = owner
        self._output = output
        self._send = send
        self._updates: Pacer[tuple[int, bytes]] = Pacer(lambda update: self._send(*update), wake)
        self._formatter: Any = None
        #: IPython's module, once it is imported.
        self._functions: Any = None
        self._pid = os.getpid()
        self.figures = Figures(self.publish)
        output.attach(self)

    def install(self) -> None:
        """Provide `display`, and adapt IPython and matplotlib, now or when they are imported."""
        vars(builtins)["display"] = self.display
        after_import("IPython.core.display_functions", self._adapt)
        self.figures.install()

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
        """What `IPython.display.display` does, without a shell. Returns a handle if there is a `display_id`."""
        functions = self._functions or _imported()
        if functions is None:
            for value in objects:
                print(repr(value))
            return None
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
            # Empty: the object has displayed itself.
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
        """Send a bundle, as `publish_display_data` does."""
        transient = dict(transient or {})
        content = {
            "kind": "update_display_data" if update else "display_data",
            "data": dict(data),
            "metadata": dict(metadata or {}),
            "transient": transient,
        }
        self._say(content, transient.get("display_id"), update=update)

    def clear_output(self, wait: bool = False) -> None:
        """What `IPython.display.clear_output` does."""
        self._say({"kind": "clear_output", "data": {}, "metadata": {}, "transient": {}, "wait": bool(wait)})

    # ----------------------------------------------------------------------------------------------- for the output

    def send_late(self) -> bool:
        """Send updates that have waited long enough. True: something still waits."""
        return self._updates.send_late()

    def finish(self, task_id: int) -> None:
        """The task has ended: send its last updates."""
        self._updates.finish(task_id)

    # --------------------------------------------------------------------------------------------------------- inside

    def _say(self, content: dict[str, Any], display_id: str | None = None, *, update: bool = False) -> None:
        if os.getpid() != self._pid:
            text = content["data"].get("text/plain")
            if text:
                print(text)
            return
        task_id = self._owner()
        encoded = _encoded(content)
        self._output.collect()
        self._output.send_all()
        if display_id is None:
            self._send(task_id, encoded)
        else:
            self._output.showing.add(task_id)
            self._updates.post(task_id, display_id, (task_id, encoded), now=not update)

    def _format(self, value: Any, include: Any, exclude: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        if self._formatter is None:
            formatters = importlib.import_module("IPython.core.formatters")
            self._formatter = formatters.DisplayFormatter()
            self._formatter.formatters["image/png"].for_type_by_name("matplotlib.figure", "Figure", png)
        bundle, details = self._formatter.format(value, include, exclude)
        return bundle, details

    def _adapt(self, module: ModuleType) -> None:
        """IPython was imported: its functions publish here. `update_display` and `DisplayHandle` call `display`."""
        self._functions = module
        vars(module).update(
            display=self.display, publish_display_data=self.publish, clear_output=self.clear_output
        )


def _imported() -> ModuleType | None:
    """IPython's module of these functions; None where there is no IPython."""
    try:
        return importlib.import_module("IPython.core.display_functions")
    except ImportError:
        return None


def _encoded(content: dict[str, Any]) -> bytes:
    try:
        encoded = encode_content(content)
    except UnicodeEncodeError:
        encoded = encode_content(_sendable(content))
    if len(encoded) <= LARGEST:
        return encoded
    note = f"(not shown: {len(encoded) / 1e6:,.0f} MB are too much to display)"
    return encode_content({**content, "data": {"text/plain": note}, "metadata": {}})


def _sendable(value: Any) -> Any:
    """The same without lone surrogates, as in a file name that is not UTF-8."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_sendable(key): _sendable(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_sendable(part) for part in value]
    return value
