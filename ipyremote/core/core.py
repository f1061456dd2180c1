"""The front door of the core: events in, commands out.

`handle` reacts to all events first, then places tasks once. It never raises: an error while it deals with an event is
logged and fails the task that the event is about, with the task's story, and the session goes on; a message that makes
no sense in the present state is logged. The first `handle`, which may be given no events, asks for the first workers.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from typing import assert_never

from ipyremote import messages as m
from ipyremote.core import cancel, explain, lifetimes, spilling, tasks
from ipyremote.core.actor_names import ActorNameTable
from ipyremote.core.actors import Actors
from ipyremote.core.audit import audit
from ipyremote.core.commands import Command, Log, Quit, Send
from ipyremote.core.detached import Detached
from ipyremote.core.dispatch import detach, move, rest
from ipyremote.core.environments import EnvironmentLifecycle
from ipyremote.core.events import (
    ClientGone,
    ClientJoined,
    EnvironmentLost,
    EnvironmentOpened,
    Event,
    Received,
    Tick,
    WorkerExited,
    WorkerStarted,
)
from ipyremote.core.output_routing import show
from ipyremote.core.placement import Placement
from ipyremote.core.placement_groups import GroupLifecycle
from ipyremote.core.queues import push, put_back
from ipyremote.core.reports import Reports
from ipyremote.core.state import SESSION, Client, Ledger, Task
from ipyremote.core.state_query import StateQueries
from ipyremote.core.streams import StreamLifecycle
from ipyremote.core.task_log import Step, told
from ipyremote.core.timeline import Timeline
from ipyremote.core.transitions import READY, WAITING, InvalidTransition
from ipyremote.core.worker_loss import WorkerLossHandler
from ipyremote.core.worker_pool import WorkerPool
from ipyremote.ids import NOBODY, ClientId, TaskId

__all__ = ["Core"]

#: Number of errors in a row after which a placement is given up until the next events.
PLACING_ERRORS = 100


class Core:
    """All decisions of one session."""

    def __init__(
        self,
        *,
        resources: Mapping[str, int],
        now: float,
        max_workers: int = 256,
        keep_alive: float = 0.0,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        """Make a core for a session at the time `now`, in seconds.

        `resources`: amounts in ten-thousandths by name, of "GPU" a multiple of 10,000. `keep_alive`: seconds for which
        the session may outlive its driver. `labels`: the labels of the machine.
        """
        total = {name: amount for name, amount in resources.items() if amount > 0}
        self._ledger = ledger = Ledger(total, total.get("GPU", 0) // m.RESOURCE_UNIT, now, labels or {})
        self._pool = WorkerPool(ledger, max_workers)
        self._actors = Actors(ledger, self._pool)
        self._timeline = Timeline()
        self._reports = Reports(ledger, self._pool, self._actors, self._timeline)
        self._worker_loss = WorkerLossHandler(ledger, self._pool, self._actors, self._timeline)
        self._placement = Placement(ledger, self._pool, self._actors)
        self._names = ActorNameTable(ledger)
        self._detached = Detached(ledger, self._pool, self._names, keep_alive)
        self._groups = GroupLifecycle(ledger, self._pool, self._actors, self._names)
        self._environments = EnvironmentLifecycle(ledger, self._pool, self._actors)
        self._streams = StreamLifecycle(ledger)
        self._state_queries = StateQueries(ledger, self._timeline, self._names)
        #: Pairs (client, question) of the questions for runs in the present `handle`. They are answered at its end
        #: with all runs that are known then, so that a client's next question goes on from that moment.
        self._asked_spans: list[tuple[ClientId, m.Spans]] = []

    def handle(self, events: Sequence[Event], now: float) -> list[Command]:
        """React to events, and return the commands that follow, in the order in which they must be performed."""
        ledger = self._ledger
        ledger.now = now
        out: list[Command] = []
        ledger.out = out
        woken = ledger.woken
        orphans = ledger.orphans
        for event in (Tick(), *events) if self._detached.is_due() else events:
            try:
                if type(event) is Received:
                    self._on_message(event.sender, event.message)
                else:
                    self._on_event(event)
                if woken or orphans:
                    self._settle()
            except Exception as error:  # one event's error must not take the session down
                self._on_error(event, error)
        if ledger.touched:
            self._settle_actors()
        while ledger.streams.released or self._groups.tend():
            self._streams.settle()
            self._settle()
            self._settle_actors()
        if ledger.environments:
            self._environments.settle()
            self._settle()
            self._settle_actors()
        self._place()
        if ledger.lost_segments:
            lifetimes.flush_segments(ledger)
        if self._asked_spans:
            self._tell_spans()
        return out

    def deadline(self) -> float | None:
        """Return the time at which `handle` must be given a `Tick` unless an event comes before; None: at no time."""
        deadlines: tuple[float | None, ...]
        deadlines = (self._pool.deadline(), self._placement.deadline, self._detached.deadline)
        if self._ledger.environments:
            deadlines = (*deadlines, self._environments.deadline())
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    @property
    def owner(self) -> int:
        """The driver that the session belongs to; 0 while there is none."""
        return self._ledger.owner

    def status(self) -> m.ClusterStatus:
        """Return a snapshot of the session."""
        return explain.status(self._ledger)

    def explain(self, task_id: TaskId) -> str:
        """Return why the task of this object does not run, in one sentence."""
        return explain.explain(self._ledger, self._pool, task_id)

    def story(self, task_id: TaskId) -> list[Step]:
        """Return the story of a task that has not ended: submission, retries, losses, cancellation, present run."""
        obj = self._ledger.objects.get(task_id)
        task = self._ledger.tasks.get(task_id) or (obj.producer if obj is not None else None)
        return _story(task) if task is not None else []

    def segments(self, client_id: ClientId) -> set[str]:
        """Return the segments in memory that a client has made and that hold objects.

        The shell removes all other segments of a client that is gone.
        """
        return spilling.segments(self._ledger, client_id, on_disk=False)

    def spilled(self, client_id: ClientId) -> set[str]:
        """Return the segments on disk that a client has made and that hold objects."""
        return spilling.segments(self._ledger, client_id, on_disk=True)

    def audit(self) -> None:
        """Raise CoreError if an invariant is broken. The cost grows with the number of all records."""
        audit(self._ledger)

    # ----------------------------------------------------------------------------------------------------- dispatch

    def _on_event(self, event: Event) -> None:
        ledger = self._ledger
        match event:
            case Received(sender, message):
                self._on_message(sender, message)
            case WorkerStarted(worker_id, pid):
                if worker_id in ledger.workers and worker_id not in ledger.clients:
                    ledger.clients[worker_id] = Client(worker_id)
                    self._pool.on_started(worker_id, pid)
            case WorkerExited():
                self._take_last_reports(event)
                self._worker_loss.on_worker_exited(event)
            case EnvironmentOpened(key):
                self._environments.on_opened(key)
            case EnvironmentLost(key, reason):
                self._environments.on_lost(key, reason)
            case ClientJoined(client_id, pid):
                ledger.clients.setdefault(client_id, Client(client_id)).pid = pid
            case ClientGone(client_id):
                if client_id == ledger.owner:
                    self._detached.on_owner_gone(client_id)
                elif client_id not in ledger.workers:
                    self._worker_loss.on_client_gone(client_id)
                    self._groups.on_driver_gone(client_id)
            case Tick():
                self._detached.expire()
            case _:
                assert_never(event)

    def _on_message(self, sender: ClientId, message: m.FromClient) -> None:
        ledger = self._ledger
        if sender not in ledger.clients:
            self._on_stranger(sender, message)
            return
        # The most frequent messages come first.
        match message:
            case m.TaskDone():
                self._reports.on_done(sender, message)
            case m.Submit(spec):
                if spec.actor_id:
                    self._actors.on_call(sender, spec)
                else:
                    tasks.submit(ledger, sender, spec)
            case m.Release(ids):
                lifetimes.release(ledger, ids, sender)
            case m.Hold(ids):
                lifetimes.hold_all(ledger, ids, sender)
            case m.Want(ids):
                lifetimes.want(ledger, sender, ids)
            case m.Put():
                lifetimes.put(ledger, sender, message)
            case m.Output() | m.Display() | m.Progress():
                show(ledger, self._detached, self._names, message)
            case m.Yield():
                self._streams.on_yield(sender, message)
            case m.Blocked():
                self._reports.on_blocked(sender, message)
            case m.Unblocked():
                self._reports.on_unblocked(sender, message)
            case m.Returned():
                self._reports.on_returned(sender, message)
            case m.TaskFailed():
                self._reports.on_failed(sender, message)
            case m.Titled(title):
                self._names.on_titled(sender, title)
            case _:
                self._on_rare_message(sender, message)

    def _on_rare_message(self, sender: ClientId, message: m.RareFromClient) -> None:
        ledger = self._ledger
        match message:
            case m.Define(digest, _, refs):
                function = tasks.function_of(ledger, digest)
                if function.define is None:
                    function.define = message
                    lifetimes.hold_all(ledger, refs, SESSION)
            case m.DefineEnvironment():
                self._environments.on_define(message)
            case m.CreateActor(spec, actor):
                if not self._names.is_taken(sender, message):
                    self._actors.on_create(sender, spec, actor)
                    self._names.on_created(sender, message)
            case m.CancelTask():
                cancel.on_cancel(ledger, self._pool, message)
            case m.KillActor(actor_id, no_restart):
                self._actors.on_kill(sender, actor_id, no_restart)
            case m.Watch(ids):
                explain.watch(ledger, self._pool, sender, ids)
            case m.Unwatch(ids):
                explain.unwatch(ledger, sender, ids)
            case m.Status(request):
                ledger.out.append(Send(sender, m.StatusReply(request, self.status())))
            case m.Explain(request, object_id):
                ledger.out.append(Send(sender, m.Explanation(request, self.explain(object_id))))
            case m.Spans():
                self._asked_spans.append((sender, message))
            case m.Bye():
                if sender == ledger.owner:
                    ledger.out.append(Quit())
            case m.Bind():
                self._detached.on_bind(sender, message)
            case m.Kept():
                self._detached.on_kept(sender, message)
            case m.Taken():
                self._detached.on_taken(sender, message)
            case m.UseNamespace(namespace):
                self._names.use(sender, namespace)
            case m.LookUp():
                self._names.on_look_up(sender, message)
            case m.CreateGroup():
                self._groups.on_create(sender, message)
            case m.RemoveGroup(group_id):
                self._groups.on_remove(group_id)
            case m.LookUpGroups():
                self._groups.on_look_up(sender, message)
            case m.Consumed():
                self._streams.on_consumed(sender, message)
            case m.NoRoom():
                spilling.on_no_room(ledger, sender, message)
            case m.Spilled():
                spilling.on_spilled(ledger, sender, message)
            case m.Free(ids):
                lifetimes.free(ledger, ids)
            case m.ListState() | m.Summarize():
                self._state_queries.on_query(sender, message)
            case _:
                assert_never(message)

    def _take_last_reports(self, event: WorkerExited) -> None:
        """React to the reports that a lost worker had written to its progress page and could not send any more."""
        worker = self._ledger.workers.get(event.worker_id)
        if worker is None or not event.reports:
            return
        unreported = {task.run: task.spec.task_id for task in worker.tasks}
        for run, report in event.reports:
            if unreported.get(run) == report.task_id and self._is_complete(report):
                self._on_message(event.worker_id, report)

    def _is_complete(self, report: m.TaskDone | m.TaskFailed) -> bool:
        """Return whether all objects in a report are known: messages that create them may be lost with the worker."""
        if isinstance(report, m.TaskFailed):
            return True
        refs = [ref for refs in report.refs for ref in refs]
        refs += [value.object_id for value in report.values if type(value) is m.Forward]
        refs += [ref for value in report.values if type(value) is m.Failure for ref in value.refs]
        return all(ref in self._ledger.objects for ref in refs)

    def _tell_spans(self) -> None:
        ledger = self._ledger
        asked, self._asked_spans = self._asked_spans, []
        for client, question in asked:
            if client in ledger.clients:
                spans = self._timeline.since(question.since)
                ledger.out.append(Send(client, m.SpansReply(question.request, ledger.now, spans)))

    def _on_stranger(self, sender: ClientId, message: m.FromClient) -> None:
        """Drop the segments in a message of a client that is gone or was never there, and ignore the rest."""
        values: tuple[m.Value, ...] = ()
        if type(message) is m.TaskDone:
            values = message.values
        elif type(message) is m.Put or type(message) is m.Yield:
            values = (message.value,)
        for value in values:
            lifetimes.discard_value(self._ledger, value, sender)

    # ------------------------------------------------------------------------------------------------- consequences

    def _settle(self) -> None:
        """Deal with woken tasks, until there are none, and mark the actors that lost their last holder as touched."""
        ledger = self._ledger
        woken = ledger.woken
        while woken:
            batch = woken[:]
            woken.clear()
            for task in batch:
                if task.state == WAITING:
                    self._on_woken(task)
        for actor in ledger.orphans:
            ledger.touched[actor.id] = actor
        ledger.orphans.clear()

    def _on_woken(self, task: Task) -> None:
        """React to a task whose dependencies all have values, or one of whose dependencies has failed."""
        ledger = self._ledger
        actor = task.actor
        failure = task.failure
        if failure is not None:
            if actor is not None and tasks.is_creation(task):
                text = f"{actor.spec.class_name} could not be created: {failure.text}"
                self._actors.die(actor, m.Failure("actor_died", text, failure.data, failure.refs))
            else:
                tasks.fail(ledger, task, failure)
            return
        move(ledger, task, READY)
        if task.shape is not None:
            push(ledger, task.shape, task)
        else:
            self._actors.on_woken(task)

    def _settle_actors(self) -> None:
        """Settle all touched actors, and the actors that are touched in turn."""
        ledger = self._ledger
        touched = ledger.touched
        while touched:
            _, actor = touched.popitem()
            try:
                self._actors.settle(actor)
                if ledger.woken or ledger.orphans:
                    self._settle()
            except Exception:  # one actor's error must not take the session down
                ledger.out.append(Log(f"error in actor {actor.spec.class_name}:\n{traceback.format_exc()}"))

    def _place(self) -> None:
        for _ in range(PLACING_ERRORS):
            try:
                self._placement.place()
            except Exception as error:  # an error with one task must not stop the others
                task = self._placement.placing
                if task is not None and task.shape is not None and task.state == READY:
                    # The task has left its queue and has reached no worker. Failing it expects it in the queue.
                    put_back(self._ledger, (task,))
                self._fail_broken(task, error)
                self._settle()
                self._settle_actors()
                if task is None:
                    return
            else:
                return

    # ------------------------------------------------------------------------------------------------------- errors

    def _on_error(self, event: Event, error: Exception) -> None:
        ledger = self._ledger
        message = event.message if type(event) is Received else None
        if isinstance(error, InvalidTransition):
            ledger.out.append(Log(f"ignored {type(message or event).__name__}: {error}"))
            return
        task_id = NOBODY
        match message:
            case m.Submit(spec) | m.CreateActor(spec):
                task_id = spec.task_id
            case m.TaskDone() | m.TaskFailed() | m.Blocked() | m.Unblocked() | m.Yield():
                task_id = message.task_id
            case m.CancelTask():
                task_id = message.object_id
            case _:
                pass
        self._fail_broken(ledger.tasks.get(task_id), error)

    def _fail_broken(self, task: Task | None, error: Exception) -> None:
        """Log an error of the core, and fail the task that met it, if there is one."""
        ledger = self._ledger
        trace = "".join(traceback.format_exception(error))
        ledger.out.append(Log(f"internal error:\n{trace}"))
        if task is None or task.spec.task_id not in ledger.tasks:
            return
        text = f"an error inside the scheduler hit {task.spec.label}: {error!r}\n{told(_story(task))}"
        actor = task.actor
        try:
            if task.worker is not None:
                detach(ledger, task.worker, task)
            for worker in [worker for worker in ledger.leased.values() if not worker.tasks]:
                rest(ledger, worker)
            if actor is not None and tasks.is_creation(task):
                if actor.worker is not None:
                    self._pool.stop(actor.worker, kill=True)
                self._actors.die(actor, m.Failure("actor_died", text))
            else:
                tasks.fail(ledger, task, m.Failure("system", text))
        except Exception:  # the task's record is beyond repair; the session goes on without it
            ledger.tasks.pop(task.spec.task_id, None)
            ledger.out.append(Log(f"could not fail the task:\n{traceback.format_exc()}"))


def _story(task: Task) -> list[Step]:
    steps = [Step(task.submitted, f"submitted by client {task.submitter}"), *(task.story or ())]
    if task.worker is not None:
        steps.append(
            Step(task.started or task.submitted, f"attempt {task.attempt} on worker {task.worker.pid}")
        )
    return steps
