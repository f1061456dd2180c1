"""The states of a board's refs for the front end's grid: all states, or those that changed since the last time.

    whole     one byte for each ref: the index of its state in `html.STATES`
    changes   four bytes for each changed ref, little-endian: its place times 8, plus the index of its state

A ref that changed several times is sent once. All states are sent where the changes would be longer.
"""

from __future__ import annotations

import struct
from typing import Final, Literal

from ipyremote.notebook.display.html import STATES

__all__ = ["CODES", "Grid"]

CODES: Final = {state: code for code, state in enumerate(STATES)}


class Grid:
    """The states of a board's refs. All refs are pending at first."""

    __slots__ = ("_changed", "states")

    def __init__(self, count: int) -> None:
        self.states = bytearray(count)
        #: Places in the order in which they changed.
        self._changed: dict[int, None] = {}

    def set(self, place: int, state: str) -> None:
        """Set the state of the ref at this place."""
        self.states[place] = CODES[state]
        self._changed[place] = None

    def take(self) -> tuple[Literal["whole", "changes"], bytes] | None:
        """Return the form and the bytes to send, or None if nothing has changed since the last call."""
        if not self._changed:
            return None
        changed, self._changed = self._changed, {}
        if len(changed) * 4 >= len(self.states):
            return "whole", bytes(self.states)
        codes = self.states
        numbers = [place << 3 | codes[place] for place in changed]
        return "changes", struct.pack(f"<{len(numbers)}I", *numbers)

    def whole(self) -> tuple[Literal["whole", "changes"], bytes]:
        """Return all states, for a page that has none yet."""
        self._changed.clear()
        return "whole", bytes(self.states)
