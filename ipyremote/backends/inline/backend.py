"""The inline backend: a task runs in this process before its `.remote()` returns. For debugging and teaching.

This backend is not fast and runs nothing in parallel, but a program means the same here as on a cluster: arguments and
results are copies that went through the pickler, a value that cannot be pickled is refused, `get` raises a task's
failure, and values are dropped with their last ref. Functions are called as they are, so breakpoints and coverage work
in them, and their prints appear at once. Differences: globals that a task changes stay changed, a task cannot be
cancelled because it has ended before anybody has its ref, the calls of an async actor run one after the other,
`max_calls` has no effect, and `runtime_env` is refused because its variables would outlive the task. `objects.py` has
the objects and their holders.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from ipyremote import settings
from ipyremote.actor import ActorHandle
from ipyremote.backend import (
    DYNAMIC,
    ActorOptions,
    Backend,
    Capabilities,
    CurrentTask,
    Environments,
    Exported,
    History,
    Identity,
    IdKind,
    Insight,
    Listener,
    NodeStatus,
    Origin,
    Recovery,
    StateReport,
    TaskOptions,
)
from ipyremote.backend.placement import NODE_ID
from ipyremote.backend.registry import Keeper
from ipyremote.backends.inline.actor_names import InlineActorNames
from ipyremote.backends.inline.call_stack import InlineCurrentTask, InlineStack, identity_of
from ipyremote.backends.inline.objects import InlineActor, InlineObjects, InlineOutcome
from ipyremote.backends.inline.placement_groups import InlinePlacementGroups
from ipyremote.backends.inline.runner import InlineRunner, process_ended
from ipyremote.backends.inline.streams import InlineStream, InlineStreams, Steps, collected
from ipyremote.declare.methods import record_of
from ipyremote.engine_kit.call_arguments import PickledCall
from ipyremote.engine_kit.call_context import Label, Running
from ipyremote.engine_kit.failures import PickledFailure, check_size
from ipyremote.engine_kit.outcomes import is_retried, method_of, value_of
from ipyremote.exceptions import IPyRemoteSystemError
from ipyremote.ids import DRIVER, ActorId, IdSource, ObjectId, TaskId, digits_of, hex_of
from ipyremote.refs import ObjectRef, id_for
from ipyremote.serialization import pickling
from ipyremote.serialization.nested_refs import collect

__all__ = ["CAPABILITIES", "ENGINE", "InlineBackend"]

#: What a session in this process can do.
CAPABILITIES: Final = Capabilities(
    engine="inline",
    parallel_tasks='With backend="inline" nothing runs while somebody waits.',
    worker_processes='With backend="inline" tasks run in this process, which cannot be killed for one of them.',
    cancellation='With backend="inline" each task runs inside its .remote() call, so cancelling comes too late.',
    runtime_env=(
        "runtime_env needs processes of its own, which backend='inline' does not have. Set environment "
        "variables and import modules in the program itself."
    ),
    max_calls='With backend="inline" tasks run in this process, which goes on.',
    keep_alive="keep_alive needs worker processes, which backend='inline' does not have",
    insight=(
        'With backend="inline" each task runs inside its .remote() call, so there is nothing to list. '
        'ipyremote.util.state needs a session of processes: init(backend="local").'
    ),
    history='With backend="inline" a task runs inside its .remote() call, and cannot be run again by a click.',
    output='With backend="inline" the program itself prints the text of tasks.',
)

_Target = Callable[[], Callable[..., Any]]
_NEVER_HEARD_OF: Final = PickledFailure("actor_died", "The actor is not in this session any more.")


class InlineBackend:
    """See the module docstring. Method contracts are those of `backend.Backend`."""

    def __init__(
        self,
        *,
        num_cpus: float | None = None,
        num_gpus: float | None = None,
        resources: Mapping[str, float] | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        """Make a session. The amounts limit the resources that one task may ask for."""
        self.key = secrets.token_hex(20)
        self.released: deque[ObjectId] = deque()
        #: Gives back one hold of a ref. Finalizers call this function, so it is the deque's own `append`.
        self.release: Callable[[ObjectId], None] = self.released.append
        self.cell = 0
        #: Reason why the session cannot be used any more; empty while the session can be used.
        self.ended = ""
        amounts = {
            **(resources or {}),
            "CPU": settings.detect_cpus() if num_cpus is None else num_cpus,
            "GPU": num_gpus or 0,
            "memory": (resources or {}).get("memory", settings.detect_memory()),
        }
        self._total = {name: float(amount) for name, amount in sorted(amounts.items()) if amount}
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._ids = IdSource(DRIVER)
        self._objects = InlineObjects(self.released)
        self.streams = InlineStreams(self._objects)
        #: Submitter of the calls that this thread makes: the program, or the running task.
        self._stack = InlineStack(Running(driver=DRIVER))
        self._listener: Listener | None = None
        self._labels = {NODE_ID: hex_of(self.key, 0), **(labels or {})}
        self._runner = InlineRunner(self._objects, self._stack, lambda ref: id_for(ref, self), self._say)
        self.named_actors = InlineActorNames(self.create_actor, self.is_alive)
        self.current_task: CurrentTask = InlineCurrentTask(self._stack, self._handle_of)
        self.placement_groups = InlinePlacementGroups(
            self._objects, self._stack, self.named_actors, self._total, self._labels
        )
        self.capabilities = CAPABILITIES
        self.address = ""
        self.shared_directory: Path | None = None
        self.is_worker = False
        self.insight: Insight | None = None
        self.history: History | None = None
        self.environments: Environments | None = None
        self.recovery: Recovery | None = None

    # ------------------------------------------------------------------------------------------------- submissions

    def define(self, target: Callable[..., Any], name: str) -> Exported:
        self._enter()
        payload, _ = pickling.dumps_function(target)
        check_size(name, len(payload))
        return Exported(target, name, pickling.digest(payload))

    def submit(
        self, exported: Exported, args: tuple[Any, ...], kwargs: Mapping[str, Any], options: TaskOptions
    ) -> tuple[TaskId, str]:
        self._enter()
        _refuse_environment(options)
        copies = self._runner.pack(args, kwargs)
        first, label = self._mint(options.name or exported.name, options.returns)
        options = replace(options, place=self._stack.task.place_for(options.place))
        refusal = self.placement_groups.refusal("task", f"{label} can never run", options)
        if refusal is not None:
            self._objects.seal(first, str(label), [refusal] * options.returns)
        else:
            self._run(first, label, lambda: exported.target, copies, options)
        return first, str(label)

    def create_actor(
        self,
        exported: Exported,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        options: TaskOptions,
        actor: ActorOptions,
    ) -> tuple[ActorId, str]:
        self._enter()
        _refuse_environment(options)
        copies = self._runner.pack(args, kwargs)
        first, label = self._mint(exported.name, 1)
        options = replace(options, place=self._stack.task.place_for(options.place))
        make = partial(self._make, exported.target, copies)
        state = InlineActor(actor, first, label, make, copies.refs, options.place)
        self._objects.add_actor(first, state)
        state.death = self.placement_groups.refusal("actor", f"{label} can never start", options)
        if state.death is None:
            self._start(state)
        outcome = state.death if state.death is not None else self._runner.outcome(None)
        self._objects.seal(first, str(label), [outcome])
        if actor.detached:
            self._objects.hold(first)
        return first, str(label)

    def is_alive(self, actor_id: ActorId) -> bool:
        """Return whether an actor is alive."""
        self._enter()
        actor = self._objects.actor(actor_id)
        return actor is not None and actor.death is None

    def call(
        self,
        actor_id: ActorId,
        class_name: str,
        method: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        options: TaskOptions,
    ) -> tuple[TaskId, str]:
        self._enter()
        copies = self._runner.pack(args, kwargs)
        first, label = self._mint(options.name or f"{class_name}.{method}", options.returns)
        actor = self._objects.actor(actor_id)
        if actor is None or actor.death is not None:
            death = actor.death if actor is not None else None
            self._objects.seal(first, str(label), [death or _NEVER_HEARD_OF] * options.returns)
        else:
            self._run(
                first,
                label,
                lambda: method_of(actor.instance, method, self.current_task.exit_actor),
                copies,
                options,
                actor,
            )
        return first, str(label)

    def _make(self, cls: Callable[..., Any], packed: PickledCall) -> Any:
        args, kwargs = self._runner.open(packed)
        return cls(*args, **kwargs)

    def _start(self, actor: InlineActor) -> None:
        """Make the actor's instance, or set the actor's death if that fails."""
        try:
            identity = identity_of(actor.actor_id, actor.label, actor.options.resources, actor)
            with self._stack.inside(actor.label, actor, identity):
                actor.instance = actor.make()
            actor.death = None
        except KeyboardInterrupt:
            raise
        except SystemExit as error:  # an exit that on a cluster would end the actor's process
            actor.end(process_ended(actor.label, error))
        except BaseException as error:  # any exception of user code
            failure = self._runner.failure(error, actor.label)
            text = f"The actor {actor.label} died because its __init__ failed: {failure.text}"
            actor.death = PickledFailure("actor_died", text, failure.data, failure.refs)

    # ------------------------------------------------------------------------------------------------- running

    def _run(
        self,
        first: TaskId,
        label: Label,
        target: _Target,
        packed: PickledCall,
        options: TaskOptions,
        actor: InlineActor | None = None,
    ) -> None:
        """Run user code until the code succeeds or no retry is left, and seal the returns."""
        if options.stream not in (0, DYNAMIC):
            identity = identity_of(first, label, options.resources, actor, options.place)
            steps = Steps(self._runner, self._stack, label, target, packed, options, actor, identity)
            self.streams.open(first, InlineStream(steps, label, self._ids.take, packed.refs))
            return
        started = time.perf_counter()
        failed = self._runner.failed_dependency(packed)
        if failed is not None:
            self._objects.seal(first, str(label), [failed] * options.returns)
            return
        left = options.max_retries
        identity = identity_of(first, label, options.resources, actor, options.place)
        while True:
            try:
                if options.stream:
                    steps = Steps(self._runner, self._stack, label, target, packed, options, actor, identity)
                    result = collected(steps, partial(self._add_item, label))
                else:
                    result = self._runner.call(label, target, packed, options.returns, actor, identity)
                outcomes = self._runner.outcomes(result, options.returns)
                break
            except KeyboardInterrupt:
                raise
            except SystemExit as error:  # an exit that on a cluster would end the task's process
                outcomes = [self._runner.crash(process_ended(label, error), actor)] * options.returns
                break
            except BaseException as error:  # any exception of user code
                if not left or not is_retried(error, options.retry_exceptions):
                    outcomes = [self._runner.failure(error, label)] * options.returns
                    break
                left -= 1
        self._objects.seal(first, str(label), outcomes, time.perf_counter() - started)

    def _add_item(self, label: Label, outcome: InlineOutcome) -> ObjectRef[Any]:
        """Add an object for an item of a task with num_returns="dynamic"; return a ref to the object."""
        with self._lock:
            object_id = self._ids.take()
        self._objects.seal(object_id, str(label), [outcome])
        return ObjectRef(object_id, self, str(label))

    def _handle_of(self, actor: InlineActor) -> ActorHandle[Any]:
        options = actor.options
        groups = tuple(name for name, _ in options.groups)
        record = record_of(type(actor.instance), options.max_task_retries, options.max_pending_calls, groups)
        return ActorHandle(actor.actor_id, self, str(actor.label), record, weak=True)

    def _say(self, text: str) -> None:
        if self._listener is not None:
            self._listener.on_notice(self.cell, text)
        else:
            print(f"ipyremote: {text}", file=sys.stderr)

    def _mint(self, name: str, returns: int) -> tuple[TaskId, Label]:
        with self._lock:
            return self._ids.take(returns), self._stack.task.label_of(name)

    def identity(self) -> Identity:
        return self._stack.identity

    def origin(self) -> Origin:
        # Everything runs in the program itself, one call after the other, so there is no origin to carry over.
        return contextlib.nullcontext

    def hex_of(self, kind: IdKind, any_id: int) -> str:
        return digits_of(self.key, kind, any_id)

    def export_ref(self, any_id: ObjectId, *, weak: bool = False) -> ObjectId:
        if not weak and not collect(any_id):
            self.hold(any_id)
        return any_id

    def import_ref(self, exported: ObjectId, *, weak: bool = False) -> ObjectId:
        if not weak:
            self.hold(exported)
        return exported

    # ------------------------------------------------------------------------------------------------------ values

    def free(self, ids: Sequence[ObjectId]) -> None:
        self._enter()
        self._objects.free(ids)

    def put(self, value: Any) -> tuple[ObjectId, str]:
        self._enter()
        pickled = value_of(value)
        first, label = self._mint("put", 1)
        self._objects.seal(first, str(label), [pickled])
        return first, str(label)

    def get(self, ids: Sequence[ObjectId], timeout: float | None = None) -> list[Any]:
        self._enter()
        return self._runner.values(ids)

    def wait(self, ids: Sequence[ObjectId], num_returns: int, timeout: float | None = None) -> list[ObjectId]:
        self._enter()
        return list(ids[:num_returns])

    def is_ready(self, object_id: ObjectId) -> bool:
        # A negative id is a stream's next item, which is made when asked for and so is always ready.
        return object_id < 0 or (
            self._objects.peek(object_id) is not None and not self.streams.is_open(object_id)
        )

    def on_ready(self, object_id: ObjectId, callback: Callable[[ObjectId], None]) -> None:
        self._enter()
        callback(object_id)

    # ----------------------------------------------------------------------------------------------------- control

    def cancel(self, object_id: ObjectId, *, force: bool = False, recursive: bool = True) -> None:
        """End a stream. Any other task has ended before anybody has its ref, so there is nothing to cancel."""
        self._enter()
        found = self._objects.peek(object_id)
        if found is not None and self.streams.is_open(object_id):
            failure = PickledFailure("task_cancelled", f"{found.label} was cancelled.")
            self.streams.end(object_id, failure)

    def kill(self, actor_id: ActorId, *, no_restart: bool = True) -> None:
        self._enter()
        actor = self._objects.actor(actor_id)
        if actor is None or actor.death is not None:
            return
        limit = actor.options.max_restarts
        if no_restart or limit == actor.restarts:
            actor.end(f"The actor {actor.label} was killed by kill().")
            return
        actor.restarts += 1
        actor.instance = None
        self._start(actor)

    def watch(self, ids: Sequence[ObjectId]) -> None:
        self._enter()
        listener = self._listener
        for any_id in ids:
            found = self._objects.peek(any_id)
            if listener is not None and found is not None:
                outcome = found.outcome
                state, detail = "done", ""
                if self.streams.is_open(any_id):
                    state = "ready"
                elif isinstance(outcome, PickledFailure):
                    state, detail = "failed", outcome.line
                listener.on_update(StateReport(any_id, state, found.label, found.seconds, detail))

    def unwatch(self, ids: Sequence[ObjectId]) -> None:
        """Do nothing: `watch` has reported the state of each object at once, and no other follows."""

    def explain(self, object_id: ObjectId) -> str:
        self._enter()
        found = self._objects.peek(object_id)
        if found is not None and self.streams.is_open(object_id):
            return f"{found.label} goes on when its next item is asked for."
        return f"{found.label} has ended." if found is not None else "No such object is in this session."

    def resources(self) -> tuple[dict[str, float], dict[str, float]]:
        self._enter()
        return dict(self._total), self.placement_groups.free()

    def nodes(self) -> tuple[NodeStatus, ...]:
        node = self.hex_of("node", 0)
        return (NodeStatus(node, socket.gethostname(), "127.0.0.1", dict(self._total), dict(self._labels)),)

    def listen(self, listener: Listener | None) -> None:
        self._listener = listener

    def shutdown(self) -> None:
        if not self.ended and os.getpid() == self._pid:
            self.ended = "The session was shut down: refs and handles made in it are not valid any more."
            self._objects.clear()

    def hold(self, any_id: ObjectId) -> None:
        self._enter()
        self._objects.hold(any_id)

    def _enter(self) -> None:
        """Raise IPyRemoteSystemError unless the session can be used; drop objects that finalizers have released."""
        if self.ended:
            raise IPyRemoteSystemError(self.ended)
        if os.getpid() != self._pid:
            raise IPyRemoteSystemError(
                f"This process (pid {os.getpid()}) was forked from a process with an ipyremote session (pid "
                f"{self._pid}) and cannot use that session. Start work from the original process, or "
                "pass results back to it."
            )
        if self.released:
            self._objects.drop_released()


def _refuse_environment(options: TaskOptions) -> None:
    """Raise NotImplementedError where a task or actor asks for an environment."""
    if options.runtime_env:
        raise NotImplementedError(
            "runtime_env needs processes of its own, and backend='inline' runs everything in this one. Set environment "
            "variables and import modules in the program itself, or use the default backend."
        )


class _InlineEngine:
    """The engine of sessions in this process. Method contracts are those of `backend.registry.Engine`."""

    def __init__(self) -> None:
        self.capabilities = CAPABILITIES
        self.keeper: Keeper | None = None

    def start(self, arguments: Mapping[str, Any]) -> Backend:
        memory = {"memory": arguments["memory"]} if "memory" in arguments else {}
        return InlineBackend(
            num_cpus=arguments.get("num_cpus"),
            num_gpus=arguments.get("num_gpus"),
            resources={**arguments.get("resources", {}), **memory},
            labels=arguments.get("labels"),
        )

    def join(self, address: str, arguments: Mapping[str, Any]) -> tuple[Backend, Mapping[str, Any]]:
        raise ConnectionError(
            f"init(address={address!r}): an inline session belongs to its own process and cannot be joined. Start one "
            'with init(backend="inline").'
        )


#: The engine, for the registry.
ENGINE: Final = _InlineEngine()
