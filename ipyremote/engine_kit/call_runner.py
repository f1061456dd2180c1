"""A runner of calls in threads of this process: waits for arguments, calls user code, settles the returns."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ipyremote.actor import ActorHandle
from ipyremote.backend import ActorOptions, Backend, TaskOptions
from ipyremote.declare.methods import record_of
from ipyremote.engine_kit.failures import PickledFailure
from ipyremote.engine_kit.listener_reporter import ReportingTask
from ipyremote.engine_kit.object_table import ObjectTable
from ipyremote.engine_kit.outcomes import Outcome, keeping, method_of, outcomes_of
from ipyremote.engine_kit.submitted_calls import SubmittedCall, SubmittedCalls
from ipyremote.ids import NOBODY, ActorId, ObjectId
from ipyremote.remote_cells import Installation

__all__ = ["CallRunner", "ThreadActor", "ThreadActors"]


@dataclass(slots=True)
class ThreadActor:
    """An actor, whose calls run one after another in a thread of the actor's own."""

    creation: SubmittedCall
    options: ActorOptions
    cls: Callable[..., Any]
    instance: Any = None
    #: Reason of the actor's death; None while the actor is alive.
    death: PickledFailure | None = None
    restarts: int = 0
    thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "ipyremote-actor"))
    #: Event loop of an async actor; one for life, because locks and queues of asyncio belong to one loop.
    loop: asyncio.Runner = field(default_factory=asyncio.Runner)

    def end(self, reason: str) -> str:
        """Declare the actor dead, unless it is; return the reason of its death. A running method goes on."""
        if self.death is None:
            self.death = PickledFailure("actor_died", reason)
        return self.death.text

    def close(self) -> None:
        """Drop the instance and the event loop after the waiting calls have run."""

        def drop() -> None:
            self.instance = None
            self.loop.close()

        self.thread.submit(drop)
        self.thread.shutdown(wait=False)


class CallRunner:
    """A runner of calls in threads. A limited number of tasks run at a time; methods of actors are not counted."""

    def __init__(
        self, objects: ObjectTable, calls: SubmittedCalls, shown: Installation[ReportingTask], limit: int
    ) -> None:
        """Begin without calls. `shown` reports the output of calls; up to `limit` tasks, at least 1, run at a time."""
        self._objects = objects
        self._shown = shown
        self._turns = threading.Semaphore(limit)
        #: The calls that this process submits and runs.
        self.calls = calls

    def new(
        self,
        name: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        options: TaskOptions,
        *,
        actor_id: ActorId = NOBODY,
        creates_actor: bool = False,
        resources: tuple[tuple[str, int], ...] | None = None,
    ) -> SubmittedCall:
        """Make a call, as `SubmittedCalls.new` does, which the caller runs, now or later.

        The call's returns are in the object table from now on, and all objects and actors that the call refers to are
        held until the call has run.
        """
        call = self.calls.new(
            name,
            args,
            kwargs,
            options,
            actor_id=actor_id,
            creates_actor=creates_actor,
            resources=resources,
        )
        for any_id in call.needs:
            self._objects.hold(any_id)
        state = "waiting" if call.arguments.deps else "ready"
        self._objects.expect(call.first, call.label, call.options.returns, state=state)
        return call

    @contextmanager
    def blocked(self) -> Iterator[None]:
        """Give the calling task's turn to another task while the calling task waits in this block."""
        has_turn = self.calls.is_inside and not self.calls.identity().actor
        if has_turn:
            self._turns.release()
        try:
            yield
        finally:
            if has_turn:
                self._turns.acquire()

    def run(
        self,
        call: SubmittedCall,
        target: Callable[[], Callable[..., Any]],
        actor: ThreadActor | None = None,
    ) -> PickledFailure | None:
        """Run a call on this thread to its end; return why it has failed, or None. `target()` gives the function."""
        returns = call.options.returns
        failure = self._objects.first_failure(call.arguments.deps)
        outcomes: Sequence[Outcome] = ()
        if failure is None:
            with self._turns if actor is None else nullcontext(), self.calls.inside(call):
                failure = actor.death if actor is not None else None
                if failure is None:
                    with self._shown.running(call.reporting):
                        self._objects.start(call.first, returns)
                        outcomes = self._attempt(call, target, actor)
        if failure is not None:
            outcomes = self._objects.held(failure, returns)
        for object_id, outcome in enumerate(outcomes, call.first):
            self._objects.settle(object_id, outcome)  # type: ignore[arg-type]  # an id plus an index is an id
        failed = (outcome for outcome in outcomes if isinstance(outcome, PickledFailure))
        for any_id in call.needs:
            self._objects.release(any_id)
        return next(failed, None)

    def _attempt(
        self, call: SubmittedCall, target: Callable[[], Callable[..., Any]], actor: ThreadActor | None
    ) -> Sequence[Outcome]:
        def prepare() -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
            return target(), *call.arguments.open(self._objects.get(call.arguments.deps))

        hold = self._objects.hold
        run_coroutine = None if actor is None else actor.loop.run
        try:
            return outcomes_of(prepare, call.label, call.options, hold, run_coroutine=run_coroutine)
        except SystemExit as error:
            reason = f"{call.label} ended the process that it ran in: {type(error).__name__}: {error}"
            kind = "worker_crashed" if actor is None else "actor_died"
            failure = PickledFailure(kind, reason if actor is None else actor.end(reason))
            return [failure] * call.options.returns


class ThreadActors:
    """The actors of a session, each in a thread of this process."""

    def __init__(self, objects: ObjectTable) -> None:
        self._objects = objects
        self._actors: dict[ActorId, ThreadActor] = {}

    def resources_of(self, actor_id: ActorId) -> tuple[tuple[str, int], ...]:
        """Return the resources that an actor has for life."""
        actor = self._actors.get(actor_id)
        return () if actor is None else actor.options.resources

    def handle_of(self, actor_id: ActorId, backend: Backend) -> ActorHandle[Any]:
        """Return a weak handle of an actor."""
        actor = self._actors[actor_id]
        options = actor.options
        groups = tuple(name for name, _ in options.groups)
        record = record_of(type(actor.instance), options.max_task_retries, options.max_pending_calls, groups)
        return ActorHandle(actor_id, backend, actor.creation.label, record, weak=True)

    def create(
        self, runner: CallRunner, call: SubmittedCall, cls: Callable[..., Any], options: ActorOptions
    ) -> None:
        """Start an actor; `call` is the call of the actor's class."""
        actor = self._actors[call.first] = ThreadActor(call, options, cls)
        # A restart needs the arguments again.
        for any_id in call.arguments.refs:
            self._objects.hold(any_id)
        actor.thread.submit(self._begin, runner, actor)

    def _begin(self, runner: CallRunner, actor: ThreadActor) -> None:
        call = actor.creation
        failure = runner.run(call, lambda: keeping(actor.cls, partial(setattr, actor, "instance")), actor)
        if failure is not None and actor.death is None:
            text = f"The actor {call.label} died because its __init__ failed: {failure.text}"
            actor.death = failure._replace(kind="actor_died", text=text)

    def call(self, runner: CallRunner, actor_id: ActorId, method: str, call: SubmittedCall) -> None:
        """Queue the call of a method behind all earlier calls of the actor."""
        actor = self._actors.get(actor_id)
        if actor is None:
            failure = PickledFailure("actor_died", "The actor is not in this session any more.")
            self._objects.fail(call.first, call.options.returns, failure)
            return
        leave = runner.calls.exit_actor
        actor.thread.submit(runner.run, call, lambda: method_of(actor.instance, method, leave), actor)

    def leave(self, actor_id: ActorId) -> str:
        """End an actor whose code has asked for the end; return the reason of its death."""
        actor = self._actors[actor_id]
        return actor.end(f"The actor {actor.creation.label} has left by exit_actor().")

    def kill(self, runner: CallRunner, actor_id: ActorId, *, no_restart: bool) -> None:
        """End or restart an actor; see `Backend.kill`. A running method goes on."""
        actor = self._actors.get(actor_id)
        if actor is None or actor.death is not None:
            return
        if no_restart or actor.restarts == actor.options.max_restarts:
            actor.end(f"The actor {actor.creation.label} was killed by kill().")
            return
        actor.restarts += 1
        for any_id in actor.creation.arguments.refs:
            self._objects.hold(any_id)
        actor.thread.submit(self._begin, runner, actor)

    def drop(self, any_id: ObjectId) -> None:
        """Close an actor that nobody holds; do nothing if the id is not an actor's."""
        actor = self._actors.pop(any_id, None)
        if actor is not None:
            for inner in actor.creation.arguments.refs:
                self._objects.release(inner)
            actor.close()
