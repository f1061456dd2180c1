"""Everything in this process, synchronously: a task has run when `.remote()` returns. For debugging and teaching.

It is not fast and nothing runs in parallel, but a program means the same here as on a cluster: arguments and results
are copies that went through the pickler, what cannot be pickled is refused, a failure is raised by `get`, values are
dropped with their last ref. Functions are called as they are, so breakpoints and coverage work in them, and what they
print is printed. What differs: globals that a task changes are really changed, cancelling comes too late, the calls of
an async actor run one after the other, `max_calls` means nothing, and `runtime_env` is refused: what it sets would
stay. What there is, and who holds it, is in `inline_objects.py`.
"""

from __future__ import annotations

import inspect
import os
import secrets
import sys
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

from ipyremote import settings
from ipyremote.backend import ActorOptions, Exported, Listener, TaskOptions
from ipyremote.backend.current_task import Identity
from ipyremote.backend.placement import NODE_ID
from ipyremote.backends.inline.actor_names import InlineInside, InlineNames
from ipyremote.backends.inline.call_stack import InlineStack, identity_of
from ipyremote.backends.inline.objects import (
    InlineActor,
    InlineArguments,
    InlineObjects,
    Outcome,
    is_retried,
    method_of,
    process_ended,
    refuse_environment,
    split,
)
from ipyremote.backends.inline.placement_groups import InlineGroups
from ipyremote.backends.inline.streams import InlineStream, InlineStreams, Steps, collected, drawn
from ipyremote.client.call_context import Running
from ipyremote.client.failures import check_size, failure_of, together
from ipyremote.client.values import fill_slots, pack_arguments
from ipyremote.exceptions import IPyRemoteSystemError, ObjectLostError, TaskError
from ipyremote.ids import DRIVER, IdSource, hex_of
from ipyremote.messages import DYNAMIC, Failure
from ipyremote.refs import ObjectRef, id_for
from ipyremote.serialization import pickling

__all__ = ["InlineBackend"]

_Target = Callable[[], Callable[..., Any]]
_NEVER_HEARD_OF: Final = Failure("actor_died", "The actor is not in this session any more.")


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
        """The amounts limit what one task may ask for."""
        self.key = secrets.token_hex(20)
        self.released: deque[int] = deque()
        self.cell = 0
        #: Why it cannot be used any more; empty while it can.
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
        #: Whose calls are counted on this thread: the program's own, or those of the task that runs.
        self._stack = InlineStack(Running(driver=DRIVER))
        self._listener: Listener | None = None
        self._labels = {NODE_ID: hex_of(self.key, 0), **(labels or {})}
        self.names = InlineNames(self)
        self.inside = InlineInside(self)
        self.groups = InlineGroups(self._objects, self._stack, self.names, self._total, self._labels)

    # ------------------------------------------------------------------------------------------------- submissions

    def define(self, target: Callable[..., Any], name: str) -> Exported:
        self._enter()
        payload, _ = pickling.dumps_function(target)
        check_size(name, len(payload))
        return Exported(target, name, pickling.digest(payload))

    def submit(
        self, exported: Exported, args: tuple[Any, ...], kwargs: Mapping[str, Any], options: TaskOptions
    ) -> tuple[int, str]:
        self._enter()
        refuse_environment(options)
        copies = self._pack(args, kwargs)
        first, label = self._mint(options.name or exported.name, options.returns)
        options = replace(options, place=self._stack.task.place_for(options.place))
        refusal = self.groups.refusal("task", f"{label} can never run", options)
        if refusal is not None:
            self._objects.seal(first, label, [Outcome(refusal)] * options.returns)
        else:
            self._run(first, label, lambda: exported.target, copies, options)
        return first, label

    def create_actor(
        self,
        exported: Exported,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        options: TaskOptions,
        actor: ActorOptions,
    ) -> tuple[int, str]:
        self._enter()
        refuse_environment(options)
        copies = self._pack(args, kwargs)
        first, label = self._mint(exported.name, 1)
        options = replace(options, place=self._stack.task.place_for(options.place))
        make = partial(self._make, exported.target, copies)
        state = InlineActor(actor, first, label, make, copies.refs, options.place)
        self._objects.add_actor(first, state)
        state.death = self.groups.refusal("actor", f"{label} can never start", options)
        if state.death is None:
            self._start(state)
        outcome = Outcome(state.death) if state.death is not None else self._succeeded(None)
        self._objects.seal(first, label, [outcome])
        if actor.detached:
            self._objects.hold(first)
        return first, label

    def is_alive(self, actor_id: int) -> bool:
        """Whether an actor lives."""
        self._enter()
        actor = self._objects.actor(actor_id)
        return actor is not None and actor.death is None

    def call(
        self,
        actor_id: int,
        class_name: str,
        method: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        options: TaskOptions,
    ) -> tuple[int, str]:
        self._enter()
        copies = self._pack(args, kwargs)
        first, label = self._mint(options.name or f"{class_name}.{method}", options.returns)
        actor = self._objects.actor(actor_id)
        if actor is None or actor.death is not None:
            death = actor.death if actor is not None else None
            self._objects.seal(first, label, [Outcome(death or _NEVER_HEARD_OF)] * options.returns)
        else:
            self._run(
                first, label, lambda: method_of(actor, method, self.inside.exit_actor), copies, options, actor
            )
        return first, label

    def _make(self, cls: Callable[..., Any], packed: InlineArguments) -> Any:
        args, kwargs = self._open_arguments(packed)
        return cls(*args, **kwargs)

    def _start(self, actor: InlineActor) -> None:
        """Make the instance; its death is set when that fails."""
        try:
            identity = identity_of(actor.actor_id, actor.label, actor.options.resources, actor)
            with self._stack.inside(actor.label, actor, identity):
                actor.instance = actor.make()
            actor.death = None
        except KeyboardInterrupt:
            raise
        except SystemExit as error:  # It would end the actor's process.
            self.end(actor, process_ended(actor.label, error))
        except BaseException as error:  # Whatever user code raised.
            failure = self._captured(error, actor.label)
            text = f"The actor {actor.label} died because its __init__ failed: {failure.text}"
            actor.death = Failure("actor_died", text, failure.data, failure.refs)

    # ------------------------------------------------------------------------------------------------- running

    def _pack(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> InlineArguments:
        """Pickled arguments with slots for the top-level refs. Raises TypeError naming what cannot be pickled."""
        packed = pack_arguments(args, kwargs, lambda ref: id_for(ref, self))
        data = packed.inline if packed.large is None else pickling.inline(packed.large)
        return InlineArguments(data, packed.deps, (*packed.refs, *packed.deps))

    def _open_arguments(self, packed: InlineArguments) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Fresh copies of the arguments. Raises the first failure among the dependencies."""
        values = self.get(packed.deps)
        arguments = pickling.loads_inline(packed.data) if packed.data.data else ((), {})
        return fill_slots(arguments, values)

    def _run(
        self,
        first: int,
        label: str,
        target: _Target,
        packed: InlineArguments,
        options: TaskOptions,
        actor: InlineActor | None = None,
    ) -> None:
        """Run user code until it succeeds or no retry is left, and seal the returns."""
        if options.stream not in (0, DYNAMIC):
            identity = identity_of(first, label, options.resources, actor, options.place)
            steps = Steps(self, label, target, packed, options, actor, identity)
            self.streams.open(first, InlineStream(steps, label, self._ids.take, packed.refs))
            return
        started = time.perf_counter()
        failed = self._failed_dependency(packed)
        if failed is not None:
            self._objects.seal(first, label, [failed] * options.returns)
            return
        left = options.max_retries
        identity = identity_of(first, label, options.resources, actor, options.place)
        while True:
            try:
                if options.stream:
                    steps = Steps(self, label, target, packed, options, actor, identity)
                    result = collected(steps, self, label)
                else:
                    result = self._called(label, target, packed, options.returns, actor, identity)
                outcomes = self._outcomes(result, options.returns)
                break
            except KeyboardInterrupt:
                raise
            except SystemExit as error:  # It would end the process that runs the task.
                outcomes = [Outcome(self._crashed(process_ended(label, error), actor))] * options.returns
                break
            except BaseException as error:  # Whatever user code raised.
                if not left or not is_retried(error, options.retry_exceptions):
                    outcomes = [Outcome(self._captured(error, label))] * options.returns
                    break
                left -= 1
        self._objects.seal(first, label, outcomes, time.perf_counter() - started)

    def _called(
        self,
        label: str,
        target: _Target,
        packed: InlineArguments,
        returns: int,
        actor: InlineActor | None,
        identity: Identity,
    ) -> Any:
        args, kwargs = self._open_arguments(packed)
        with self._stack.inside(label, actor, identity):
            result = target()(*args, **kwargs)
            if actor is not None and inspect.iscoroutine(result):
                result = self._awaited(actor, result, label)
            # A generator's body is user code too.
            if returns != 1 and isinstance(result, Iterator):
                result = drawn(result, returns, label, self._say)
        return result

    def _awaited(self, actor: InlineActor, awaitable: Awaitable[Any], label: str) -> Any:
        return actor.wait_for(awaitable, partial(self._stack.inside, label, actor, self.identity))

    def _say(self, text: str) -> None:
        if self._listener is not None:
            self._listener.on_notice(self.cell, text)
        else:
            print(f"ipyremote: {text}", file=sys.stderr)

    def _crashed(self, reason: str, actor: InlineActor | None) -> Failure:
        if actor is None:
            return Failure("worker_crashed", reason)
        self.end(actor, reason)
        return Failure("actor_died", reason)

    def _failed_dependency(self, packed: InlineArguments) -> Outcome | None:
        for any_id in packed.deps:
            found = self._objects.find(any_id)
            if found is not None and type(found.outcome.value) is Failure:
                return found.outcome
        return None

    def _outcomes(self, result: Any, returns: int) -> list[Outcome]:
        if returns == 1:
            return [self._succeeded(result)]
        if returns == 0:
            return []
        return [self._succeeded(item) for item in split(result, returns)]

    def _succeeded(self, value: Any) -> Outcome:
        if isinstance(value, ObjectRef) and value._deferred:
            # A deferred ref stands for its value, which is there already.
            found = self._objects.find(id_for(value, self))
            assert found is not None
            return found.outcome
        pickled = pickling.dumps(value)
        # The containing value holds what it refers to, from before the refs of the task itself are gone.
        return Outcome(pickling.inline(pickled), pickled.refs)

    def _captured(self, error: BaseException, label: str) -> Failure:
        return failure_of(TaskError.capture(error, label, self._pid, display_names=pickling.display_names))

    def _mint(self, name: str, returns: int) -> tuple[int, str]:
        with self._lock:
            return self._ids.take(returns), self._stack.task.label_of(name)

    @property
    def identity(self) -> Identity:
        """On whose behalf this thread runs."""
        return self._stack.identity

    @property
    def running(self) -> InlineActor | str | None:
        """What runs on this thread: an actor, a task by its label, or None."""
        return self._stack.what

    # ------------------------------------------------------------------------------------------------------ values

    def free(self, ids: Sequence[int]) -> None:
        self._enter()
        self._objects.free(ids)

    def put(self, value: Any) -> tuple[int, str]:
        self._enter()
        pickled = pickling.dumps(value)
        first, label = self._mint("put", 1)
        self._objects.seal(first, label, [Outcome(pickling.inline(pickled), pickled.refs)])
        return first, label

    def get(self, ids: Sequence[int], timeout: float | None = None) -> list[Any]:
        self._enter()
        values = [self._value(any_id) for any_id in ids]
        if failures := [value for value in values if isinstance(value, Failure)]:
            raise together(failures)
        return [pickling.loads_inline(value) for value in values]

    def _value(self, any_id: int) -> Any:
        """As it travels."""
        found = self._objects.find(any_id)
        if found is None:
            raise ObjectLostError(f"The object {any_id:x} is not in this session.")
        return found.outcome.value

    def wait(self, ids: Sequence[int], num_returns: int, timeout: float | None = None) -> list[int]:
        self._enter()
        return list(ids[:num_returns])

    def is_ready(self, object_id: int) -> bool:
        # The next step of a stream waits for nobody else.
        return object_id < 0 or (
            self._objects.peek(object_id) is not None and not self.streams.is_open(object_id)
        )

    def on_ready(self, object_id: int, callback: Callable[[int], None]) -> None:
        self._enter()
        callback(object_id)

    # ----------------------------------------------------------------------------------------------------- control

    def cancel(self, object_id: int, *, force: bool = False, recursive: bool = True) -> None:
        """Every task has ended by the time that anybody has its ref, but for streams."""
        self._enter()
        found = self._objects.peek(object_id)
        if found is not None and self.streams.is_open(object_id):
            failure = Failure("task_cancelled", f"{found.label} was cancelled.")
            self.streams.end(object_id, Outcome(failure))

    def kill(self, actor_id: int, *, no_restart: bool = True) -> None:
        self._enter()
        actor = self._objects.actor(actor_id)
        if actor is None or actor.death is not None:
            return
        limit = actor.options.max_restarts
        if no_restart or limit == actor.restarts:
            self.end(actor, f"The actor {actor.label} was killed by kill().")
            return
        actor.restarts += 1
        actor.instance = None
        self._start(actor)

    def end(self, actor: InlineActor, reason: str) -> None:
        """An actor is dead."""
        actor.death = Failure("actor_died", reason)
        # Its own code may still be running; what it has is dropped when that ends.
        actor.instance = None

    def watch(self, ids: Sequence[int]) -> None:
        self._enter()
        listener = self._listener
        for any_id in ids:
            found = self._objects.peek(any_id)
            if listener is not None and found is not None:
                value = found.outcome.value
                state, detail = "done", ""
                if self.streams.is_open(any_id):
                    state = "ready"
                elif isinstance(value, Failure):
                    state, detail = "failed", value.line
                listener.on_update(any_id, state, found.label, found.seconds, detail)

    def unwatch(self, ids: Sequence[int]) -> None:
        """Ended states end the watch by themselves."""

    def explain(self, object_id: int) -> str:
        self._enter()
        found = self._objects.peek(object_id)
        if found is not None and self.streams.is_open(object_id):
            return f"{found.label} goes on when its next item is asked for."
        return f"{found.label} has ended." if found is not None else "No such object is in this session."

    def resources(self) -> tuple[dict[str, float], dict[str, float]]:
        self._enter()
        return dict(self._total), self.groups.free()

    def node_labels(self) -> dict[str, str]:
        return dict(self._labels)

    def listen(self, listener: Listener | None) -> None:
        self._listener = listener

    def shutdown(self) -> None:
        if not self.ended and os.getpid() == self._pid:
            self.ended = "The session was shut down: refs and handles made in it are not valid any more."
            self._objects.clear()

    def hold(self, any_id: int) -> None:
        self._enter()
        self._objects.hold(any_id)

    def _enter(self) -> None:
        """Raise unless the session can be used; drop what finalizers have released."""
        if self.ended:
            raise IPyRemoteSystemError(self.ended)
        if os.getpid() != self._pid:
            raise IPyRemoteSystemError(
                f"This process (pid {os.getpid()}) was forked from one with an ipyremote session (pid {self._pid}), "
                "which it cannot use. Start work from the original process, or pass results back to it."
            )
        if self.released:
            self._objects.drop_released()
