"""The streams of an inline session: generators that go on, in the thread that asks, when their next item is asked for.

So an endless generator is no trouble, and no limit on items ahead is needed. What a stream comes to is found out when
somebody takes its last item or gets its `completed()` ref, which runs it to its end. A generator that was dropped is
closed.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from ipyremote.backend import Identity, TaskOptions
from ipyremote.backends.inline.call_stack import InlineStack
from ipyremote.backends.inline.objects import InlineActor, InlineObjects, Outcome
from ipyremote.backends.inline.runner import InlineArguments, InlineRunner, process_ended
from ipyremote.engine_kit.call_context import Label
from ipyremote.engine_kit.outcomes import is_retried
from ipyremote.exceptions import ObjectRefStreamEndOfStreamError
from ipyremote.messages import Failure
from ipyremote.refs import ObjectRef
from ipyremote.streams import DynamicObjectRefGenerator

__all__ = ["InlineStream", "InlineStreams", "Steps", "collected"]

#: Comes after the last item.
END: Final = object()
#: Stands for the outcome of a stream that has not ended.
_UNKNOWN: Final = Outcome(Failure("system", "The generator has not ended yet."))


class _Failed(Exception):
    """A stream comes to this failure."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.text)
        self.failure = failure


class Steps:
    """How the generator of one call is run."""

    def __init__(
        self,
        runner: InlineRunner,
        stack: InlineStack,
        label: Label,
        target: Callable[[], Callable[..., Any]],
        packed: InlineArguments,
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
        """Make it, from fresh copies of the arguments."""
        failed = self._runner.failed_dependency(self._packed)
        if failed is not None and isinstance(failed.value, Failure):
            raise _Failed(failed.value)
        args, kwargs = self._runner.open(self._packed)
        with self._inside():
            items = self._target()(*args, **kwargs)
        if not hasattr(items, "__next__") and not hasattr(items, "__anext__"):
            raise ValueError(
                f"{self._label} returned {type(items).__name__}, and num_returns='streaming' needs a generator."
            )
        return items

    def step(self, items: Any) -> Any:
        """Its next item, or END."""
        actor = self._actor
        if actor is not None and actor.death is not None:
            raise _Failed(actor.death)
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
        """Nobody needs it any more."""
        if hasattr(items, "close"):
            with self._inside():
                items.close()
        elif self._actor is not None and hasattr(items, "aclose"):
            self._runner.run_coroutine(self._actor, items.aclose(), self._label)

    def pack(self, item: Any) -> Outcome:
        """The item as a value of the session."""
        return self._runner.outcome(item)

    def failure(self, error: BaseException) -> Failure | None:
        """What an exception comes to; None: begin anew."""
        if isinstance(error, _Failed):
            return error.failure
        if isinstance(error, SystemExit):
            # It would end the process that runs the task.
            return self._runner.crash(process_ended(self._label, error), self._actor)
        if self._left and is_retried(error, self._retry):
            self._left -= 1
            return None
        return self._runner.failure(error, self._label)


class InlineStream:
    """One stream that has not ended."""

    def __init__(self, steps: Steps, label: Label, mint: Callable[[], int], refs: tuple[int, ...]) -> None:
        self._steps = steps
        self.label = label
        self._mint = mint
        #: What its arguments refer to, which it holds.
        self.refs = refs
        self._items: Any = None
        #: Items that were made, and those that were made since it began anew.
        self._made = 0
        self._again = 0

    def advance(self, objects: InlineObjects) -> int | Outcome:
        """Make one more item, and give its object's id; or the outcome of the whole."""
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
            except BaseException as error:  # of user code, whatever it is
                failure = self._steps.failure(error)
                if failure is not None:
                    return Outcome(failure)
                self._items = None

    def _add(self, objects: InlineObjects, outcome: Outcome) -> int:
        object_id = self._mint()
        objects.seal(object_id, f"{self.label}[{self._made}]", [outcome])
        self._made += 1
        return object_id

    def close(self) -> None:
        """Nobody needs it any more."""
        items, self._items = self._items, iter(())
        if items is not None:
            # Its last words are nobody's.
            with contextlib.suppress(Exception):
                self._steps.close(items)


class _Reader:
    """What the generator of a stream has; it may outlive the stream."""

    def __init__(self) -> None:
        #: Items that were made ahead.
        self.ready: deque[int] = deque()
        self.taken = 0
        self.failure_taken = False


class InlineStreams:
    """See `backend.Streams`."""

    def __init__(self, objects: InlineObjects) -> None:
        self._objects = objects
        self._open: dict[int, InlineStream] = {}
        self._readers: dict[int, _Reader] = {}
        objects.look_after(self.finish, self._on_released, self._on_dropped)

    def open(self, task_id: int, stream: InlineStream) -> None:
        """A call of a generator, which runs when it is asked."""
        for any_id in stream.refs:
            self._objects.hold(any_id)
        self._objects.seal(task_id, str(stream.label), [_UNKNOWN])
        self._open[task_id] = stream
        self._readers[task_id] = _Reader()

    def is_open(self, task_id: int) -> bool:
        """Whether it has not come to its end."""
        return task_id in self._open

    def waitable(self, task_id: int) -> int:
        return -task_id

    def take(self, task_id: int) -> tuple[int, int] | None:
        reader = self._readers[task_id]
        if not reader.ready and not self._pull(task_id, reader):
            if reader.failure_taken or not self._has_failed(task_id):
                raise ObjectRefStreamEndOfStreamError("The generator has no further items.")
            reader.failure_taken = True
            self._objects.hold(task_id)
            return task_id, reader.taken
        reader.taken += 1
        return reader.ready.popleft(), reader.taken - 1

    def is_finished(self, task_id: int) -> bool:
        reader = self._readers[task_id]
        if reader.ready or self._pull(task_id, reader):
            return False
        return reader.failure_taken or not self._has_failed(task_id)

    def finish(self, task_id: int) -> None:
        """Run it to its end, if it has not come there."""
        reader = self._readers.get(task_id)
        while self._pull(task_id, reader):
            pass

    def end(self, task_id: int, outcome: Outcome) -> None:
        """It has come to its end, or is to end now."""
        stream = self._open.pop(task_id)
        stream.close()
        self._objects.settle(task_id, outcome)
        self._objects.let_go(stream.refs)

    def _pull(self, task_id: int, reader: _Reader | None) -> bool:
        """Make one more item; False: there is none."""
        stream = self._open.get(task_id)
        if stream is None:
            return False
        try:
            made = stream.advance(self._objects)
        except KeyboardInterrupt:
            self.end(task_id, Outcome(Failure("task_cancelled", f"{stream.label} was interrupted.")))
            raise
        if isinstance(made, Outcome):
            self.end(task_id, made)
        elif reader is not None:
            reader.ready.append(made)
        else:
            # Its generator is gone: only the end is of interest.
            self._objects.let_go((made,))
        return isinstance(made, int)

    def _has_failed(self, task_id: int) -> bool:
        found = self._objects.find(task_id)
        return found is not None and isinstance(found.outcome.value, Failure)

    def _on_released(self, task_id: int) -> tuple[int, ...]:
        """Its generator is gone; what that held."""
        reader = self._readers.pop(task_id, None)
        return (*reader.ready, task_id) if reader is not None else ()

    def _on_dropped(self, task_id: int) -> InlineStream | None:
        """Nobody can see anything of it any more."""
        stream = self._open.pop(task_id, None)
        if stream is not None:
            self._objects.let_go(stream.refs)
        return stream


def collected(steps: Steps, add: Callable[[Outcome], ObjectRef[Any]]) -> DynamicObjectRefGenerator:
    """Make the value of a task with num_returns="dynamic": refs to its items, the last one to its failure.

    `add` makes an object of the session and gives a ref to that object.
    """
    refs: list[ObjectRef[Any]] = []
    items = steps.begin()
    try:
        while (item := steps.step(items)) is not END:
            refs.append(add(steps.pack(item)))
    except Exception as error:  # of user code: the items before the error stay
        failure = steps.failure(error)
        if failure is None:
            raise
        refs.append(add(Outcome(failure)))
    return DynamicObjectRefGenerator(refs)
