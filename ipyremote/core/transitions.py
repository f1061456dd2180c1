"""The states of tasks, actors, objects, workers, placement groups and environments, and the legal moves between them.

    task         WAITING -> READY -> SENT -> RUNNING <-> BLOCKED -> DONE | FAILED | CANCELLED, and CANCELLING
    actor        WAITING -> STARTING -> ALIVE <-> RESTARTING -> DEAD
    object       PROMISED -> SEALED | FAILED -> DROPPED, and SEALED -> FAILED
    worker       STARTING -> IDLE <-> BUSY, IDLE -> SERVING, and all of them -> STOPPING; GONE ends each
    group        PENDING -> RESERVED -> REMOVED
    environment  CLOSED -> OPENING -> OPEN -> CLOSED, OPENING -> FAILED -> OPENING, and OPEN -> FAILED

The tables say which moves there are, not why a move is made. `state.work` and `state.objects` have the functions that
make them; a missing entry raises `InvalidTransition`. States are plain strings, the same that `ClusterStatus` counts
by, since a comparison of strings is the cheapest there is.
"""

from __future__ import annotations

from typing import Final

from ipyremote.ids import NOBODY, TaskId

__all__ = [
    "ACTOR_MOVES",
    "ALIVE",
    "BLOCKED",
    "BUSY",
    "CANCELLED",
    "CANCELLING",
    "CLOSED",
    "DEAD",
    "DONE",
    "DROPPED",
    "ENDED",
    "ENVIRONMENT_MOVES",
    "FAILED",
    "GONE",
    "GROUP_MOVES",
    "IDLE",
    "OBJECT_MOVES",
    "OPEN",
    "OPENING",
    "PENDING",
    "PROMISED",
    "READY",
    "REMOVED",
    "RESERVED",
    "RESTARTING",
    "RUNNING",
    "SEALED",
    "SENT",
    "SERVING",
    "SHOWN",
    "STARTING",
    "STOPPING",
    "TASK_MOVES",
    "WAITING",
    "WORKER_MOVES",
    "CoreError",
    "InvalidTransition",
]

#: A task waits for objects that have no value yet. An actor's creation waits, for objects or for a place.
WAITING: Final = "waiting"
#: A task can run as soon as there is a place (a method call: as soon as its actor takes it).
READY: Final = "ready"
#: A task was sent to a worker that runs another task first.
SENT: Final = "sent"
RUNNING: Final = "running"
#: A task waits in `get` or `wait`; its CPUs are lent to others.
BLOCKED: Final = "blocked"
#: The worker of a task was asked to interrupt it.
CANCELLING: Final = "cancelling"
DONE: Final = "done"
#: A task, an object or an environment failed.
FAILED: Final = "failed"
CANCELLED: Final = "cancelled"

#: The creation of an actor is on a worker. A worker process was asked for and has not greeted.
STARTING: Final = "starting"
ALIVE: Final = "alive"
#: The worker of an actor was lost, and the creation runs again.
RESTARTING: Final = "restarting"
DEAD: Final = "dead"

PROMISED: Final = "promised"
SEALED: Final = "sealed"
DROPPED: Final = "dropped"

#: A worker has nothing to do.
IDLE: Final = "idle"
#: A worker has a lease for tasks.
BUSY: Final = "busy"
#: A worker is an actor, from the moment at which it gets the creation.
SERVING: Final = "actor"
#: A worker was told to end.
STOPPING: Final = "stopping"
#: The process of a worker has ended.
GONE: Final = "gone"

#: A placement group waits for the resources of its bundles.
PENDING: Final = "pending"
RESERVED: Final = "reserved"
REMOVED: Final = "removed"

#: An environment has no process.
CLOSED: Final = "closed"
#: The process of an environment was asked for, and sets the environment up.
OPENING: Final = "opening"
OPEN: Final = "open"

_END = frozenset((FAILED, CANCELLED))

TASK_MOVES: Final[dict[str, frozenset[str]]] = {
    WAITING: _END | {READY},
    # Straight to RUNNING when the worker has no other task.
    READY: _END | {SENT, RUNNING},
    # Back to READY when the worker hands the task back or is lost. An actor that runs several calls at a time may
    # start and end them in another order than the core assumes, hence BLOCKED and DONE.
    SENT: _END | {RUNNING, BLOCKED, DONE, READY, CANCELLING},
    RUNNING: _END | {BLOCKED, DONE, READY, CANCELLING},
    BLOCKED: _END | {RUNNING, DONE, READY, CANCELLING},
    # The task may have ended by itself before its worker saw the request.
    CANCELLING: _END | {DONE},
    DONE: frozenset(),
    FAILED: frozenset(),
    CANCELLED: frozenset(),
}
ENDED: Final = frozenset((DONE, FAILED, CANCELLED))

ACTOR_MOVES: Final[dict[str, frozenset[str]]] = {
    WAITING: frozenset((STARTING, DEAD)),
    # Back to WAITING when the worker was lost before the creation had started: such a loss is not charged.
    STARTING: frozenset((ALIVE, RESTARTING, WAITING, DEAD)),
    ALIVE: frozenset((RESTARTING, DEAD)),
    RESTARTING: frozenset((ALIVE, DEAD)),
    DEAD: frozenset(),
}

OBJECT_MOVES: Final[dict[str, frozenset[str]]] = {
    PROMISED: frozenset((SEALED, FAILED, DROPPED)),
    # To FAILED when the user frees the value by hand.
    SEALED: frozenset((FAILED, DROPPED)),
    FAILED: frozenset((DROPPED,)),
    DROPPED: frozenset(),
}

WORKER_MOVES: Final[dict[str, frozenset[str]]] = {
    STARTING: frozenset((IDLE, STOPPING, GONE)),
    IDLE: frozenset((BUSY, SERVING, STOPPING, GONE)),
    BUSY: frozenset((IDLE, STOPPING, GONE)),
    SERVING: frozenset((STOPPING, GONE)),
    # To STOPPING again when a worker that was asked to leave is killed after all.
    STOPPING: frozenset((STOPPING, GONE)),
    GONE: frozenset(),
}

GROUP_MOVES: Final[dict[str, frozenset[str]]] = {
    PENDING: frozenset((RESERVED, REMOVED)),
    RESERVED: frozenset((REMOVED,)),
    REMOVED: frozenset(),
}

ENVIRONMENT_MOVES: Final[dict[str, frozenset[str]]] = {
    CLOSED: frozenset((OPENING,)),
    OPENING: frozenset((OPEN, FAILED)),
    OPEN: frozenset((CLOSED, FAILED)),
    FAILED: frozenset((OPENING,)),
}

#: Word of `TaskUpdate.state` for each state of a task.
SHOWN: Final[dict[str, str]] = {
    WAITING: "waiting",
    READY: "ready",
    SENT: "ready",
    RUNNING: "running",
    BLOCKED: "blocked",
    CANCELLING: "running",
    DONE: "done",
    FAILED: "failed",
    CANCELLED: "cancelled",
}


class CoreError(Exception):
    """The core broke one of its own rules while it dealt with a task. `story`: what happened to the task before."""

    def __init__(self, text: str, task_id: TaskId = NOBODY, story: str = "") -> None:
        super().__init__(f"{text}\n{story}" if story else text)
        self.task_id = task_id
        self.story = story


class InvalidTransition(CoreError):
    """A move that the tables do not have."""
