"""The engines that the contract suite runs over: the only place in the suite that names engines.

Besides these, the suite runs over the engines that installed packages add by an entry point (`backend/registry.py`) and
over those that CONTRACT_ENGINES names, as "module:object" with commas between them.
"""

from __future__ import annotations

import gc
import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ipyremote.backend import current, registry
from ipyremote.backend.registry import Engine
from tests.engines.toy import ENGINE as TOY
from tests.support.waiting import until

__all__ = ["ENGINES", "Contestant", "KeptObjects"]


def _by_insight(backend: Any) -> int:
    # The first request sends the releases so far; the second sees their effect.
    backend.insight.status()
    return int(backend.insight.status().objects)


def _inline_objects(backend: Any) -> int:
    backend.explain(0)
    return len(backend._objects._objects)


@dataclass(frozen=True)
class Contestant:
    """An engine that the suite runs over."""

    engine: Engine
    #: Returns the number of objects that a session keeps; None where nobody can tell.
    count_objects: Callable[[Any], int] | None = _by_insight
    #: Number of the suite's tests that the engine runs at least: saying "I cannot" is no way to pass.
    floor: int = 0
    #: Whether the engine is registered for the suite only.
    is_guest: bool = field(default=False, kw_only=True)


class KeptObjects:
    """The number of objects that a session keeps."""

    def __init__(self, count: Callable[[Any], int]) -> None:
        self._count = count

    def __call__(self) -> int:
        gc.collect()
        return self._count(current.backend())

    def become(self, count: int) -> None:
        """Wait until the session keeps this number of objects."""
        until(lambda: self() == count, f"{count} objects are left")


def _guests() -> dict[str, Contestant]:
    """Return the engines of other packages, by name."""
    others = [registry.engine(name) for name in registry.names() if name not in ("local", "inline")]
    for path in filter(None, os.environ.get("CONTRACT_ENGINES", "").split(",")):
        module, _, name = path.partition(":")
        others.append(getattr(importlib.import_module(module), name))
    return {
        engine.capabilities.engine: Contestant(
            engine, None if engine.capabilities.insight else _by_insight, is_guest=True
        )
        for engine in others
    }


#: The engines by the name that `init(backend=...)` takes.
ENGINES: dict[str, Contestant] = {
    "local": Contestant(registry.engine("local"), floor=183),
    "inline": Contestant(registry.engine("inline"), _inline_objects, floor=176),
    "toy": Contestant(TOY, lambda backend: len(backend.objects), floor=124, is_guest=True),
    **_guests(),
}
