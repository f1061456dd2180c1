"""Which displays show which object. Any thread may ask; only the updater's thread makes changes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ipyremote.backend import Backend
from ipyremote.ids import ObjectId

if TYPE_CHECKING:
    from ipyremote.notebook.display.displays import ScreenDisplay

__all__ = ["Subscriptions"]


class Subscriptions:
    """Displays by object. An entry's displays keep the backend alive, so the backend's `id` in the key stays unique."""

    def __init__(self) -> None:
        self._of: dict[tuple[int, int], list[ScreenDisplay]] = {}

    def has(self, backend: Backend | None, object_id: ObjectId) -> bool:
        """Return whether any display shows this object."""
        return (id(backend), object_id) in self._of

    def of(self, backend: Backend, object_id: ObjectId) -> tuple[ScreenDisplay, ...]:
        """Return the displays that show this object."""
        return tuple(self._of.get((id(backend), object_id), ()))

    def add(self, display: ScreenDisplay, backend: Backend, ids: Iterable[ObjectId]) -> None:
        """Note that a display shows these objects from now on."""
        for object_id in ids:
            displays = self._of.setdefault((id(backend), object_id), [])
            if display not in displays:
                displays.append(display)

    def remove(
        self, display: ScreenDisplay, backend: Backend | None, ids: Iterable[ObjectId]
    ) -> list[ObjectId]:
        """Note that a display no longer shows these objects. Returns those that no display shows now."""
        lonely = []
        for object_id in dict.fromkeys(ids):
            displays = self._of.get((id(backend), object_id))
            if displays is not None and display in displays:
                displays.remove(display)
                if not displays:
                    self.forget(backend, object_id)
                    lonely.append(object_id)
        return lonely

    def forget(self, backend: Backend | None, object_id: ObjectId) -> None:
        """Note that no display shows this object any more."""
        self._of.pop((id(backend), object_id), None)
