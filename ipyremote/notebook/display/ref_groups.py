"""Which values are groups of refs, and which groups have ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from ipyremote.refs import ObjectRef
from ipyremote.streams import ObjectRefGenerator

__all__ = ["have_ended", "refs_in"]

#: Refs in nested lists and dicts are looked for this deep.
_DEPTH: Final = 4


def refs_in(group: Any, depth: int = _DEPTH) -> list[ObjectRef[Any]] | None:
    """The refs in a list, tuple or dict (its values) that holds nothing else; None if there are other things, or none.

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
            # Its end stands for it.
            found.append(part.completed())
        elif (inner := refs_in(part, depth - 1)) is not None:
            found.extend(inner)
        else:
            return None
    return found or None


def have_ended(refs: Sequence[ObjectRef[Any]]) -> bool:
    """Whether all of these refs of one session have, as far as this process knows."""
    backend = refs[0]._backend
    try:
        return backend is None or bool(backend.ended) or all(backend.is_ready(ref._id) for ref in refs)
    except Exception:  # its session has ended, and so has it
        return True
