"""What was submitted here, so that a failed task can be run again at a click.

Nothing is held: a call is remembered as it was sent, and the objects that it names may be gone when it is repeated.
Remembered are the calls that have not succeeded and whose refs are still there, the latest `_CALLS` of them; what is
not needed any more is dropped now and then. Guarded by the channel's lock.
"""

from __future__ import annotations

from typing import Final

from ipyremote.client.channel import Channel
from ipyremote.ids import IdSource
from ipyremote.messages import Failure, Submit, TaskSpec, replace

__all__ = ["Calls"]

_CALLS: Final = 1_000
#: Calls, and bytes of arguments, between two looks at what is not needed any more.
_SWEEP_CALLS: Final = 500
_SWEEP_BYTES: Final = 16 << 20


class Calls:
    """By task id, oldest first."""

    def __init__(self, channel: Channel, ids: IdSource) -> None:
        self._channel = channel
        self._objects = channel.objects
        self._ids = ids
        self._specs: dict[int, TaskSpec] = {}
        self._added = 0
        self._bytes = 0

    def add(self, spec: TaskSpec) -> None:
        """A task or a method call was submitted."""
        self._specs[spec.task_id] = spec
        self._added += 1
        self._bytes += len(spec.args.data)
        if self._added >= _SWEEP_CALLS or self._bytes >= _SWEEP_BYTES:
            self.sweep()

    def sweep(self) -> None:
        """Forget what has succeeded, what nobody can ask for, and what is too much."""
        counts, ready = self._objects.counts, self._objects.ready
        kept = [
            task_id
            for task_id in self._specs
            if task_id in counts and (task_id not in ready or type(ready[task_id]) is Failure)
        ]
        self._specs = {task_id: self._specs[task_id] for task_id in kept[-_CALLS:]}
        self._added = self._bytes = 0

    def repeat(self, task_id: int) -> int:
        """Submit the same call as a new task; its id. ValueError: the call is not known, or cannot be repeated."""
        channel = self._channel
        channel.check()
        with channel.lock:
            spec = self._again(task_id)
            self._objects.expect(spec.task_id, spec.returns)
            # One ref asks for it; there are none to the others.
            channel.released.extend(range(spec.task_id + 1, spec.task_id + spec.returns))
            self.add(spec)
            channel.connection.queue(Submit(spec), len(spec.args.data))
            channel.after_queue()
        return spec.task_id

    def _again(self, task_id: int) -> TaskSpec:
        spec = self._specs.get(task_id)
        if spec is None:
            raise ValueError("the call that made it is not remembered")
        if spec.stream:
            raise ValueError("it yields, and its generator would have to begin anew")
        if spec.packed:
            raise ValueError("its arguments were too large to be kept")
        if any(any_id not in self._objects.counts for any_id in (*spec.deps, *spec.refs)):
            raise ValueError("a ref among its arguments is not held any more")
        return replace(spec, task_id=self._ids.take(spec.returns))
