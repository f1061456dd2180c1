"""The streams of tasks that yield: each item becomes an object that the submitter holds and is told of.

Rules. An item is known by its index: items that a later attempt yields again are thrown away, so no item is given twice
or changes its value. The end of a stream is the value of the task's own object; a failure there stands for the last
item too. The worker of a task with a limit is told how many items it may yield (`StreamDemand`) as items are consumed;
between demands the task waits, which its worker reports with `Blocked`, so that the CPU is lent to the consumer. When
the submitter has released its generator, the stream makes no more objects. When nobody holds the task's own object
either, nobody can see anything of the task: it is cancelled if it was not sent, else its worker is asked to close the
generator at the next item.
"""

from __future__ import annotations

import traceback

from ipyremote.core.cancel import cancel_task
from ipyremote.core.commands import Log, Send
from ipyremote.core.dispatch import move
from ipyremote.core.lifetimes import discard_value, hold, seal, settle_value
from ipyremote.core.state import Ledger, Object, StreamState, Task
from ipyremote.core.transitions import BLOCKED, CANCELLING, READY, RUNNING, SENT, WAITING
from ipyremote.ids import SCHEDULER, ClientId, IdSource
from ipyremote.messages import DYNAMIC, ENDLESS, Consumed, Forward, StreamDemand, StreamItem, Yield

__all__ = ["StreamLifecycle"]


class StreamLifecycle:
    """The reactions to yielded, consumed and released items. Only the source of the items' ids is kept here."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._ids = IdSource(SCHEDULER)

    def on_yield(self, sender: ClientId, message: Yield) -> None:
        """React to an item that a worker has yielded."""
        ledger = self._ledger
        task = ledger.tasks.get(message.task_id)
        current = task is not None and task.worker is not None and task.worker.id == sender
        if task is None or not current or task.attempt != message.attempt or not is_stream(task):
            discard_value(ledger, message.value, sender)
            return
        stream = self._stream(task)
        if task.submitter not in ledger.clients and not stream.closed:
            ledger.streams.released.append((message.task_id, task.submitter))
        if stream.closed or message.index != stream.count or task.submitter not in ledger.clients:
            discard_value(ledger, message.value, sender)
            # The worker of a later attempt does not know how many items were consumed.
            self._demand(task, stream)
            return
        stream.count += 1
        self._add_item(task, message, sender)

    def on_consumed(self, sender: ClientId, message: Consumed) -> None:
        """React to the submitter's report of how many items it has consumed, of a stream with a limit."""
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
        """React to the generators that clients have released in the present `handle`."""
        released = self._ledger.streams.released
        while released:
            task_id, client = released.pop()
            task = self._ledger.tasks.get(task_id)
            if task is None or not is_stream(task):
                continue
            try:
                self._on_released(task, client)
            except Exception:  # one stream's error must not take the session down
                text = f"error in the stream of {task.spec.label}:\n{traceback.format_exc()}"
                self._ledger.out.append(Log(text))

    def _on_released(self, task: Task, client: ClientId) -> None:
        """React to the release of a task's generator by a client, or (client 0) to the end of the task's own object."""
        stream = self._stream(task)
        if client == task.submitter:
            stream.closed = True
        if not stream.closed:
            return
        if task.spec.task_id in self._ledger.objects:
            # A client waits for the end of the task, so the task goes on, without a limit.
            self._demand(task, stream)
        elif task.state in (WAITING, READY):
            cancel_task(self._ledger, task, "its generator was dropped")
        elif task.state in (SENT, RUNNING, BLOCKED):
            move(self._ledger, task, CANCELLING)
            task.note(self._ledger.now, "its generator was dropped: asked its worker to close it")
            self._send(task, 0)

    def _add_item(self, task: Task, message: Yield, creator: ClientId) -> None:
        """Make an object of an item, and tell the submitter of it."""
        ledger = self._ledger
        value = message.value
        item_id = self._ids.take()
        number = f"{task.spec.number}[{message.index}]"
        obj = ledger.objects[item_id] = Object(item_id, 0, task.spec.name, number, None)
        hold(ledger, obj, task.submitter)
        item = StreamItem(message.task_id, message.index, item_id, None)
        if type(value) is Forward:
            # The value may be there at once, and the submitter must learn of the item first.
            ledger.out.append(Send(task.submitter, item))
            obj.producer = task
            settle_value(ledger, task, obj, value, message.refs, creator)
            return
        obj.seconds = ledger.now - task.started
        seal(ledger, obj, value, creator, message.refs)  # type: ignore[arg-type]  # mypy does not narrow by `type(x) is`
        item = StreamItem(message.task_id, message.index, item_id, value)  # type: ignore[arg-type]
        ledger.out.append(Send(task.submitter, item))

    def _stream(self, task: Task) -> StreamState:
        """Return the record of a task's stream, a new one at the first call."""
        known = self._ledger.streams.known
        stream = known.get(task.spec.task_id)
        if stream is None:
            stream = known[task.spec.task_id] = StreamState()
        return stream

    def _demand(self, task: Task, stream: StreamState) -> None:
        """Tell the worker of a stream with a limit how many items it may yield in all."""
        limit = task.spec.stream
        if limit == ENDLESS or task.state == CANCELLING:
            return
        self._send(task, ENDLESS if stream.closed else stream.consumed + limit)

    def _send(self, task: Task, items: int) -> None:
        if task.worker is not None:
            demand = StreamDemand(task.spec.task_id, task.attempt, items)
            self._ledger.out.append(Send(task.worker.id, demand))


def is_stream(task: Task) -> bool:
    """Return whether a task yields its items one by one, as objects."""
    return task.spec.stream not in (0, DYNAMIC)


def is_paused(ledger: Ledger, task: Task) -> bool:
    """Return whether a task waits for its submitter to consume items."""
    stream = ledger.streams.known.get(task.spec.task_id)
    return stream is not None and 0 < task.spec.stream <= stream.count - stream.consumed
