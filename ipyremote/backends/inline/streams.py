"""The streams of an inline session: a generator makes each item when the item is asked for, in the asking thread.

An endless generator is therefore fine, and no limit on the number of items made ahead is needed. The outcome of a
stream is known when its last item was taken, or when its `completed()` ref was got, which runs the generator to its
end. A generator that was dropped is closed.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from ipyremote.backend import Identity, TaskOptions
from ipyremote.backends.inline.call_stack import InlineStack
from ipyremote.backends.inline.objects import InlineActor, InlineObjects, InlineOutcome
from ipyremote.backends.inline.runner import InlineRunner, process_ended
from ipyremote.engine_kit.call_arguments import PickledCall
from ipyremote.engine_kit.call_context import Label
from ipyremote.engine_kit.failures import PickledFailure
from ipyremote.engine_kit.outcomes import is_retried
from ipyremote.exceptions import ObjectRefStreamEndOfStreamError
from ipyremote.ids import ObjectId, TaskId, minus
from ipyremote.refs import ObjectRef
from ipyremote.streams import DynamicObjectRefGenerator

__all__ = ["InlineStream", "InlineStreams", "Steps", "collected"]

#: Marker that follows the last item.
END: Final = object()
#: Outcome of a stream that has not ended.
_UNKNOWN: Final = PickledFailure("system", "The generator has not ended yet.")


class _StreamFailed(Exception):
    """Raised inside a stream that ends with this failure."""

    def __init__(self, failure: PickledFailure) -> None:
        super().__init__(failure.text)
        self.failure = failure


class Steps:
    """The runs of one call's generator, step by step."""

    def __init__(
        self,
        runner: InlineRunner,
        stack: InlineStack,
        label: Label,
        target: Callable[[], Callable[..., Any]],
        packed: PickledCall,
        options: TaskOptions,
        actor: InlineActor | None,
        identity: Identity,
    ) -> None:
        self._runner = runner
        self._stack = stack
        self._label = label
        self._target = target
        self._packed = packed
        self._retry = options.retry_exceptions
        self._left = options.max_retries
        self._actor = actor
        self._identity = identity

    def _inside(self) -> contextlib.AbstractContextManager[None]:
        return self._stack.inside(self._label, self._actor, self._identity)

    def begin(self) -> Any:
        """Call the generator function with fresh copies of the arguments; return the generator."""
        failed = self._runner.failed_dependency(self._packed)
        if failed is not None:
            raise _StreamFailed(failed)
        args, kwargs = self._runner.open(self._packed)
        with self._inside():
            items = self._target()(*args, **kwargs)
        if not hasattr(items, "__next__") and not hasattr(items, "__anext__"):
            raise ValueError(
                f"{self._label} returned {type(items).__name__}, and num_returns='streaming' needs a generator."
            )
        return items

    def step(self, items: Any) -> Any:
        """Return the generator's next item, or END."""
        actor = self._actor
        if actor is not None and actor.death is not None:
            raise _StreamFailed(actor.death)
        if hasattr(items, "__next__"):
            with self._inside():
                return next(items, END)
        assert actor is not None, "only methods are async"
        try:
            with self._inside():
                return self._runner.run_coroutine(actor, items.__anext__(), self._label)
        except StopAsyncIteration:
            return END

    def close(self, items: Any) -> None:
        """Close the generator, which nobody needs any more."""
        if hasattr(items, "close"):
            with self._inside():
                items.close()
        elif self._actor is not None and hasattr(items, "aclose"):
            self._runner.run_coroutine(self._actor, items.aclose(), self._label)

    def pack(self, item: Any) -> InlineOutcome:
        """Return an item as an outcome of the session."""
        return self._runner.outcome(item)

    def failure(self, error: BaseException) -> PickledFailure | None:
        """Return the failure that an exception makes; None: the generator is to be run again."""
        if isinstance(error, _StreamFailed):
            return error.failure
        if isinstance(error, SystemExit):
            # On a cluster this exit would end the process that runs the task.
            return self._runner.crash(process_ended(self._label, error), self._actor)
        if self._left and is_retried(error, self._retry):
            self._left -= 1
            return None
        return self._runner.failure(error, self._label)


class InlineStream:
    """A stream that has not ended."""

    def __init__(
        self, steps: Steps, label: Label, mint: Callable[[], ObjectId], refs: tuple[ObjectId, ...]
    ) -> None:
        self._steps = steps
        self.label = label
        self._mint = mint
        #: Ids of the objects and actors that the call's arguments refer to, which the stream holds.
        self.refs = refs
        self._items: Any = None
        #: Number of items that have become objects, and number of items of the current attempt.
        self._made = 0
        self._again = 0

    def advance(self, objects: InlineObjects) -> ObjectId | InlineOutcome:
        """Make one more item and return the id of its object; at the end return the outcome of the stream."""
        while True:
            try:
                if self._items is None:
                    self._items, self._again = self._steps.begin(), 0
                item = self._steps.step(self._items)
                if item is END:
                    return self._steps.pack(None)
                self._again += 1
                if self._again > self._made:
                    return self._add(objects, self._steps.pack(item))
            except KeyboardInterrupt:
                self._items = iter(())
                raise
            except BaseException as error:  # any exception of user code
                failure = self._steps.failure(error)
                if failure is not None:
                    return failure
                self._items = None

    def _add(self, objects: InlineObjects, outcome: InlineOutcome) -> ObjectId:
        object_id = self._mint()
        objects.seal(object_id, f"{self.label}[{self._made}]", [outcome])
        self._made += 1
        return object_id

    def close(self) -> None:
        """Close the stream, which nobody needs any more."""
        items, self._items = self._items, iter(())
        if items is not None:
            # An exception of the generator while it closes has nobody to go to.
            with contextlib.suppress(Exception):
                self._steps.close(items)


class _Reader:
    """The state of a stream's `ObjectRefGenerator`, which may outlive the stream."""

    def __init__(self) -> None:
        #: Ids of the items that were made and not yet taken.
        self.ready: deque[ObjectId] = deque()
        self.taken = 0
        self.failure_taken = False


class InlineStreams:
    """See `backend.Streams`."""

    def __init__(self, objects: InlineObjects) -> None:
        self._objects = objects
        self._open: dict[TaskId, InlineStream] = {}
        self._readers: dict[TaskId, _Reader] = {}
        objects.attach_streams(self.finish, self._on_released, self._on_dropped)

    def open(self, task_id: TaskId, stream: InlineStream) -> None:
        """Add the stream of a call, which runs when its items are asked for."""
        for any_id in stream.refs:
            self._objects.hold(any_id)
        self._objects.seal(task_id, str(stream.label), [_UNKNOWN])
        self._open[task_id] = stream
        self._readers[task_id] = _Reader()

    def is_open(self, task_id: TaskId) -> bool:
        """Return whether the stream has not ended."""
        return task_id in self._open

    def waitable(self, task_id: TaskId) -> ObjectId:
        return minus(task_id)

    def take(self, task_id: TaskId) -> tuple[ObjectId, int] | None:
        reader = self._readers[task_id]
        if not reader.ready and not self._pull(task_id, reader):
            if reader.failure_taken or not self._has_failed(task_id):
                raise ObjectRefStreamEndOfStreamError("The generator has no further items.")
            reader.failure_taken = True
            self._objects.hold(task_id)
            return task_id, reader.taken
        reader.taken += 1
        return reader.ready.popleft(), reader.taken - 1

    def is_finished(self, task_id: TaskId) -> bool:
        reader = self._readers[task_id]
        if reader.ready or self._pull(task_id, reader):
            return False
        return reader.failure_taken or not self._has_failed(task_id)

    def finish(self, task_id: TaskId) -> None:
        """Run the stream to its end, unless it has ended."""
        reader = self._readers.get(task_id)
        while self._pull(task_id, reader):
            pass

    def end(self, task_id: TaskId, outcome: InlineOutcome) -> None:
        """End the stream with this outcome."""
        stream = self._open.pop(task_id)
        stream.close()
        self._objects.settle(task_id, outcome)
        self._objects.let_go(stream.refs)

    def _pull(self, task_id: TaskId, reader: _Reader | None) -> bool:
        """Make one more item; return False if there is none."""
        stream = self._open.get(task_id)
        if stream is None:
            return False
        try:
            made = stream.advance(self._objects)
        except KeyboardInterrupt:
            self.end(task_id, PickledFailure("task_cancelled", f"{stream.label} was interrupted."))
            raise
        if not isinstance(made, int):
            self.end(task_id, made)
        elif reader is not None:
            reader.ready.append(made)
        else:
            # The `ObjectRefGenerator` was dropped, so nobody can take the item: only the stream's end matters.
            self._objects.let_go((made,))
        return isinstance(made, int)

    def _has_failed(self, task_id: TaskId) -> bool:
        found = self._objects.find(task_id)
        return found is not None and isinstance(found.outcome, PickledFailure)

    def _on_released(self, task_id: TaskId) -> tuple[ObjectId, ...]:
        """Forget a dropped `ObjectRefGenerator`; return the ids that it held."""
        reader = self._readers.pop(task_id, None)
        return (*reader.ready, task_id) if reader is not None else ()

    def _on_dropped(self, task_id: TaskId) -> InlineStream | None:
        """Forget a stream whose object was dropped; return the stream, which is to be closed."""
        stream = self._open.pop(task_id, None)
        if stream is not None:
            self._objects.let_go(stream.refs)
        return stream


def collected(steps: Steps, add: Callable[[InlineOutcome], ObjectRef[Any]]) -> DynamicObjectRefGenerator:
    """Make the value of a task with num_returns="dynamic": refs to its items, the last one to its failure.

    `add` makes an object of the session and gives a ref to that object.
    """
    refs: list[ObjectRef[Any]] = []
    items = steps.begin()
    try:
        while (item := steps.step(items)) is not END:
            refs.append(add(steps.pack(item)))
    except Exception as error:  # user code raised; the items before the exception stay
        failure = steps.failure(error)
        if failure is None:
            raise
        refs.append(add(failure))
    return DynamicObjectRefGenerator(refs)
