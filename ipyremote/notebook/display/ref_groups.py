"""Groups of refs: how a group is recognised, and whether all tasks of a group have ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from ipyremote.refs import ObjectRef
from ipyremote.streams import ObjectRefGenerator

__all__ = ["have_ended", "refs_in"]

#: Depth to which nested lists and dicts are searched for refs.
_DEPTH: Final = 4


def refs_in(group: Any, depth: int = _DEPTH) -> list[ObjectRef[Any]] | None:
    """Return the refs in a list, tuple or dict (its values) that holds only refs; None for any other value.

    A generator of refs stands for its end. Subclasses do not count: they have looks of their own.
    """
    parts = group.values() if type(group) is dict else group if type(group) in (list, tuple) else None
    if parts is None or not depth:
        return None
    found: list[ObjectRef[Any]] = []
    for part in parts:
        if isinstance(part, ObjectRef):
            found.append(part)
        elif isinstance(part, ObjectRefGenerator):
            # The end of the stream stands for the generator.
            found.append(part.completed())
        elif (inner := refs_in(part, depth - 1)) is not None:
            found.extend(inner)
        else:
            return None
    return found or None


def have_ended(refs: Sequence[ObjectRef[Any]]) -> bool:
    """Return whether the tasks of these refs of one session have ended, as far as this process knows."""
    backend = refs[0]._backend
    try:
        return backend is None or bool(backend.ended) or all(backend.is_ready(ref._id) for ref in refs)
    except Exception:  # the session has ended, and all its tasks with it
        return True
