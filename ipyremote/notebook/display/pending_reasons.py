"""Keeps the sentences up to date that say why refs on screen are pending. Used on the updater's thread."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final

from ipyremote.backend import Backend
from ipyremote.ids import ObjectId
from ipyremote.notebook.display.displays import ScreenDisplay
from ipyremote.notebook.display.models import RefModel
from ipyremote.notebook.display.updater import UpdateScheduler

__all__ = ["PendingReasons"]

#: Time between two requests, in seconds, and largest number of refs in a request.
_INTERVAL: Final = 2.0
_REFS: Final = 20


class PendingReasons:
    """Asks for the reasons while refs on screen are pending. An answer arrives as an update of the ref's state."""

    def __init__(self, updater: UpdateScheduler, displays: Callable[[], Iterable[ScreenDisplay]]) -> None:
        self._updater = updater
        self._displays = displays
        self._asking = False

    def ask(self) -> None:
        """Ask soon: a ref on screen is pending."""
        if not self._asking:
            self._asking = True
            self._updater.call_later(_INTERVAL, self._ask)

    def _ask(self) -> None:
        self._asking = False
        waiting: dict[Backend, list[ObjectId]] = {}
        for display in self._displays():
            backend, opened = display.backend, display.opened
            if backend is None or not display.refs:
                continue
            if isinstance(display.model, RefModel) and display.model.state == "pending":
                waiting.setdefault(backend, []).append(display.refs[0]._id)
            elif opened is not None and opened.model.state == "pending":
                waiting.setdefault(backend, []).append(opened.object_id)
        for backend, ids in waiting.items():
            with suppress(Exception):  # the session has ended, which its displays learn in another way
                # The backend reports the present state of each watched ref again, with the present reason.
                backend.watch(ids[:_REFS])
                self.ask()
