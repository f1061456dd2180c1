"""The named actors of a session, as the scheduler knows them. Drivers, tasks and actors ask, and wait for the reply."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ipyremote import messages as m
from ipyremote.backend import ActorOptions, Exported, NamedHandle, TaskOptions
from ipyremote.client.submitter import Submitter
from ipyremote.client.value_packing import PackedArguments, spec_of
from ipyremote.ids import ActorId
from ipyremote.serialization import pickling

__all__ = ["SchedulerActorNames", "creation"]


def creation(
    submitter: Submitter,
    exported: Exported,
    packed: PackedArguments,
    options: TaskOptions,
    actor: ActorOptions,
    environment: str,
    record: bytes = b"",
    request: int = 0,
) -> m.CreateActor:
    """Return the message that starts an actor. Needs the channel's lock; the caller is about to make the handle."""
    name = options.name or exported.name
    spec = submitter.spec(exported.digest, name, packed, options, environment=environment)
    return m.CreateActor(spec, spec_of(actor, record), request)


class SchedulerActorNames:
    """Names of actors, looked up and given by the scheduler. `backend.ActorNames` has the contracts of the methods."""

    def __init__(self, submitter: Submitter, ask: Callable[[Callable[[int], Any]], m.Names]) -> None:
        """`ask(message)` sends `message(request number)`, and returns the reply."""
        self._submitter = submitter
        self._ask = ask

    @property
    def namespace(self) -> str:
        # No actor has this name: only the namespace in the reply matters.
        return self._look_up(name="\0").namespace

    def use(self, namespace: str) -> None:
        self._submitter.channel.send(m.UseNamespace(namespace))

    def create(
        self,
        exported: Exported,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        options: TaskOptions,
        actor: ActorOptions,
        record: Any,
    ) -> tuple[NamedHandle, bool]:
        submitter = self._submitter
        pickled = pickling.dumps_whole(record).head
        minted: list[ActorId] = []

        def message(request: int) -> m.CreateActor:
            created = creation(submitter, exported, packed, options, actor, environment, pickled, request)
            minted.append(created.spec.task_id)
            return created

        submitter.channel.check()
        packed = submitter.pack_arguments(args, kwargs)
        environment = submitter.environments.key_of(options.runtime_env)
        created = False
        try:
            (named,) = self._ask(message).actors
            created = named.actor_id == minted[0]
        finally:
            # If the name was refused or the call interrupted, no handle will ever release the new actor.
            submitter.channel.released.extend(minted if not created else ())
            if packed.object_id:
                submitter.channel.released.append(packed.object_id)
        return _opened(named), created

    def find(self, name: str, namespace: str = "") -> NamedHandle | None:
        actors = self._look_up(namespace=namespace, name=name).actors
        return _opened(actors[0]) if actors else None

    def all(self, *, everywhere: bool = False) -> list[NamedHandle]:
        return [_opened(named) for named in self._look_up(everywhere=everywhere).actors]

    def _look_up(self, **fields: Any) -> m.Names:
        driver = self._submitter.running.driver
        return self._ask(lambda request: m.LookUp(request, driver, **fields))


def _opened(named: m.NamedActor) -> NamedHandle:
    record = pickling.loads(named.record)
    return NamedHandle(named.name, named.namespace, named.actor_id, named.label, record)
