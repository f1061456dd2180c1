"""The story of a task: what happened to it, step by step, for error texts and for people."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

__all__ = ["Step", "told"]


class Step(NamedTuple):
    """One step of a story."""

    #: The `now` of the event that caused it.
    when: float
    text: str


def told(steps: Iterable[Step] | None) -> str:
    """A story as lines, times relative to its first step."""
    lines = []
    first: float | None = None
    for when, text in steps or ():
        if first is None:
            first = when
        lines.append(f"  +{when - first:.3f} s  {text}")
    return "\n".join(lines)
