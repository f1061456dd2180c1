"""What tasks yield: each item becomes an object that the submitter holds, and is told to it.

Rules. Items are known by their index: what a later attempt yields again is thrown away, so no item is given twice and
none changes its value. The end of a stream is the value of the task's own object; when that is a failure, it stands for
the last item too. A task with a limit is told how many items are wanted (`StreamDemand`) as they are consumed; between
demands it waits, which it says with `Blocked`, so that its CPU is lent to the consumer. A stream whose generator is
gone makes no objects any more; when nobody holds the task's own object either, nobody can see anything of the task: it
is cancelled if it has not been sent, else asked to close its generator at the next item.
"""

from __future__ import annotations

import traceback

from ipyremote.core.cancel import cancel_task
from ipyremote.core.commands import Log, Send
from ipyremote.core.dispatch import move
from ipyremote.core.lifetimes import discard_value, hold, seal, settle_value
from ipyremote.core.state import Ledger, Object, StreamState, Task
from ipyremote.core.transitions import BLOCKED, CANCELLING, READY, RUNNING, SENT, WAITING
from ipyremote.ids import SCHEDULER, IdSource
from ipyremote.messages import DYNAMIC, ENDLESS, Consumed, Forward, StreamDemand, StreamItem, Yield

__all__ = ["StreamLifecycle"]


class StreamLifecycle:
    """Reacts to what concerns streams. Keeps the source of the items' ids."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._ids = IdSource(SCHEDULER)

    def on_yield(self, sender: int, message: Yield) -> None:
        """A worker has an item."""
        ledger = self._ledger
        task = ledger.tasks.get(message.task_id)
        current = task is not None and task.worker is not None and task.worker.id == sender
        if task is None or not current or task.attempt != message.attempt or not is_stream(task):
            discard_value(ledger, message.value, sender)
            return
        stream = self._stream(task)
        if task.submitter not in ledger.clients and not stream.closed:
            ledger.streams.left.append((message.task_id, task.submitter))
        if stream.closed or message.index != stream.count or task.submitter not in ledger.clients:
            discard_value(ledger, message.value, sender)
            # A worker that begins anew knows nothing of what was consumed.
            self._demand(task, stream)
            return
        stream.count += 1
        self._add_item(task, message, sender)

    def on_consumed(self, sender: int, message: Consumed) -> None:
        """The generator of a stream with a limit was asked for an item."""
        ledger = self._ledger
        task = ledger.tasks.get(message.task_id)
        if task is None or task.submitter != sender or not is_stream(task):
            return
        stream = self._stream(task)
        count = min(message.count, stream.count)
        if count > stream.consumed:
            stream.consumed = count
            self._demand(task, stream)

    def settle(self) -> None:
        """Deal with generators that are gone."""
        left = self._ledger.streams.left
        while left:
            task_id, client = left.pop()
            task = self._ledger.tasks.get(task_id)
            if task is None or not is_stream(task):
                continue
            try:
                self._on_left(task, client)
            except Exception:  # one stream's error must not take the session down
                text = f"error in the stream of {task.spec.label}:\n{traceback.format_exc()}"
                self._ledger.out.append(Log(text))

    def _on_left(self, task: Task, client: int) -> None:
        stream = self._stream(task)
        if client == task.submitter:
            stream.closed = True
        if not stream.closed:
            return
        if task.spec.task_id in self._ledger.objects:
            # Somebody waits for its end.
            self._demand(task, stream)
        elif task.state in (WAITING, READY):
            cancel_task(self._ledger, task, "its generator was dropped")
        elif task.state in (SENT, RUNNING, BLOCKED):
            move(self._ledger, task, CANCELLING)
            task.note(self._ledger.now, "its generator was dropped: asked its worker to close it")
            self._send(task, 0)

    def _add_item(self, task: Task, message: Yield, creator: int) -> None:
        """The item becomes an object, and the submitter is told."""
        ledger = self._ledger
        value = message.value
        item_id = self._ids.take()
        number = f"{task.spec.number}[{message.index}]"
        obj = ledger.objects[item_id] = Object(item_id, 0, task.spec.name, number, None)
        hold(ledger, obj, task.submitter)
        item = StreamItem(message.task_id, message.index, item_id, None)
        if type(value) is Forward:
            # Its value may be there at once, and must come after the item.
            ledger.out.append(Send(task.submitter, item))
            obj.producer = task
            settle_value(ledger, task, obj, value, message.refs, creator)
            return
        obj.seconds = ledger.now - task.started
        seal(ledger, obj, value, creator, message.refs)  # type: ignore[arg-type]  # mypy does not narrow by `type(x) is`
        item = StreamItem(message.task_id, message.index, item_id, value)  # type: ignore[arg-type]
        ledger.out.append(Send(task.submitter, item))

    def _stream(self, task: Task) -> StreamState:
        known = self._ledger.streams.known
        stream = known.get(task.spec.task_id)
        if stream is None:
            stream = known[task.spec.task_id] = StreamState()
        return stream

    def _demand(self, task: Task, stream: StreamState) -> None:
        """Tell the worker of a stream with a limit how far it can go."""
        limit = task.spec.stream
        if limit == ENDLESS or task.state == CANCELLING:
            return
        self._send(task, ENDLESS if stream.closed else stream.consumed + limit)

    def _send(self, task: Task, items: int) -> None:
        if task.worker is not None:
            demand = StreamDemand(task.spec.task_id, task.attempt, items)
            self._ledger.out.append(Send(task.worker.id, demand))


def is_stream(task: Task) -> bool:
    """Whether it yields objects."""
    return task.spec.stream not in (0, DYNAMIC)


def is_paused(ledger: Ledger, task: Task) -> bool:
    """Whether it waits for its items to be consumed."""
    stream = ledger.streams.known.get(task.spec.task_id)
    return stream is not None and 0 < task.spec.stream <= stream.count - stream.consumed
