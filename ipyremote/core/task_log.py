"""The story of a task: the events of its life, step by step, for error texts and for people."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

__all__ = ["Step", "told"]


class Step(NamedTuple):
    """One step of a story."""

    #: Time of the event that caused the step, in seconds.
    when: float
    text: str


def told(steps: Iterable[Step] | None) -> str:
    """Return a story as lines of text, with times in seconds since its first step."""
    lines = []
    first: float | None = None
    for when, text in steps or ():
        if first is None:
            first = when
        lines.append(f"  +{when - first:.3f} s  {text}")
    return "\n".join(lines)
