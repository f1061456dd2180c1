"""Which displays show which object. Any thread may ask; only the updater's changes it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ipyremote.backend import Backend

if TYPE_CHECKING:
    from ipyremote.notebook.display.displays import ScreenDisplay

__all__ = ["Subscriptions"]


class Subscriptions:
    """Displays by object. An entry lives as long as its displays, and with them the backend whose id it has."""

    def __init__(self) -> None:
        self._of: dict[tuple[int, int], list[ScreenDisplay]] = {}

    def has(self, backend: Backend | None, object_id: int) -> bool:
        """Whether any display shows it."""
        return (id(backend), object_id) in self._of

    def of(self, backend: Backend, object_id: int) -> tuple[ScreenDisplay, ...]:
        """Those that show it."""
        return tuple(self._of.get((id(backend), object_id), ()))

    def add(self, display: ScreenDisplay, backend: Backend, ids: Iterable[int]) -> None:
        """A display shows these from now on."""
        for object_id in ids:
            displays = self._of.setdefault((id(backend), object_id), [])
            if display not in displays:
                displays.append(display)

    def remove(self, display: ScreenDisplay, backend: Backend | None, ids: Iterable[int]) -> list[int]:
        """A display does not show these any more; those of them that none shows now."""
        lonely = []
        for object_id in dict.fromkeys(ids):
            displays = self._of.get((id(backend), object_id))
            if displays is not None and display in displays:
                displays.remove(display)
                if not displays:
                    self.forget(backend, object_id)
                    lonely.append(object_id)
        return lonely

    def forget(self, backend: Backend | None, object_id: int) -> None:
        """No display shows it any more."""
        self._of.pop((id(backend), object_id), None)
