"""Actors: their creation, their calls in order, their restarts and their end.

Rules. An actor that runs one call at a time gets the calls of one caller in the order in which they were submitted; a
call that waits for objects holds up the later calls of its caller, and no other caller's. Up to `IN_FLIGHT` calls are
sent ahead. When the worker is lost, calls that had not started are kept in order and run after the restart, behind the
started calls that have retries left. An actor that nobody holds is stopped after its last call. The arguments of the
creation are held, as `-actor_id`, until the actor is dead. A dead actor is remembered, with the reason, as long as it
has holders. As in Ray, an actor dies with its owner, the process that created it, unless it is detached; and a call
without retries that comes while its actor restarts fails at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from ipyremote.core.commands import Send
from ipyremote.core.dispatch import back_to_ready, detach_all, send
from ipyremote.core.events import WorkerEnd
from ipyremote.core.group_reservation import refusal
from ipyremote.core.lifetimes import release, seal
from ipyremote.core.queues import push, put_back
from ipyremote.core.resources import intern_shape, larger, shrink_lease
from ipyremote.core.state import Actor, Ledger, Task, Worker, move_actor, move_worker
from ipyremote.core.state.history import facts_of
from ipyremote.core.tasks import end, fail, function_of, may_retry, promise, wait_for
from ipyremote.core.transitions import (
    ALIVE,
    BLOCKED,
    CANCELLED,
    CANCELLING,
    DEAD,
    DONE,
    FAILED,
    READY,
    RESTARTING,
    RUNNING,
    SENT,
    SERVING,
    STARTING,
    WAITING,
)
from ipyremote.core.worker_pool import WorkerPool
from ipyremote.ids import ActorId, ClientId
from ipyremote.messages import ActorSpec, CancelRun, Failure, TaskDone, TaskSpec

__all__ = ["Actors"]

#: Number of calls that may be sent ahead to an actor with concurrency groups, whose worker does the limiting.
UNLIMITED: Final = 1 << 62
#: Number of calls that may be sent to any other actor ahead of their results.
IN_FLIGHT: Final = 1000


class Actors:
    """The reactions to everything that happens to actors. The records are in the ledger; nothing is kept here."""

    def __init__(self, ledger: Ledger, pool: WorkerPool) -> None:
        self._ledger = ledger
        self._pool = pool

    # ---------------------------------------------------------------------------------------------- coming to life

    def on_create(self, sender: ClientId, spec: TaskSpec, actor_spec: ActorSpec) -> None:
        """Make the record of an actor that a client creates, and queue its creation."""
        ledger = self._ledger
        task = promise(ledger, sender, spec)
        if task is None:
            return
        needs = larger(spec.resources, actor_spec.resources)
        place = spec.place
        refused = refusal(ledger, needs, place) if place is not None else None
        if refused is not None:
            place = None
        where = spec.environment
        shape = intern_shape(ledger, needs, creates=True, place=place, environment=where)
        held = intern_shape(ledger, actor_spec.resources, creates=True, place=place, environment=where)
        actor = Actor(actor_spec, task, shape, held)
        ledger.actors[actor.id] = actor
        task.actor = actor
        if refused is not None:
            text = f"{actor_spec.class_name} cannot be created: {refused[1]}."
            self.die(actor, Failure(f"actor_{refused[0]}", text))
            return
        task.shape = shape
        task.function = function_of(ledger, spec.digest)
        if wait_for(ledger, task, -actor.id):
            push(ledger, shape, task)

    def adopt(self, worker: Worker, creation: Task) -> None:
        """Make a worker the actor. Placement has chosen the worker, and sends the creation after this."""
        actor = creation.actor
        assert actor is not None, "a creation has an actor"
        worker.actor = actor
        move_worker(worker, SERVING)
        worker.environment.pool_size -= 1
        actor.worker = worker
        if actor.state == WAITING:
            move_actor(actor, STARTING)

    def on_created(self, worker: Worker, task: Task, message: TaskDone) -> None:
        """React to the end of a creation, which is off the worker: the actor is alive, or dead."""
        ledger = self._ledger
        actor = task.actor
        assert actor is not None, "a creation has an actor"
        value = message.values[0] if message.values else Failure("system", "its creation gave no value")
        if type(value) is Failure:
            text = f"{actor.spec.class_name} could not be created: {value.text}"
            self._pool.stop(worker, kill=False)
            self.die(actor, Failure("actor_died", text, value.data, value.refs))
            return
        shrink_lease(worker, actor.held)
        move_actor(actor, ALIVE)
        obj = ledger.objects.get(actor.id)
        if obj is not None and obj.value is None and type(value) is not Failure:
            obj.seconds = ledger.now - task.started
            # The value of a creation is never more than None, so it is Inline.
            seal(ledger, obj, value, worker.id)  # type: ignore[arg-type]
        end(ledger, task, DONE)

    # --------------------------------------------------------------------------------------------------------- calls

    def on_call(self, sender: ClientId, spec: TaskSpec) -> None:
        """Queue a client's call of a method, or fail the call if the actor is dead or restarts."""
        ledger = self._ledger
        task = promise(ledger, sender, spec)
        if task is None:
            return
        actor = ledger.actors.get(spec.actor_id)
        ready = not (spec.deps or spec.refs) or wait_for(ledger, task, -spec.task_id)
        if actor is None or actor.cause is not None:
            gone = "Its last handle was released before this call." if actor is None else ""
            cause = actor.cause if actor is not None else None
            fail(ledger, task, cause or Failure("actor_died", f"{spec.label}: the actor is dead. {gone}"))
            return
        if actor.state == RESTARTING and not spec.max_retries:
            text = (
                f"{spec.label}: {actor.spec.class_name} is restarting, so it cannot be called now. Call it again "
                "later, or give it max_task_retries, with which calls wait."
            )
            fail(ledger, task, Failure("actor_unavailable", text))
            return
        task.actor = actor
        actor.calls[spec.task_id] = task
        if ready:
            self._on_ready(actor, task)
        elif _is_ordered(actor) and task.failure is None:
            self._lane(actor, task).append(task)

    def on_woken(self, task: Task) -> None:
        """React to a call that waited for objects and is READY now."""
        actor = task.actor
        assert actor is not None, "a call has an actor"
        if _is_ordered(actor):
            # The call is in its caller's lane, perhaps behind other calls that wait.
            self._ledger.touched[actor.id] = actor
        else:
            actor.outbox.append(task)
            self._ledger.touched[actor.id] = actor

    def settle(self, actor: Actor) -> None:
        """Send the calls that the actor can take now, and stop the actor if nobody needs it."""
        ledger = self._ledger
        if actor.state == DEAD:
            return
        if actor.lanes:
            self._advance_lanes(actor)
        worker = actor.worker
        if actor.state == ALIVE and worker is not None and worker.state == SERVING:
            outbox = actor.outbox
            # The calls of one concurrency group must not keep the calls of another group from being sent.
            limit = max(IN_FLIGHT, actor.max_running) if not actor.spec.groups else UNLIMITED
            while outbox and len(worker.tasks) < limit:
                task = outbox.popleft()
                if task.state == READY:
                    send(ledger, worker, task)
        if not actor.calls:
            obj = ledger.objects.get(actor.id)
            if obj is None or not obj.holders:
                self._on_unneeded(actor)

    # ----------------------------------------------------------------------------------------------------------- ends

    def on_kill(self, sender: ClientId, actor_id: ActorId, no_restart: bool) -> None:
        """End an actor that a client kills, or whose own worker says that it leaves on purpose."""
        ledger = self._ledger
        actor = ledger.actors.get(actor_id)
        if actor is None or actor.state == DEAD:
            return
        worker = actor.worker
        if worker is not None and sender == worker.id:
            # The worker leaves after the calls that it was sent, so calls that have not begun are cancelled there.
            for call in worker.tasks:
                if call.state == SENT:
                    ledger.out.append(Send(sender, CancelRun(call.spec.task_id, call.attempt)))
            self._pool.stop(worker, kill=False)
            self.die(actor, Failure("actor_died", f"{actor.spec.class_name} has left by exit_actor()."))
        elif no_restart:
            if worker is not None:
                self._pool.stop(worker, kill=True)
            self.die(actor, Failure("actor_died", f"{actor.spec.class_name} was killed by kill()."))
        elif worker is not None:
            # The loss of the worker is dealt with like any other, once it is known which calls had started.
            self._pool.stop(worker, kill=True)

    def on_lost(self, worker: Worker, end: WorkerEnd, started: int, finished: int) -> None:
        """React to the loss of an actor's worker: restart the actor, or end it.

        `started` and `finished`: numbers of the latest runs that had started and finished.
        """
        reason = end.text
        ledger = self._ledger
        actor = worker.actor
        assert actor is not None, "the worker was an actor"
        calls = detach_all(worker)
        if actor.worker is not worker or actor.state == DEAD:
            return
        actor.worker = None
        creation = actor.creation
        if calls and calls[0] is creation and creation.run > started:
            # The creation had not started: nothing is charged.
            if actor.state == STARTING:
                move_actor(actor, WAITING)
            back_to_ready(ledger, creation)
            put_back(ledger, (creation,))
            return
        restart = actor.spec.max_restarts < 0 or actor.deaths < actor.spec.max_restarts
        kept: list[Task] = []
        for call in calls:
            if call is creation:
                continue
            if call.run > started and call.state != CANCELLING:
                kept.append(call)
            else:
                completed = call.run <= finished and actor.max_running == 1
                self._on_lost_call(call, worker.pid, reason, restart, completed, kept)
        kept.sort(key=lambda call: call.run > started)
        for call in kept:
            back_to_ready(ledger, call)
        actor.outbox.extendleft(reversed(kept))
        if restart:
            self._restart(actor, reason)
            return
        left = f"no restart is left (max_restarts={actor.spec.max_restarts})"
        text = (
            f"{actor.spec.class_name} is dead: its worker (pid {worker.pid}) was lost, and {left}: {reason}"
        )
        self.die(actor, Failure("actor_died", text))

    def on_owner_gone(self, is_owned: Callable[[Actor], bool], why: str) -> None:
        """End the actors of an owner that has ended, unless they are detached. `is_owned` tells the owner's actors."""
        for actor in list(self._ledger.actors.values()):
            if actor.state == DEAD or actor.spec.detached or not is_owned(actor):
                continue
            if actor.worker is not None:
                self._pool.stop(actor.worker, kill=True)
            text = f"{actor.spec.class_name} has died with its owner: {why}"
            self.die(actor, Failure("actor_died", text))

    def die(self, actor: Actor, cause: Failure) -> None:
        """End an actor for good, with its calls. The caller has told its worker, if any, to stop."""
        ledger = self._ledger
        move_actor(actor, DEAD)
        actor.cause = cause
        worker = actor.worker
        actor.worker = None
        ledger.past.actors.append(facts_of(actor))
        if worker is not None:
            detach_all(worker)
        creation = actor.creation
        if ledger.tasks.get(actor.id) is creation:
            fail(ledger, creation, cause, FAILED if creation.state != WAITING else CANCELLED)
        for call in list(actor.calls.values()):
            begun = call.state in (RUNNING, BLOCKED, CANCELLING)
            fail(ledger, call, cause if begun else unstarted(call, cause))
        actor.lanes.clear()
        actor.outbox.clear()
        release(ledger, creation.spec.deps, -actor.id)
        release(ledger, creation.spec.refs, -actor.id)
        obj = ledger.objects.get(actor.id)
        if obj is not None:
            # Removes no holder; the object is dropped if nobody holds it, as it can be now that the actor is dead.
            release(ledger, (actor.id,), 0)

    # -------------------------------------------------------------------------------------------------------- details

    def _on_ready(self, actor: Actor, task: Task) -> None:
        lane = actor.lanes.get(task.submitter)
        (actor.outbox if lane is None else lane).append(task)
        self._ledger.touched[actor.id] = actor

    def _lane(self, actor: Actor, task: Task) -> deque[Task]:
        lane = actor.lanes.get(task.submitter)
        if lane is None:
            lane = actor.lanes[task.submitter] = deque()
        return lane

    def _advance_lanes(self, actor: Actor) -> None:
        """Move the calls that are READY to the outbox, of each caller up to the first call that waits for objects."""
        for client, lane in list(actor.lanes.items()):
            while lane and lane[0].state != WAITING:
                call = lane.popleft()
                if call.state == READY:
                    actor.outbox.append(call)
            if not lane:
                del actor.lanes[client]

    def _on_lost_call(
        self, call: Task, pid: int, reason: str, restart: bool, completed: bool, kept: list[Task]
    ) -> None:
        """End or retry a call that was on the lost worker and had started, or was being cancelled."""
        ledger = self._ledger
        label = call.spec.label
        if call.state == CANCELLING:
            fail(ledger, call, Failure("task_cancelled", f"{label} was cancelled."), CANCELLED)
            return
        call.crashes += 1
        call.note(
            ledger.now, f"attempt {call.attempt}: the worker of its actor (pid {pid}) was lost: {reason}"
        )
        if restart and may_retry(call):
            call.attempt += 1
            kept.append(call)
            return
        did = "had completed, but its result was not delivered" if completed else "was running"
        kind = "actor_unavailable" if restart else "actor_died"
        if restart:
            then = "The actor is restarted; max_task_retries would run such a call again"
        else:
            then = "The actor is dead; max_restarts would start it again"
        text = (
            f"{label} {did} when the worker of its actor (pid {pid}) was lost. {then}. The reason: {reason}"
        )
        fail(ledger, call, Failure(kind, text))

    def _restart(self, actor: Actor, reason: str) -> None:
        ledger = self._ledger
        actor.deaths += 1
        if actor.state != RESTARTING:
            move_actor(actor, RESTARTING)
        creation = actor.creation
        if ledger.tasks.get(actor.id) is creation:
            creation.attempt += 1
            back_to_ready(ledger, creation)
        else:
            again = Task(creation.spec, creation.submitter, READY, ledger.now)
            again.attempt = creation.attempt + 1
            again.actor = actor
            again.shape = actor.shape
            again.function = creation.function
            actor.creation = creation = ledger.tasks[actor.id] = again
        creation.note(ledger.now, f"restart {actor.deaths}: {reason}")
        put_back(ledger, (creation,))

    def _on_unneeded(self, actor: Actor) -> None:
        """Stop an actor that has no handle and no call. A creation that runs is left to end first."""
        creation = actor.creation
        if self._ledger.tasks.get(actor.id) is creation and creation.worker is not None:
            return
        if actor.worker is not None:
            self._pool.stop(actor.worker, kill=False)
        self.die(
            actor,
            Failure("actor_died", f"{actor.spec.class_name} went out of scope: no handle to it is left."),
        )


def _is_ordered(actor: Actor) -> bool:
    """Return whether the calls of one caller run in the order in which they were submitted."""
    return actor.max_running == 1 and not actor.spec.unordered


def unstarted(call: Task, cause: Failure) -> Failure:
    """Return the failure of a call that its actor did not live to start."""
    return Failure(cause.kind, f"{call.spec.label} had not started: {cause.text}", cause.data, cause.refs)
