"""The table of a session's objects, for an engine whose results all come to this process: holders, waiting, watching.

The holders of an object are the Python refs to the object, the tasks that need the object (`hold`), and the values that
contain such a ref. An object is dropped with its last holder, and then releases the objects that its value refers to.
Thread-safe. No lock is held while user code runs.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent import futures
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Final

from ipyremote.backend import Listener, StateReport
from ipyremote.engine_kit.failures import PickledFailure, together
from ipyremote.engine_kit.outcomes import Deferred, Outcome, PickledValue, value_of
from ipyremote.exceptions import GetTimeoutError, IPyRemoteSystemError, ObjectLostError
from ipyremote.ids import ObjectId, TaskId
from ipyremote.serialization import pickling
from ipyremote.serialization.nested_refs import collect

__all__ = ["ObjectTable"]


#: Sentence about a task that has not ended, by the task's state.
_EXPLANATIONS: Final = {
    "waiting": "waits for the values of its arguments.",
    "ready": "waits for its turn.",
    "running": "is running.",
    "blocked": "waits for values that it has asked for.",
}


class _FailedObject(Exception):
    """The exception of an object's future when the object's task has failed."""

    def __init__(self, failure: PickledFailure) -> None:
        super().__init__(failure.text)
        self.failure = failure


@dataclass(slots=True)
class _TableObject:
    """An object, with the state of the task that makes it."""

    label: str
    state: str
    #: Value of the object, or a `_FailedObject` as exception.
    future: Future[PickledValue] = field(default_factory=Future)
    #: Number of Python refs, tasks and values that hold the object.
    holders: int = 1
    #: Time at which the task began to run, in seconds of `time.monotonic`; 0.0 before.
    began: float = 0.0
    #: Run time of the task, in seconds; 0.0 before the task's end.
    seconds: float = 0.0
    #: First line of the failure's text; empty otherwise.
    detail: str = ""
    is_watched: bool = False
    #: Ids of the objects and actors that the value refers to.
    refs: tuple[ObjectId, ...] = ()

    def report(self, object_id: ObjectId) -> StateReport:
        """Return the state of the object's task now."""
        seconds = self.seconds or (time.monotonic() - self.began if self.began else 0.0)
        return StateReport(object_id, self.state, self.label, seconds, self.detail)


class ObjectTable:
    """The objects of a session by id. Methods with the name of a `Backend` method keep the contract of that method."""

    def __init__(
        self,
        on_dropped: Callable[[ObjectId], object] = lambda object_id: None,
        blocked: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        """Begin empty. `on_dropped(object_id)` is called for each dropped object; code waits inside `blocked()`."""
        self._blocked = blocked
        self._lock = threading.RLock()
        self._objects: dict[ObjectId, _TableObject] = {}
        self._on_dropped = on_dropped
        self._listener: Listener | None = None
        #: Reason why the table was closed; empty while it is open.
        self._ended = ""
        self._released: deque[ObjectId] = deque()
        #: Gives back one hold of a ref. Finalizers call this function, so it is the deque's own `append`.
        self.release: Callable[[ObjectId], None] = self._released.append

    def __len__(self) -> int:
        """Return the number of objects that somebody holds."""
        self._drop_released()
        return len(self._objects)

    # ----------------------------------------------------------------------------------------------- for the engine

    def expect(self, first: TaskId, label: str, count: int = 1, *, state: str = "ready") -> None:
        """Add the returns of a task, each with one hold for the ref that the caller is about to make."""
        with self._lock:
            if self._ended:
                raise IPyRemoteSystemError(self._ended)
            for object_id in range(first, first + count):
                self._objects[object_id] = _TableObject(label, state)  # type: ignore[index]  # an id plus an index is an id
        self._drop_released()

    def put(self, object_id: ObjectId, label: str, value: Any) -> None:
        """Add an object with its value. Raises TypeError for a value that cannot be pickled."""
        pickled = value_of(value)
        for any_id in pickled.refs:
            self.hold(any_id)
        self.expect(object_id, label)
        self.settle(object_id, pickled)

    def start(self, first: TaskId, count: int = 1) -> None:
        """Note that the task of these objects begins to run."""
        for object_id in range(first, first + count):
            found = self._objects.get(object_id)  # type: ignore[call-overload]  # an id plus an index is an id
            if found is not None and not found.future.done():
                found.state, found.began = "running", time.monotonic()
                self._report(object_id, found)  # type: ignore[arg-type]  # an id plus an index is an id

    def settle(self, object_id: ObjectId, outcome: Outcome) -> None:
        """Give an object its value or failure, or that of another object. Takes over the holds of `outcome.refs`."""
        if isinstance(outcome, Deferred):
            self.on_ready(outcome.object_id, lambda target: self._settle_as(object_id, target))
            return
        with self._lock:
            found = self._objects.get(object_id)
            if found is None or found.future.done():
                self._released.extend(outcome.refs)
                return
            found.refs = outcome.refs
            found.seconds = time.monotonic() - found.began if found.began else 0.0
            found.state = "done"
            if isinstance(outcome, PickledFailure):
                found.state = "cancelled" if outcome.kind == "task_cancelled" else "failed"
                found.detail = outcome.line
        # Outside of the lock, because the future calls its callbacks here.
        if isinstance(outcome, PickledFailure):
            found.future.set_exception(_FailedObject(outcome))
        else:
            found.future.set_result(outcome)
        self._report(object_id, found)

    def outcome(self, object_id: ObjectId) -> Outcome:
        """Wait for an object, and return its value or failure."""
        try:
            return self._find(object_id).future.result()
        except _FailedObject as failed:
            return failed.failure

    def held(self, failure: PickledFailure, count: int) -> list[PickledFailure]:
        """Return `count` copies of a failure that another object has, too, with the holds that `settle` takes over."""
        for any_id in failure.refs * count:
            self.hold(any_id)
        return [failure] * count

    def fail(self, first: TaskId, count: int, failure: PickledFailure) -> None:
        """Give the returns of a task a failure that other objects may have, too."""
        for object_id, one in enumerate(self.held(failure, count), first):
            self.settle(object_id, one)  # type: ignore[arg-type]  # an id plus an index is an id

    def first_failure(self, ids: Sequence[ObjectId]) -> PickledFailure | None:
        """Wait for objects; return the first failure among them."""
        outcomes = [self.outcome(object_id) for object_id in ids]
        return next((outcome for outcome in outcomes if isinstance(outcome, PickledFailure)), None)

    def close(self, reason: str) -> None:
        """Fail all objects without a value, and drop all objects. From now on, looking for an object raises."""
        for object_id in list(self._objects):
            self.settle(object_id, PickledFailure("system", reason))
        with self._lock:
            self._ended = reason
            dropped, self._objects = self._objects, {}
        for object_id in dropped:
            self._on_dropped(object_id)

    # ------------------------------------------------------------------------------------------------- as a backend

    def get(self, ids: Sequence[ObjectId], timeout: float | None = None) -> list[Any]:
        """Return the values in order; see `Backend.get`."""
        self._drop_released()
        waited = [self._find(object_id).future for object_id in ids]
        if all(future.done() for future in waited):
            timeout = 0.0
        with nullcontext() if timeout == 0.0 else self._blocked():
            done, missing = futures.wait(waited, timeout, futures.FIRST_EXCEPTION)
        # The list gives the order of several failures, which the set `done` does not have.
        errors = [future.exception() for future in waited if future in done]
        if failures := [error.failure for error in errors if isinstance(error, _FailedObject)]:
            raise together(failures)
        if missing:
            raise GetTimeoutError(
                f"Get timed out: {len(missing)} of {len(ids)} objects not ready after {timeout:g} s."
            )
        return [pickling.loads_inline(future.result()) for future in waited]

    def wait(self, ids: Sequence[ObjectId], num_returns: int, timeout: float | None = None) -> list[ObjectId]:
        """Return the first ids that are ready; see `Backend.wait`."""
        self._drop_released()
        until = None if timeout is None else time.monotonic() + timeout
        waited = [self._find(object_id).future for object_id in ids]
        left = {future for future in waited if not future.done()}
        while left and len(waited) - len(left) < num_returns:
            rest = None if until is None else max(until - time.monotonic(), 0.0)
            with self._blocked():
                left = futures.wait(left, rest, futures.FIRST_COMPLETED).not_done
            if rest == 0.0:
                break
        ready = [object_id for object_id, future in zip(ids, waited, strict=True) if future.done()]
        return ready[:num_returns]

    def is_ready(self, object_id: ObjectId) -> bool:
        """Return whether an object has a value or a failure."""
        found = self._objects.get(object_id)
        return found is not None and found.future.done()

    def on_ready(self, object_id: ObjectId, callback: Callable[[ObjectId], None]) -> None:
        """Call back once an object has a value or a failure; see `Backend.on_ready`."""
        self._find(object_id).future.add_done_callback(lambda future: callback(object_id))

    def hold(self, any_id: ObjectId) -> None:
        """Count one holder more; see `Backend.hold`."""
        with self._lock:
            if (found := self._objects.get(any_id)) is not None:
                found.holders += 1

    def export_ref(self, any_id: ObjectId, *, weak: bool = False) -> ObjectId:
        """Return the id itself, which any code of this process understands; see `Backend.export_ref`."""
        if not weak and not collect(any_id):
            self.hold(any_id)
        return any_id

    def import_ref(self, exported: ObjectId, *, weak: bool = False) -> ObjectId:
        """Return the id that `export_ref` has returned; see `Backend.import_ref`."""
        if not weak:
            self.hold(exported)
        return exported

    def watch(self, ids: Sequence[ObjectId]) -> None:
        """Report the tasks of these objects, now and at each change; see `Backend.watch`."""
        self._set_watched(ids, True)
        for object_id in ids:
            if (found := self._objects.get(object_id)) is not None:
                self._report(object_id, found)

    def unwatch(self, ids: Sequence[ObjectId]) -> None:
        """Stop reporting; see `Backend.unwatch`."""
        self._set_watched(ids, False)

    def explain(self, object_id: ObjectId) -> str:
        """Return a sentence on why the task of an object does not run; see `Backend.explain`."""
        found = self._objects.get(object_id)
        if found is None:
            return "No such object is in this session."
        return f"{found.label} {_EXPLANATIONS.get(found.state, 'has ended.')}"

    def listen(self, listener: Listener | None) -> None:
        """Report changes to this listener from now on."""
        self._listener = listener

    # ------------------------------------------------------------------------------------------------------- inside

    def _settle_as(self, object_id: ObjectId, target: ObjectId) -> None:
        """Settle an object with the outcome of `target`, an object that is ready and held by the caller."""
        outcome = self.outcome(target)
        for any_id in outcome.refs:
            self.hold(any_id)
        self.settle(object_id, outcome)
        self.release(target)

    def _set_watched(self, ids: Sequence[ObjectId], watched: bool) -> None:
        for object_id in ids:
            if (found := self._objects.get(object_id)) is not None:
                found.is_watched = watched

    def _report(self, object_id: ObjectId, found: _TableObject) -> None:
        listener = self._listener
        if found.is_watched and listener is not None:
            listener.on_update(found.report(object_id))

    def _find(self, object_id: ObjectId) -> _TableObject:
        found = self._objects.get(object_id)
        if found is None and self._ended:
            raise IPyRemoteSystemError(self._ended)
        if found is None:
            raise ObjectLostError(f"The object {object_id:x} is not in this session.")
        return found

    def _drop_released(self) -> None:
        """Give back the holds that finalizers have released."""
        dropped: list[ObjectId] = []
        with self._lock:
            while self._released:
                any_id = self._released.popleft()
                found = self._objects.get(any_id)
                if found is None:
                    continue
                found.holders -= 1
                if found.holders <= 0:
                    del self._objects[any_id]
                    self._released.extend(found.refs)
                    dropped.append(any_id)
        for any_id in dropped:
            self._on_dropped(any_id)
