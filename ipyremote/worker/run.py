"""One run of a task: open the arguments, call user code, report its result.

Every way out of user code is a report: values, an exception of any kind, a cancellation. Only a SystemExit ends the
worker, as it would end a program; the scheduler then decides about a retry.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final, NoReturn, TypeAlias

from ipyremote.backend.current_task import INTERRUPTIBLE, ActorExit
from ipyremote.backend.placement import Place
from ipyremote.client.session import Session
from ipyremote.engine_kit.call_arguments import fill_slots
from ipyremote.engine_kit.call_context import Running, concurrently
from ipyremote.engine_kit.failures import exception_of, failure_of
from ipyremote.engine_kit.outcomes import drawn, method_of, split
from ipyremote.exceptions import (
    AsyncioActorExit,
    ObjectStoreFullError,
    OutOfDiskError,
    TaskError,
    tracebacks,
)
from ipyremote.ids import ObjectId, TaskId
from ipyremote.messages import (
    DYNAMIC,
    ActorSpec,
    Failure,
    Forward,
    Inline,
    Stored,
    TaskDone,
    TaskFailed,
    TaskSpec,
    Titled,
    Value,
    encode_report,
)
from ipyremote.refs import ObjectRef
from ipyremote.remote_cells.output import OutputCapture
from ipyremote.serialization import pickling
from ipyremote.store.progress_page import ProgressPage
from ipyremote.worker.current_task import WorkerCurrentTask
from ipyremote.worker.host import Assignment, Host
from ipyremote.worker.streams import StreamWriter, collect_items

__all__ = ["Runner"]


#: Variable with the GPUs that a task may use. A `runtime_env` may set it for tasks that were given no GPU.
_DEVICES: Final = "CUDA_VISIBLE_DEVICES"
#: Length of the part of an actor's `__repr__` that stands before the actor's output, in characters.
_TITLE: Final = 80
#: Runs user code: (assignment, fn, args, kwargs) -> the value that `fn` returned.
_Call: TypeAlias = Callable[[Assignment, Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]


class _Cancelled(Exception):
    """Raised where user code was interrupted because its task was cancelled."""


class Runner:
    """Runs assignments on the main thread of this process."""

    def __init__(
        self, session: Session, host: Host, output: OutputCapture[TaskId], progress: ProgressPage
    ) -> None:
        self._session = session
        self._host = host
        self._output = output
        self._progress = progress
        self._functions: dict[bytes, Callable[..., Any]] = {}
        #: The actor that this worker has become, if it has.
        self._instance: Any = None
        #: Where the actor was placed.
        self._place: Place | None = None
        self._current_task = session.current_task = WorkerCurrentTask(session, host)
        #: Number of the latest run that was started at a time with others.
        self._started = 0
        self._started_lock = threading.Lock()

    @property
    def instance(self) -> Any:
        """The actor that this worker has become, or None."""
        return self._instance

    @property
    def is_async(self) -> bool:
        """Whether this worker is an actor whose methods are coroutines."""
        return self._current_task.is_async

    def run(self, assignment: Assignment) -> None:
        """Make a run on the main thread, from the first look at the arguments to the report."""
        run = assignment.message.run
        self._session.running = _running(assignment, self._place)
        self._progress.started(run)
        # The value or the exception of user code. The refs inside must live until the report that names them is on its
        # way, or their release could overtake the report.
        kept: list[Any] = []
        said = self._session.channel.connection.queued
        report = self._attempt(assignment, kept, self._call)
        self._output.collect()
        # A run that sent anything else, such as calls of its own, is not complete before its messages have arrived.
        if self._session.channel.connection.queued == said and not self._output.waiting:
            self._progress.keep(run, encode_report(report))
        self._progress.finished(run)
        self._host.current = None
        self._send(report, now=self._host.empty)
        # The list would live on: an exception holds the frames that hold the list.
        kept.clear()

    def run_on_thread(self, assignment: Assignment, last: Callable[[], bool]) -> None:
        """Make a run on another thread, at a time with others; it cannot be interrupted. `last` as in `run_on_loop`."""
        with concurrently(_running(assignment, self._place)):
            self._start_concurrent(assignment)
            kept: list[Any] = []
            report = self._attempt(assignment, kept, _call_plainly)
            self._output.collect()
            self._send(report, now=last())
            kept.clear()

    async def run_on_loop(self, assignment: Assignment, last: Callable[[], bool]) -> None:
        """Make a run as a coroutine. `last()`: whether no other run follows, so that the report is sent at once."""
        with concurrently(_running(assignment, self._place)):
            self._start_concurrent(assignment)
            started = time.perf_counter()
            kept: list[Any] = []
            try:
                fn, args, kwargs = self._prepare(assignment)
                if assignment.cancelled:
                    raise _Cancelled
                result = fn(*args, **kwargs)
                if assignment.message.spec.stream:
                    result = await self._stream_on_loop(assignment, result)
                elif inspect.isawaitable(result):
                    result = await result
                kept.append(result)
                report: TaskDone | TaskFailed = self._success(assignment, result, started)
            except BaseException as error:  # sorted out by `_error`
                kept.append(error)
                asked = assignment.cancelled and _is_cancellation(error)
                report = self._error(assignment, _Cancelled() if asked else error, started)
            self._output.collect()
            self._send(report, now=last())
            kept.clear()

    def _start_concurrent(self, assignment: Assignment) -> None:
        with self._started_lock:
            self._started = max(self._started, assignment.message.run)
            self._progress.started(self._started)

    def _send(self, report: TaskDone | TaskFailed, *, now: bool) -> None:
        if self._output.waiting:
            self._output.finish(report.task_id)
        self._session.channel.send(report, now=now)

    def _attempt(
        self,
        assignment: Assignment,
        kept: list[Any],
        call: _Call,
    ) -> TaskDone | TaskFailed:
        started = time.perf_counter()
        try:
            fn, args, kwargs = self._prepare(assignment)
            if assignment.message.spec.stream:
                result = self._stream(assignment, call, partial(fn, *args, **kwargs))
            else:
                result = call(assignment, fn, args, kwargs)
            kept.append(result)
            return self._success(assignment, result, started)
        except BaseException as error:  # sorted out by `_error`
            kept.append(error)
            return self._error(assignment, error, started)

    def _success(self, assignment: Assignment, result: Any, started: float) -> TaskDone:
        message = assignment.message
        micros = int((time.perf_counter() - started) * 1e6)
        values, refs = self._results(message.spec, result)
        return TaskDone(message.spec.task_id, message.attempt, values, refs, micros)

    def _error(self, assignment: Assignment, error: BaseException, started: float) -> TaskDone | TaskFailed:
        """Return the report about a run that raised. Does not return if the exception ends the process."""
        spec = assignment.message.spec
        attempt = assignment.message.attempt
        micros = int((time.perf_counter() - started) * 1e6)
        if isinstance(error, _Cancelled):
            failure = Failure("task_cancelled", f"{spec.label} was cancelled while it ran.")
        elif isinstance(error, ActorExit | AsyncioActorExit) and self._host.has_left:
            # The scheduler knows that the actor leaves, and has told the caller.
            failure = Failure("actor_died", str(error))
        elif isinstance(error, SystemExit):
            self._leave(error)
        elif isinstance(error, KeyboardInterrupt):
            # Raised by user code itself or by a signal from outside, not by `cancel`; Ray treats it alike.
            failure = Failure("task_cancelled", f"{spec.label} was interrupted by a KeyboardInterrupt.")
        else:
            failure = self._failure(spec, error)
            if spec.retry_on and self._is_retried(spec, error):
                return TaskFailed(spec.task_id, attempt, failure, micros)
        return TaskDone(spec.task_id, attempt, (failure,) * spec.returns, micros=micros)

    # ------------------------------------------------------------------------------------------------- before the call

    def _prepare(self, assignment: Assignment) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
        message = assignment.message
        spec = message.spec
        values = []
        for object_id, value in zip(spec.deps, assignment.values, strict=True):
            if isinstance(value, Failure):
                raise exception_of(value)
            values.append(self._session.open(object_id, value))
        if spec.packed:
            arguments = values.pop()
        elif spec.args.data:
            arguments = pickling.loads_inline(spec.args)
        else:
            arguments = ((), {})
        args, kwargs = fill_slots(arguments, values)
        if message.gpus or (_DEVICES in os.environ and not self._session.environments.sets(_DEVICES)):
            os.environ[_DEVICES] = ",".join(str(index) for index in message.gpus)
        if message.actor is not None:
            return self._create, (spec, message.actor, args, kwargs), {}
        if spec.actor_id:
            return method_of(self._instance, spec.method, self._current_task.exit_actor), args, kwargs
        return self._function(spec), args, kwargs

    def _function(self, spec: TaskSpec) -> Callable[..., Any]:
        fn = self._functions.get(spec.digest)
        if fn is None:
            payload = self._host.payloads.pop(spec.digest)
            try:
                fn = pickling.loads_function(payload)
            except BaseException:
                self._host.payloads[spec.digest] = payload
                raise
            self._functions[spec.digest] = fn
            self._session.adopt(fn, spec.digest, getattr(fn, "__name__", spec.name))
        return fn

    def _create(
        self, spec: TaskSpec, actor: ActorSpec, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        cls: Any = self._function(spec)
        self._host.is_actor = True
        self._current_task.become(spec, actor, cls)
        self._place = spec.place
        instance = cls(*args, **kwargs)
        self._instance = instance
        self._host.interrupts = getattr(type(instance), INTERRUPTIBLE, False)
        if getattr(type(instance), "__repr__", None) is not object.__repr__:
            with contextlib.suppress(Exception):  # the `__repr__` is the user's
                self._session.channel.send(Titled(_title(repr(instance))))

    # ------------------------------------------------------------------------------------------------------- user code

    def _call(
        self, assignment: Assignment, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        host = self._host
        try:
            host.interruptible = True
            # A cancel that came before `interruptible` was set has interrupted nothing.
            if assignment.cancelled:
                raise _Cancelled
            result = fn(*args, **kwargs)
            if assignment.message.spec.returns != 1 and isinstance(result, Iterator):
                # The body of a generator is user code, too.
                result = drawn(result, assignment.message.spec.returns, assignment.message.spec.label)
            host.interruptible = False
        except KeyboardInterrupt:
            if assignment.cancelled:
                raise _Cancelled from None
            raise
        finally:
            host.interruptible = False
        return result

    def _stream(self, assignment: Assignment, call: _Call, make: Callable[[], Any]) -> Any:
        """Make a generator and send the items that it yields."""
        writer = StreamWriter(self._session, assignment, self._value)
        if writer.unwanted:
            return None

        def step(fn: Callable[..., Any], *args: Any) -> Any:
            # A call on a thread cannot be interrupted, but it ends at its next item.
            if assignment.cancelled:
                raise _Cancelled
            return call(assignment, fn, args, {})

        items = step(make)
        if assignment.message.spec.stream == DYNAMIC:
            return collect_items(items, self._session, step, partial(self._item_failure, assignment))
        writer.write(items, step)
        return None

    async def _stream_on_loop(self, assignment: Assignment, items: Any) -> Any:
        writer = StreamWriter(self._session, assignment, self._value)
        if assignment.message.spec.stream != DYNAMIC:
            await writer.write_async(items)
            return None
        drawn = [item async for item in items] if hasattr(items, "__anext__") else items
        failed = partial(self._item_failure, assignment)
        return collect_items(iter(drawn), self._session, lambda fn, *args: fn(*args), failed)

    def _item_failure(self, assignment: Assignment, error: Exception) -> Failure:
        """Return the last item of a task with num_returns="dynamic" that raised; or raise, to fail the whole task."""
        spec = assignment.message.spec
        if isinstance(error, _Cancelled) or (spec.retry_on and self._is_retried(spec, error)):
            raise error
        return self._failure(spec, error)

    # -------------------------------------------------------------------------------------------------- after the call

    def _results(
        self, spec: TaskSpec, result: Any
    ) -> tuple[tuple[Value, ...], tuple[tuple[ObjectId, ...], ...]]:
        if spec.returns == 1:
            value, refs = self._value(result)
            return (value,), (refs,) if refs else ()
        if spec.returns == 0:
            return (), ()
        items = split(result, spec.returns)
        packed = [self._value(item) for item in items]
        inner = tuple(refs for _, refs in packed)
        return tuple(value for value, _ in packed), inner if any(inner) else ()

    def _value(self, result: Any) -> tuple[Inline | Stored | Forward, tuple[ObjectId, ...]]:
        """Return a value for the wire and the ids of the refs inside the value. A deferred ref stands for its value."""
        if isinstance(result, ObjectRef) and result._deferred:
            return Forward(self._session.id_of(result)), ()
        pickled = pickling.dumps(result)
        return self._session.submitter.pack(pickled), pickled.refs

    def _failure(self, spec: TaskSpec, error: BaseException) -> Failure:
        if isinstance(error, ObjectStoreFullError | OutOfDiskError):
            kind = "store_full" if isinstance(error, ObjectStoreFullError) else "out_of_disk"
            return Failure(kind, str(error))
        captured = TaskError.capture(
            error, label=spec.label, pid=os.getpid(), display_names=tracebacks.received_names()
        )
        return Failure(*failure_of(captured))

    def _is_retried(self, spec: TaskSpec, error: BaseException) -> bool:
        if spec.retry_on == b"*":
            return isinstance(error, Exception)
        cause = error.cause if isinstance(error, TaskError) else error
        with contextlib.suppress(Exception):  # a type that cannot be unpickled here matches nothing
            return isinstance(cause, pickling.loads(spec.retry_on))
        return False

    def _leave(self, error: SystemExit) -> NoReturn:
        """End the process, as user code asked by a SystemExit."""
        self._output.finish(self._session.running.task_id)
        code = error.code
        words = ""
        if not isinstance(code, int):
            words = "" if code is None else f"{code}\n"
            code = 0 if code is None else 1
        with contextlib.suppress(OSError):
            os.write(2, words.encode(errors="replace"))
        self._session.channel.leave()
        os._exit(code & 0xFF)


def _running(assignment: Assignment, place: Place | None) -> Running:
    """Return on whose behalf a run's code runs. `place`: that of the actor, if this worker is one."""
    message = assignment.message
    spec = message.spec
    return Running(
        driver=spec.driver,
        task_id=spec.task_id,
        cell=spec.cell,
        number=spec.number,
        gpus=message.gpus,
        call=assignment,
        place=spec.place or place,
    )


def _title(text: str) -> str:
    """Return a text as one line that is not too long."""
    line = " ".join(text.split())
    return line if len(line) <= _TITLE else f"{line[: _TITLE - 3]}..."


def _is_cancellation(error: BaseException) -> bool:
    """Return whether an error is asyncio's CancelledError. Nobody can raise it who has not imported asyncio."""
    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and isinstance(error, asyncio.CancelledError)


def _call_plainly(
    assignment: Assignment, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    if assignment.cancelled:
        raise _Cancelled
    result = fn(*args, **kwargs)
    spec = assignment.message.spec
    return (
        drawn(result, spec.returns, spec.label)
        if spec.returns != 1 and isinstance(result, Iterator)
        else result
    )
