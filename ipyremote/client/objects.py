"""The objects and actors that one process knows: the number of refs to each, and the values that have arrived.

Pure bookkeeping, guarded by the channel's lock. An id is here from its first ref (or mapping) to its last; the rest of
an object's life is known to the scheduler only.

A stream is named by minus its task's id: in `counts`, where its generator counts as a ref; and in `ready`, while the
generator's next step needs no waiting, so that `wait` works for streams as for objects. The end of a stream is the
value of its task's object; if that value is a failure, one more ref to the object is the last item.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from ipyremote.client.unretrieved import Unretrieved
from ipyremote.client.waiting import Waiter
from ipyremote.engine_kit import failures
from ipyremote.exceptions import ObjectRefStreamEndOfStreamError
from ipyremote.ids import NOBODY, ObjectId, TaskId, minus
from ipyremote.messages import DYNAMIC, Failure, Inline, Stored

__all__ = ["FREED", "STEP", "ClientStream", "Objects", "Value"]

#: Stands in the place of a value that was freed with `free()`.
FREED: Final = Failure(*failures.FREED)
#: A value of an object, or the failure in its place.
Value: TypeAlias = Inline | Stored | Failure
#: Stands in `ready` for a stream whose next step needs no waiting.
STEP: Final = Inline(b"")


class ClientStream:
    """A stream whose generator is alive in this process. Guarded by the channel's lock."""

    __slots__ = ("_failure_taken", "_items", "_task_id", "limited", "next")

    def __init__(self, task_id: TaskId, *, limited: bool) -> None:
        self._task_id = task_id
        #: Whether the producer waits for items to be taken.
        self.limited = limited
        #: Index of the next item to be taken.
        self.next = 0
        #: Ids of the items that have arrived and were not taken, by index.
        self._items: dict[int, ObjectId] = {}
        #: Whether the task's failure was taken as the last item.
        self._failure_taken = False

    def add(self, index: int, object_id: ObjectId) -> bool:
        """Note an item that has arrived. Returns whether the item is new."""
        if index < self.next or index in self._items:
            return False
        self._items[index] = object_id
        return True

    def take(self, objects: Objects) -> ObjectId:
        """Take the next item, and return its id, of which the caller has one hold; 0 if there is no item yet.

        Raises ObjectRefStreamEndOfStreamError after the last item.
        """
        object_id = self._items.get(self.next, NOBODY)
        if object_id:
            self.next += 1
            del self._items[self.next - 1]
        elif self._task_id in objects.ready:
            if self.is_finished(objects):
                raise ObjectRefStreamEndOfStreamError("The generator has no further items.")
            self._failure_taken = True
            self.next += 1
            object_id = self._task_id
            objects.counts[object_id] += 1
        if self.next not in self._items and self._task_id not in objects.ready:
            objects.ready.pop(minus(self._task_id), None)
        return object_id

    def is_finished(self, objects: Objects) -> bool:
        """Return whether the stream has ended and all items were taken."""
        end = objects.ready.get(self._task_id)
        return end is not None and not self._items and (self._failure_taken or type(end) is not Failure)

    def held_ids(self) -> list[ObjectId]:
        """Return the ids that the generator holds besides the stream."""
        return [*self._items.values(), self._task_id]


class Objects:
    """The objects and actors of one process. The module's docstring has the rules."""

    def __init__(self) -> None:
        #: Number of Python refs and mappings of each object or actor in this process; ids without any are absent.
        self.counts: dict[ObjectId, int] = {}
        #: Ids that came from elsewhere. Their values are sent only on request.
        self.borrowed: set[ObjectId] = set()
        #: Values that have arrived, of objects in `counts`.
        self.ready: dict[ObjectId, Value] = {}
        #: Values that were sent ahead of the run that needs them, in a worker.
        self.prefetched: dict[ObjectId, Value] = {}
        #: Functions to call when an object has its value.
        self.callbacks: dict[ObjectId, list[Callable[[ObjectId], None]]] = {}
        #: Callbacks to be run as soon as the lock is free, with the ids of their objects.
        self.due: deque[tuple[Callable[[ObjectId], None], ObjectId]] = deque()
        #: One waiter for each thread that waits.
        self.waiters: list[Waiter] = []
        #: Failures that nobody has asked for.
        self.unretrieved = Unretrieved()
        #: Streams whose generator is alive, by task id.
        self.streams: dict[TaskId, ClientStream] = {}

    def expect(self, first: TaskId, returns: int) -> None:
        """Count one ref to each return object of a submission."""
        if returns == 1:
            self.counts[first] = 1
        else:
            for object_id in range(first, first + returns):
                self.counts[object_id] = 1  # type: ignore[index]  # an id plus an index is an id

    def expect_stream(self, task_id: TaskId, stream: int) -> None:
        """Count the refs of a submission's generator (`TaskSpec.stream`) to the stream and to the task's object."""
        if stream != DYNAMIC:
            self.streams[task_id] = ClientStream(task_id, limited=stream > 0)
            self.counts[minus(task_id)] = 1

    def add_item(
        self, task_id: TaskId, index: int, object_id: ObjectId, value: Inline | Stored | None
    ) -> bool:
        """Note an item of a stream that has arrived. Repeatable. Returns False if nobody here holds the item."""
        stream = self.streams.get(task_id)
        if stream is None:
            return object_id in self.counts
        if stream.add(index, object_id):
            self.counts[object_id] = 1
            if value is not None:
                self.ready[object_id] = value
        if index >= stream.next:
            self.resolve(minus(task_id), STEP)
        return True

    def add(self, object_id: ObjectId, value: Inline | Stored | Failure) -> None:
        """Note an object made here, with one ref."""
        self.counts[object_id] = 1
        self.ready[object_id] = value

    def hold(self, any_id: ObjectId) -> bool:
        """Count one more ref or mapping. Returns whether it is the first in this process."""
        count = self.counts.get(any_id, 0)
        self.counts[any_id] = count + 1
        if not count:
            self.borrowed.add(any_id)
        return not count

    def count_down(self, released: deque[ObjectId]) -> list[ObjectId]:
        """Count one ref or mapping less for each id in `released`, and empty it. Returns the ids without any left."""
        gone: list[ObjectId] = []
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
                    released.extend(self.streams.pop(minus(any_id)).held_ids())
                if any_id in self.unretrieved.failures and self.unretrieved.on_news is not None:
                    self.due.append((self.unretrieved.on_news, any_id))
                gone.append(any_id)
        return gone

    def free(self, ids: Sequence[ObjectId]) -> None:
        """Replace the values of these objects that are here by `FREED`. The scheduler frees the other values."""
        for object_id in ids:
            if not isinstance(self.ready.get(object_id, FREED), Failure):
                self.ready[object_id] = FREED

    def resolve(self, object_id: ObjectId, value: Value) -> None:
        """Note a value that has arrived. Repeatable."""
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

    def on_failure(self, object_id: ObjectId, failure: Failure) -> None:
        """Note a failure that has arrived, perhaps for an object without refs."""
        if self.unretrieved.note(object_id, failure) and self.unretrieved.on_news is not None:
            self.due.append((self.unretrieved.on_news, object_id))

    def wait_for(self, waiter: Waiter, ids: Sequence[ObjectId]) -> None:
        """Tell this waiter about these objects until it is removed from `waiters`."""
        ready = self.ready
        waiter.missing.update(i for i in ids if i not in ready)
        if waiter.strict:
            waiter.failed = next((i for i in ids if type(ready.get(i)) is Failure), NOBODY)
        self.waiters.append(waiter)

    def fail_callbacks(self, failure: Failure) -> None:
        """Run all callbacks with a failure, because no value will come any more."""
        for object_id in list(self.callbacks):
            self.resolve(object_id, failure)
