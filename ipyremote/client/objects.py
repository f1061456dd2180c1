"""What one process knows of objects and actors: how many refs it has, and the values that have arrived.

Pure bookkeeping, guarded by the channel's lock. An id is here from its first ref (or mapping) to its last; what happens
to an object beyond that is the scheduler's affair.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from ipyremote.client.streams import Stream
from ipyremote.client.unretrieved import Unasked
from ipyremote.client.waiting import Waiter
from ipyremote.messages import DYNAMIC, Failure, Inline, Stored

__all__ = ["FREED", "Objects", "Value"]

#: What is left of a value that was freed by hand.
FREED: Final = Failure(
    "object_freed", "The value was freed by hand, with free(). Call that only for what nobody needs any more."
)
#: What an object can turn out to be.
Value: TypeAlias = Inline | Stored | Failure
#: Stands in `ready` for a stream whose next step needs no waiting.
STEP: Final = Inline(b"")


class Objects:
    """See the module docstring."""

    def __init__(self) -> None:
        #: Python refs and mappings of each object or actor in this process; absent when there are none.
        self.counts: dict[int, int] = {}
        #: Those that came from elsewhere: their values are sent only on request.
        self.borrowed: set[int] = set()
        #: Values that have arrived, of objects that are in `counts`.
        self.ready: dict[int, Value] = {}
        #: Values sent ahead of the run that needs them, in a worker.
        self.ahead: dict[int, Value] = {}
        #: What to call when an object has its value.
        self.callbacks: dict[int, list[Callable[[int], None]]] = {}
        #: Callbacks to be run as soon as the lock is free.
        self.due: deque[tuple[Callable[[int], None], int]] = deque()
        #: Threads that wait.
        self.waiters: list[Waiter] = []
        #: Failures that nobody has asked for.
        self.unasked = Unasked()
        #: Streams whose generator lives, by the id of their task.
        self.streams: dict[int, Stream] = {}

    def expect(self, first: int, returns: int) -> None:
        """A submission with these return objects, each with one ref."""
        if returns == 1:
            self.counts[first] = 1
        else:
            for object_id in range(first, first + returns):
                self.counts[object_id] = 1

    def expect_stream(self, task_id: int, stream: int) -> None:
        """The submission yields (`TaskSpec.stream`): its generator holds the stream and its task's object."""
        if stream != DYNAMIC:
            self.streams[task_id] = Stream(task_id, limited=stream > 0)
            self.counts[-task_id] = 1

    def add_item(self, task_id: int, index: int, object_id: int, value: Inline | Stored | None) -> bool:
        """An item of a stream has arrived. Harmless when repeated. False: nobody holds it."""
        stream = self.streams.get(task_id)
        if stream is None:
            return object_id in self.counts
        if stream.add(index, object_id):
            self.counts[object_id] = 1
            if value is not None:
                self.ready[object_id] = value
        if index >= stream.next:
            self.resolve(-task_id, STEP)
        return True

    def add(self, object_id: int, value: Inline | Stored | Failure) -> None:
        """An object made here, with one ref."""
        self.counts[object_id] = 1
        self.ready[object_id] = value

    def hold(self, any_id: int) -> bool:
        """One more ref or mapping. True: it is the first in this process."""
        count = self.counts.get(any_id, 0)
        self.counts[any_id] = count + 1
        if not count:
            self.borrowed.add(any_id)
        return not count

    def count_down(self, released: deque[int]) -> list[int]:
        """Empty `released`, in which each id stands for one ref or mapping less; those that have none left."""
        gone: list[int] = []
        counts = self.counts
        while released:
            any_id = released.popleft()
            count = counts.get(any_id, 0)
            if count > 1:
                counts[any_id] = count - 1
            elif count:
                del counts[any_id]
                self.ready.pop(any_id, None)
                self.callbacks.pop(any_id, None)
                self.borrowed.discard(any_id)
                if any_id < 0:
                    released.extend(self.streams.pop(-any_id).holds())
                if any_id in self.unasked.failures and self.unasked.on_news is not None:
                    self.due.append((self.unasked.on_news, any_id))
                gone.append(any_id)
        return gone

    def free(self, ids: Sequence[int]) -> None:
        """Nobody needs these values. Those that are not here yet are the scheduler's affair."""
        for object_id in ids:
            if not isinstance(self.ready.get(object_id, FREED), Failure):
                self.ready[object_id] = FREED

    def resolve(self, object_id: int, value: Value) -> None:
        """A value has arrived. Harmless when repeated."""
        if object_id not in self.counts:
            return
        self.ready[object_id] = value
        if type(value) is Failure:
            self.on_failure(object_id, value)
        if self.waiters:
            failed = type(value) is Failure
            for waiter in self.waiters:
                waiter.resolve(object_id, failed)
        if self.callbacks:
            self.due.extend((callback, object_id) for callback in self.callbacks.pop(object_id, ()))

    def on_failure(self, object_id: int, failure: Failure) -> None:
        """A failure has arrived, perhaps for an object without refs."""
        if self.unasked.arrived(object_id, failure) and self.unasked.on_news is not None:
            self.due.append((self.unasked.on_news, object_id))

    def wait_for(self, waiter: Waiter, ids: Sequence[int]) -> None:
        """Tell this waiter about these from now on. `waiters.remove` ends that."""
        ready = self.ready
        waiter.missing.update(i for i in ids if i not in ready)
        if waiter.strict:
            waiter.failed = next((i for i in ids if type(ready.get(i)) is Failure), 0)
        self.waiters.append(waiter)

    def fail_callbacks(self, failure: Failure) -> None:
        """No value will come any more: whoever asked to be called is called."""
        for object_id in list(self.callbacks):
            self.resolve(object_id, failure)
