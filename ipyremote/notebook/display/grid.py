"""The states of a board's refs as the front end's grid needs them: one byte each, and what changed since the last time.

    whole     one byte a ref: the index of its state in `views.STATES`
    changes   four bytes a ref, little-endian: its place times 8, plus the index of its state

A change is sent once, however often a ref changed in between. Where that would be longer, the whole is sent.
"""

from __future__ import annotations

import struct
from typing import Final, Literal

from ipyremote.notebook.display.html import STATES

__all__ = ["CODES", "Grid"]

CODES: Final = {state: code for code, state in enumerate(STATES)}


class Grid:
    """Pure state. All refs are pending at first."""

    __slots__ = ("_changed", "states")

    def __init__(self, count: int) -> None:
        self.states = bytearray(count)
        #: Places in the order in which they changed.
        self._changed: dict[int, None] = {}

    def set(self, place: int, state: str) -> None:
        """The ref at this place is in that state now."""
        self.states[place] = CODES[state]
        self._changed[place] = None

    def take(self) -> tuple[Literal["whole", "changes"], bytes] | None:
        """What to send; None: nothing changed since the last time."""
        if not self._changed:
            return None
        changed, self._changed = self._changed, {}
        if len(changed) * 4 >= len(self.states):
            return "whole", bytes(self.states)
        codes = self.states
        numbers = [place << 3 | codes[place] for place in changed]
        return "changes", struct.pack(f"<{len(numbers)}I", *numbers)

    def whole(self) -> tuple[Literal["whole", "changes"], bytes]:
        """All, for a view that is new."""
        self._changed.clear()
        return "whole", bytes(self.states)
