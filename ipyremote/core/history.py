"""What is remembered of tasks, actors and workers that are over, for whoever asks later. Bounded; decides nothing.

A run that a worker has reported, or was lost with, is remembered by the timeline, as the tuple that an `Attempt` is
made from; every run of every task comes there, so it costs one tuple. Here is what comes seldom: tasks that ended on no
worker, dead actors, workers that are gone. Nothing of a user's values is kept, and of a failure only the text.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from ipyremote.messages import Failure, Resources, WorkerRow

if TYPE_CHECKING:
    from ipyremote.core.state.ledger import Actor, Function, Shape, Task, Worker

__all__ = ["ActorFacts", "Attempt", "Facts", "Past", "attempt_of", "facts_of", "slim"]

#: Tasks without a run, and dead actors, that are remembered.
KEPT: Final = 10_000
KEPT_WORKERS: Final = 1_000
#: Characters of a failure's text.
TEXT_LIMIT: Final = 4_000


class Attempt(NamedTuple):
    """One attempt of a task, ended or not. It holds no arguments and no values."""

    #: When its end was reported; 0 while it has not ended.
    ended: float
    #: Where it is or was, if on any.
    worker: Worker | None
    label: str
    #: When it was taken to have started; 0: it has not.
    started: float
    #: How long user code ran, as the worker says; 0: it says nothing.
    micros: int
    #: A task's state, or as in `messages.Span`.
    state: str
    task_id: int
    attempt: int
    #: What it runs: a function, a class, or the name of a method.
    target: Function | str | None
    #: What it needs; None for a method call.
    shape: Shape | None
    #: That of a method call, and of a creation (whose id it is); else 0.
    actor_id: int
    parent: int
    submitted: float
    failure: Failure | None


#: What an `Attempt` is made from.
Facts: TypeAlias = tuple[
    float,
    "Worker | None",
    str,
    float,
    int,
    str,
    int,
    int,
    "Function | str | None",
    "Shape | None",
    int,
    int,
    float,
    Failure | None,
]


class ActorFacts(NamedTuple):
    """An actor, dead or alive. The fields are those of `messages.ActorRow`, but for `driver`."""

    actor_id: int
    label: str
    class_name: str
    state: str
    name: str
    #: Empty: that of its driver.
    namespace: str
    pid: int
    resources: Resources
    is_detached: bool
    restarts: int
    group: int
    cause: str
    driver: int


class Past:
    """See the module docstring."""

    __slots__ = ("actors", "unrun", "workers")

    def __init__(self) -> None:
        #: Tasks that ended while they were on no worker. One whose last run was lost is known to the timeline, too.
        self.unrun: deque[Attempt] = deque(maxlen=KEPT)
        self.actors: deque[ActorFacts] = deque(maxlen=KEPT)
        self.workers: deque[WorkerRow] = deque(maxlen=KEPT_WORKERS)


def attempt_of(task: Task, ended: float = 0.0, failure: Failure | None = None) -> Attempt:
    """The present attempt of a task."""
    spec = task.spec
    return Attempt(
        ended,
        task.worker,
        spec.label,
        task.started,
        0,
        task.state,
        spec.task_id,
        task.attempt,
        task.function or spec.method,
        task.shape,
        spec.actor_id if task.actor is None else task.actor.id,
        spec.parent,
        task.submitted,
        None if failure is None else slim(failure),
    )


def facts_of(actor: Actor) -> ActorFacts:
    """The present facts of an actor."""
    spec = actor.spec
    creation = actor.creation.spec
    return ActorFacts(
        actor.id,
        creation.label,
        spec.class_name,
        actor.state,
        spec.name,
        spec.namespace,
        actor.worker.pid if actor.worker is not None else 0,
        actor.held.needs,
        spec.detached,
        actor.deaths,
        actor.shape.group.id if actor.shape.group is not None else 0,
        actor.cause.text[:TEXT_LIMIT] if actor.cause is not None else "",
        creation.driver,
    )


def slim(failure: Failure) -> Failure:
    """The same without the pickled exception, which may be large."""
    return Failure(failure.kind, failure.text[:TEXT_LIMIT])
