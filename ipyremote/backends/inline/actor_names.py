"""The named actors of an inline session."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from ipyremote.backend import ActorOptions, Exported, NamedHandle, TaskOptions
from ipyremote.ids import ActorId

__all__ = ["InlineActorNames"]

#: Type of `Backend.create_actor`.
CreateActor: TypeAlias = Callable[
    [Exported, tuple[Any, ...], Mapping[str, Any], TaskOptions, ActorOptions], tuple[ActorId, str]
]


class InlineActorNames:
    """Method contracts are those of `backend.ActorNames`."""

    def __init__(self, create_actor: CreateActor, is_alive: Callable[[ActorId], bool]) -> None:
        self._create_actor = create_actor
        self._is_alive = is_alive
        self._lock = threading.RLock()
        self._table: dict[tuple[str, str], NamedHandle] = {}
        self.namespace = "anonymous-1"

    def use(self, namespace: str) -> None:
        self.namespace = namespace

    def create(
        self,
        exported: Exported,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        options: TaskOptions,
        actor: ActorOptions,
        record: Any,
    ) -> tuple[NamedHandle, bool]:
        namespace = actor.namespace or self.namespace
        with self._lock:
            found = self.find(actor.name, namespace)
            if found is not None:
                return found, False
            actor_id, label = self._create_actor(exported, args, kwargs, options, actor)
            named = NamedHandle(actor.name, namespace, actor_id, label, record)
            self._table[namespace, actor.name] = named
        return named, True

    def find(self, name: str, namespace: str = "") -> NamedHandle | None:
        key = (namespace or self.namespace, name)
        named = self._table.get(key)
        if named is None or self._is_alive(named.actor_id):
            return named
        del self._table[key]
        return None

    def all(self, *, everywhere: bool = False) -> list[NamedHandle]:
        keys = sorted(key for key in self._table if everywhere or key[0] == self.namespace)
        return [named for space, name in keys if (named := self.find(name, space)) is not None]
