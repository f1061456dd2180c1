"""A worker's answers to what the code that runs in it asks about itself; `backend/current_task.py` asks."""

from __future__ import annotations

from typing import Any, NoReturn

from ipyremote.actor import ActorHandle
from ipyremote.backend import Identity
from ipyremote.backend.current_task import ActorExit
from ipyremote.backend.placement import Place
from ipyremote.client.session import Session
from ipyremote.declare.methods import is_async, record_of
from ipyremote.exceptions import AsyncioActorExit
from ipyremote.ids import NOBODY
from ipyremote.messages import ActorSpec, KillActor, TaskSpec
from ipyremote.serialization import pickling
from ipyremote.worker.host import Assignment, Host

__all__ = ["WorkerCurrentTask"]


class WorkerCurrentTask:
    """The `CurrentTask` of a worker. `backend.current_task` documents each method, under the same name."""

    def __init__(self, session: Session, host: Host) -> None:
        self._session = session
        self._host = host
        #: The creation, the options and the class of the actor that this worker has become; None while it runs tasks.
        self._actor: tuple[TaskSpec, ActorSpec, type] | None = None
        #: Whether the actor's methods are coroutines.
        self.is_async = False
        #: Whether this is not the actor's first process.
        self._restarted = False

    def become(self, spec: TaskSpec, actor: ActorSpec, cls: type) -> None:
        """Take note that this worker is an actor from now on."""
        self._actor = spec, actor, cls
        call = self._session.running.call
        self._restarted = isinstance(call, Assignment) and call.message.attempt > 0
        self.is_async = is_async(cls)

    def exit_actor(self) -> NoReturn:
        if self._actor is None:
            raise TypeError(
                "exit_actor() is for methods of actors, and this is a task. Return from its function, or raise."
            )
        # From this line on, no call that waits here starts.
        self._session.channel.call_locked(self._host.leave)
        self._session.channel.send(KillActor(self._actor[0].task_id), now=True)
        if self.is_async:
            raise AsyncioActorExit("The actor has left by exit_actor().")
        raise ActorExit("The actor has left by exit_actor().")

    def is_canceled(self) -> bool:
        if self.is_async:
            raise RuntimeError(
                "is_canceled() is not for async actors: their coroutines get asyncio.CancelledError."
            )
        call = self._session.running.call
        if call is None:
            raise RuntimeError("is_canceled() is for tasks and methods of actors, and none runs here now")
        return call.cancelled

    def current_actor(self) -> Any:
        if self._actor is None:
            raise RuntimeError("This code runs in a task and not in an actor, so there is no current actor.")
        spec, actor, cls = self._actor
        groups = tuple(name for name, _ in actor.groups)
        record = (
            pickling.loads(actor.record)
            if actor.record
            else record_of(cls, actor.max_task_retries, actor.max_pending_calls, groups)
        )
        return ActorHandle(spec.task_id, self._session, spec.label, record, weak=True)

    def identity(self) -> Identity:
        session = self._session
        call, place = session.running.call, session.running.place or Place()
        message = call.message if isinstance(call, Assignment) else None
        if message is None:
            return Identity(session.client_id)
        spec = message.spec
        if self._actor is None:
            function, resources, actor = self._function_of(spec.digest), spec.resources, NOBODY
        else:
            made, details, cls = self._actor
            actor, resources = made.task_id, details.resources
            function = f"{cls.__module__}.{cls.__qualname__}.{spec.method or '__init__'}"
        return Identity(
            client=session.client_id,
            task=spec.task_id,
            task_name=spec.name,
            function=function,
            actor=actor,
            restarted=self._restarted,
            resources=resources,
            gpus=message.gpus,
            group=place.group_id,
            captures=bool(place.captures),
        )

    def _function_of(self, digest: bytes) -> str:
        defined = self._session.defined
        fn = next((target for target, exported in defined.items() if exported.digest == digest), None)
        return f"{getattr(fn, '__module__', '')}.{getattr(fn, '__qualname__', '')}".strip(".")
