"""The calls that this client has submitted and can submit again, so that a failed task can be retried at a click.

A remembered call is the message that was sent: it holds no object, so the objects that it names may be gone when the
call is repeated. Calls are remembered while they have not succeeded and somebody has a ref to their object, the latest
`_LIMIT` of them; other calls are dropped now and then. Guarded by the channel's lock.
"""

from __future__ import annotations

from typing import Final

from ipyremote.client.channel import Channel
from ipyremote.ids import IdSource, TaskId
from ipyremote.messages import Failure, Submit, TaskSpec, replace

__all__ = ["RepeatableCalls"]

#: Largest number of calls that are remembered after a sweep.
_LIMIT: Final = 1_000
#: Number of calls after which the calls that are not needed any more are swept.
_SWEEP_CALLS: Final = 500
#: Size of the arguments of new calls after which the same happens, in bytes.
_SWEEP_BYTES: Final = 16 << 20


class RepeatableCalls:
    """The remembered calls of one client."""

    def __init__(self, channel: Channel, ids: IdSource) -> None:
        self._channel = channel
        self._objects = channel.objects
        self._ids = ids
        #: Calls as they were sent, by task id, oldest first.
        self._specs: dict[TaskId, TaskSpec] = {}
        #: Number of calls since the last sweep.
        self._new_calls = 0
        #: Size of the arguments of these calls, in bytes.
        self._new_bytes = 0

    def add(self, spec: TaskSpec) -> None:
        """Remember a task or a method call that is being submitted. Needs the lock."""
        self._specs[spec.task_id] = spec
        self._new_calls += 1
        self._new_bytes += len(spec.args.data)
        if self._new_calls >= _SWEEP_CALLS or self._new_bytes >= _SWEEP_BYTES:
            self.sweep()

    def sweep(self) -> None:
        """Forget calls that have succeeded, calls without a ref, and the oldest beyond the limit. Needs the lock."""
        counts, ready = self._objects.counts, self._objects.ready
        kept = [
            task_id
            for task_id in self._specs
            if task_id in counts and (task_id not in ready or type(ready[task_id]) is Failure)
        ]
        self._specs = {task_id: self._specs[task_id] for task_id in kept[-_LIMIT:]}
        self._new_calls = self._new_bytes = 0

    def repeat(self, task_id: TaskId) -> TaskId:
        """Submit the same call as a new task, and return the new id. Raises ValueError where that is impossible."""
        channel = self._channel
        channel.check()
        with channel.lock:
            spec = self._repeated(task_id)
            self._objects.expect(spec.task_id, spec.returns)
            # The caller makes a ref to the first return only, so the other returns are released at once.
            others = range(spec.task_id + 1, spec.task_id + spec.returns)
            channel.released.extend(others)  # type: ignore[arg-type]  # an id plus an index is an id
            self.add(spec)
            channel.connection.queue(Submit(spec), len(spec.args.data))
            channel.after_queue()
        return spec.task_id

    def _repeated(self, task_id: TaskId) -> TaskSpec:
        """Return the spec of a new task for a remembered call. The errors' texts end a sentence of the notebook."""
        spec = self._specs.get(task_id)
        if spec is None:
            raise ValueError(
                f"the call is not remembered any more. Only the latest {_LIMIT:,} calls that run or have failed are, "
                "as long as their refs exist."
            )
        if spec.stream:
            raise ValueError(
                "a generator cannot start again, because its first items may have been used already."
            )
        if spec.packed:
            raise ValueError("the arguments were too large to be kept. Call the function again.")
        if any(any_id not in self._objects.counts for any_id in (*spec.deps, *spec.refs)):
            raise ValueError(
                "a ref among the arguments exists no more. Call the function again with a new ref."
            )
        return replace(spec, task_id=self._ids.take(spec.returns))
