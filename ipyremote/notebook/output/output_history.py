"""The refs and handles that IPython's memory of outputs keeps alive: in `Out`, `_`, `__`, `___` and names such as `_5`.

As long as such a ref exists, its value stays in the object store, although no name of the notebook refers to it.
"""

from __future__ import annotations

import gc
import re
import sys
from collections.abc import Iterator
from typing import Any, Final

from ipyremote.actor import ActorHandle
from ipyremote.refs import ObjectRef

__all__ = ["all_refs", "free", "kept"]

_NUMBERED: Final = re.compile(r"_\d+")
_LATEST: Final = ("_", "__", "___")
#: Limits of the search in nested values: depth, and number of items of each container.
_DEPTH: Final = 5
_ITEMS: Final = 100_000


def all_refs(value: Any, depth: int = _DEPTH) -> Iterator[ObjectRef[Any] | ActorHandle[Any]]:
    """Yield the refs and handles in a value, also inside lists, tuples, sets and dictionaries."""
    if isinstance(value, ObjectRef | ActorHandle):
        yield value
    elif isinstance(value, list | tuple | set | frozenset | dict) and depth:
        parts = value.values() if isinstance(value, dict) else value
        for number, part in enumerate(parts):
            if number >= _ITEMS:
                return
            yield from all_refs(part, depth - 1)


def kept(shell: Any) -> dict[str, list[ObjectRef[Any] | ActorHandle[Any]]]:
    """Return the refs and handles by the place that keeps them, such as `Out[3]`."""
    found: dict[str, list[ObjectRef[Any] | ActorHandle[Any]]] = {}
    out = shell.user_ns.get("Out", {})
    for number, value in list(out.items()) if isinstance(out, dict) else ():
        refs = list(all_refs(value))
        if refs:
            found[f"Out[{number}]"] = refs
    for name in _LATEST:
        refs = list(all_refs(shell.user_ns.get(name)))
        if refs:
            found[name] = refs
    return found


def free(shell: Any) -> int:
    """Forget the outputs with refs or handles, and the last traceback. Returns the number of outputs."""
    found = kept(shell)
    space = shell.user_ns
    hook = shell.displayhook
    for name in found:
        if name.startswith("Out["):
            number = int(name[4:-1])
            space["Out"].pop(number, None)
            space.pop(f"_{number}", None)
        else:
            space[name] = ""
            if hasattr(hook, name):
                setattr(hook, name, "")
    # A name such as `_5` may outlive its entry in `Out`.
    for name in [name for name in space if _NUMBERED.fullmatch(name)]:
        if next(all_refs(space[name]), None) is not None:
            del space[name]
    for name in ("last_exc", "last_value", "last_traceback"):
        if hasattr(sys, name):
            setattr(sys, name, None)
    count = len(found)
    found.clear()
    gc.collect()
    return count
