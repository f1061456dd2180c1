"""Keeps the sentence fresh that says why a ref on screen waits. On the updater's thread."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final

from ipyremote.backend import Backend
from ipyremote.notebook.display.displays import ScreenDisplay
from ipyremote.notebook.display.models import RefModel
from ipyremote.notebook.display.updater import UpdateScheduler

__all__ = ["PendingReasons"]

#: Seconds between two questions, and how many refs are asked about.
_INTERVAL: Final = 2.0
_REFS: Final = 20


class PendingReasons:
    """Asks now and then, as long as something on screen waits. The answers come as any change of state does."""

    def __init__(self, updater: UpdateScheduler, displays: Callable[[], Iterable[ScreenDisplay]]) -> None:
        self._updater = updater
        self._displays = displays
        self._asking = False

    def ask(self) -> None:
        """Something waits."""
        if not self._asking:
            self._asking = True
            self._updater.call_later(_INTERVAL, self._ask)

    def _ask(self) -> None:
        self._asking = False
        waiting: dict[Backend, list[int]] = {}
        for display in self._displays():
            backend, opened = display.backend, display.opened
            if backend is None or not display.refs:
                continue
            if isinstance(display.model, RefModel) and display.model.state == "pending":
                waiting.setdefault(backend, []).append(display.refs[0]._id)
            elif opened is not None and opened.model.state == "pending":
                waiting.setdefault(backend, []).append(opened.object_id)
        for backend, ids in waiting.items():
            with suppress(Exception):  # the session has ended, which its displays are told otherwise
                # Each is told its present state anew.
                backend.watch(ids[:_REFS])
                self.ask()
