"""The records of what is over: attempts of tasks, dead actors, workers that are gone. Bounded; nothing is decided here.

`Attempt` is the one description of an attempt, ended or not: reports make it, the timeline and the lists read it. Every
run of every task becomes one, so an attempt costs one small record that the garbage collector does not look at. It
keeps nothing of a user's values, and of a failure only the text.
"""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

from ipyremote.core.state.functions import Function
from ipyremote.core.state.work import Actor, Shape, Task, Worker
from ipyremote.ids import NO_GROUP, ActorId, ClientId, GroupId, TaskId
from ipyremote.messages import Failure, Resources, Struct, WorkerRow

__all__ = ["LOST", "RETRIED", "TEXT_LIMIT", "ActorFacts", "Attempt", "Past", "attempt_of", "facts_of", "slim"]

#: Tasks without a run that are remembered, and dead actors that are.
KEPT: Final = 10_000
KEPT_WORKERS: Final = 1_000
#: Characters of a failure's text that are kept.
TEXT_LIMIT: Final = 4_000

#: States of an attempt that did not end its task: the attempt raised and the task runs again, or its worker was lost.
RETRIED: Final = "retried"
LOST: Final = "lost"


class Attempt(Struct, frozen=True):
    """One attempt of a task, ended or not. It holds no arguments and no values."""

    task_id: TaskId
    attempt: int
    #: Name and number of the task, as in its spec.
    name: str
    number: str
    #: A task's state, `RETRIED` or `LOST`.
    state: str
    #: The worker that has, or had, the task; None when there was none.
    worker: Worker | None
    #: Time of the task's submission.
    submitted: float
    #: Time at which the run started, as far as the core can tell; 0 before that.
    started: float
    #: Time at which the end was reported; 0 before that.
    ended: float
    #: Duration of the user's code in microseconds, as the worker reports; 0 when the worker reported none.
    micros: int
    #: The function or class that runs, or the name of a method.
    target: Function | str | None
    #: What the task needs; None for a method call.
    shape: Shape | None
    #: The actor of a method call or of a creation (whose task id it is); 0 for a plain task.
    actor_id: ActorId
    #: The task that submitted this one; 0 for a driver's own code.
    parent: int
    #: The failure without its pickle; None unless the attempt failed.
    failure: Failure | None

    @property
    def label(self) -> str:
        """Return `name#number`, for people."""
        return f"{self.name}#{self.number}"


class ActorFacts(NamedTuple):
    """An actor, dead or alive. The fields are those of `messages.ActorRow`, except `driver`."""

    actor_id: ActorId
    label: str
    class_name: str
    state: str
    name: str
    #: Namespace of the name; empty: that of the actor's driver.
    namespace: str
    pid: int
    resources: Resources
    is_detached: bool
    restarts: int
    group: GroupId
    cause: str
    #: The driver for which the actor was created.
    driver: ClientId


class Past:
    """What is remembered of tasks that ended on no worker, of dead actors, and of workers that are gone."""

    __slots__ = ("actors", "unrun", "workers")

    def __init__(self) -> None:
        #: Attempts of tasks that ended on no worker. The timeline knows one whose last run was lost, too.
        self.unrun: deque[Attempt] = deque(maxlen=KEPT)
        #: Dead actors, the latest last.
        self.actors: deque[ActorFacts] = deque(maxlen=KEPT)
        #: Workers that are gone, the latest last.
        self.workers: deque[WorkerRow] = deque(maxlen=KEPT_WORKERS)


def attempt_of(
    task: Task,
    *,
    worker: Worker | None,
    state: str,
    ended: float = 0.0,
    micros: int = 0,
    failure: Failure | None = None,
) -> Attempt:
    """Return the record of a task's present attempt. `worker` and `state` may be others than the task has by now."""
    spec = task.spec
    return Attempt(
        task_id=spec.task_id,
        attempt=task.attempt,
        name=spec.name,
        number=spec.number,
        state=state,
        worker=worker,
        submitted=task.submitted,
        started=task.started,
        ended=ended,
        micros=micros,
        target=task.function or spec.method,
        shape=task.shape,
        actor_id=spec.actor_id if task.actor is None else task.actor.id,
        parent=spec.parent,
        failure=None if failure is None else slim(failure),
    )


def facts_of(actor: Actor) -> ActorFacts:
    """Return the present facts of an actor."""
    spec = actor.spec
    creation = actor.creation.spec
    return ActorFacts(
        actor_id=actor.id,
        label=creation.label,
        class_name=spec.class_name,
        state=actor.state,
        name=spec.name,
        namespace=spec.namespace,
        pid=actor.worker.pid if actor.worker is not None else 0,
        resources=actor.held.needs,
        is_detached=spec.detached,
        restarts=actor.deaths,
        group=actor.shape.group.id if actor.shape.group is not None else NO_GROUP,
        cause=actor.cause.text[:TEXT_LIMIT] if actor.cause is not None else "",
        driver=creation.driver,
    )


def slim(failure: Failure) -> Failure:
    """Return a failure without its pickled exception, which may be large."""
    return Failure(failure.kind, failure.text[:TEXT_LIMIT])
