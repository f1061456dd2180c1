"""The named actors of an inline session, and what code in its tasks can ask about itself."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from ipyremote.actor import ActorHandle
from ipyremote.backend import ActorOptions, Exported, NamedHandle, TaskOptions
from ipyremote.backend.current_task import ActorExit, Identity
from ipyremote.backends.inline.objects import InlineActor
from ipyremote.declare.methods import record_of

if TYPE_CHECKING:
    from ipyremote.backends.inline.backend import InlineBackend

__all__ = ["InlineInside", "InlineNames"]


class InlineNames:
    """Method contracts are those of `backend.ActorNames`."""

    def __init__(self, backend: InlineBackend) -> None:
        self._backend = backend
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
            actor_id, label = self._backend.create_actor(exported, args, kwargs, options, actor)
            named = NamedHandle(actor.name, namespace, actor_id, label, record)
            self._table[namespace, actor.name] = named
        return named, True

    def find(self, name: str, namespace: str = "") -> NamedHandle | None:
        key = (namespace or self.namespace, name)
        named = self._table.get(key)
        if named is None or self._backend.is_alive(named.actor_id):
            return named
        del self._table[key]
        return None

    def all(self, *, everywhere: bool = False) -> list[NamedHandle]:
        keys = sorted(key for key in self._table if everywhere or key[0] == self.namespace)
        return [named for space, name in keys if (named := self.find(name, space)) is not None]


class InlineInside:
    """Method contracts are those of the functions in `inside.py`."""

    def __init__(self, backend: InlineBackend) -> None:
        self._backend = backend

    def exit_actor(self) -> NoReturn:
        actor = self._actor()
        if actor is None:
            raise TypeError("exit_actor() is for methods of actors, and this code does not run in one.")
        reason = f"The actor {actor.label} has left by exit_actor()."
        self._backend.end(actor, reason)
        raise ActorExit(reason)

    def is_canceled(self) -> bool:
        if self._backend.running is None:
            raise RuntimeError(
                "is_canceled() is for tasks and methods of actors; nobody can cancel this program"
            )
        return False  # Each has ended before anybody has its ref.

    def current_actor(self) -> Any:
        actor = self._actor()
        if actor is None:
            raise RuntimeError("This code does not run in an actor, so there is no current actor.")
        options = actor.options
        groups = tuple(name for name, _ in options.groups)
        record = record_of(type(actor.instance), options.max_task_retries, options.max_pending_calls, groups)
        return ActorHandle(actor.actor_id, self._backend, actor.label, record, weak=True)

    def identity(self) -> Identity:
        return self._backend.identity

    def _actor(self) -> InlineActor | None:
        running = self._backend.running
        return running if isinstance(running, InlineActor) else None
