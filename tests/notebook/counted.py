"""Classes of a library, as cells see such classes: the instances count how often they are pickled."""

from __future__ import annotations

from typing import Any

__all__ = ["CountedText", "HiddenText"]


class CountedText:
    """A text that counts how often it was pickled in this process."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.pickled = 0

    def __reduce__(self) -> tuple[Any, ...]:
        self.pickled += 1
        return CountedText, (self.text,)


class HiddenText:
    """A text that counts how often it was pickled in this process, and of which only the pickle has the length."""

    __slots__ = ("pickled", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.pickled = 0

    def __reduce__(self) -> tuple[Any, ...]:
        self.pickled += 1
        return HiddenText, (self.text,)
