"""The states of tasks, actors, objects and placement groups, and the legal moves between them.

    task    WAITING (on objects) -> READY -> SENT -> RUNNING <-> BLOCKED -> DONE | FAILED | CANCELLED, and CANCELLING
    actor   WAITING -> STARTING -> ALIVE <-> RESTARTING -> DEAD
    object  PROMISED -> SEALED | FAILED -> DROPPED, and SEALED -> FAILED
    group   PENDING -> RESERVED -> REMOVED

The tables say which moves there are, not why one is made. A missing entry raises `InvalidTransition`. States are plain
strings, the ones that `ClusterStatus` counts by, since a comparison of strings is the cheapest there is.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "ACTOR_MOVES",
    "ALIVE",
    "BLOCKED",
    "CANCELLED",
    "CANCELLING",
    "DEAD",
    "DONE",
    "DROPPED",
    "ENDED",
    "FAILED",
    "GROUP_MOVES",
    "OBJECT_MOVES",
    "PENDING",
    "PROMISED",
    "READY",
    "REMOVED",
    "RESERVED",
    "RESTARTING",
    "RUNNING",
    "SEALED",
    "SENT",
    "SHOWN",
    "STARTING",
    "TASK_MOVES",
    "WAITING",
    "CoreError",
    "InvalidTransition",
]

#: For a task: some of the objects it needs have no value yet. For an actor: its creation waits, for objects or a place.
WAITING: Final = "waiting"
#: Can run as soon as it gets a place (a method call: as soon as its actor takes it).
READY: Final = "ready"
#: Sent ahead to a worker, behind what that runs.
SENT: Final = "sent"
RUNNING: Final = "running"
#: Waits in `get` or `wait`; its CPUs are lent out.
BLOCKED: Final = "blocked"
#: Its worker was asked to interrupt it.
CANCELLING: Final = "cancelling"
DONE: Final = "done"
FAILED: Final = "failed"
CANCELLED: Final = "cancelled"

#: The creation of the actor is on a worker.
STARTING: Final = "starting"
ALIVE: Final = "alive"
#: Its worker was lost and the creation runs again.
RESTARTING: Final = "restarting"
DEAD: Final = "dead"

PROMISED: Final = "promised"
SEALED: Final = "sealed"
DROPPED: Final = "dropped"

#: A placement group waits for what it is to reserve.
PENDING: Final = "pending"
RESERVED: Final = "reserved"
REMOVED: Final = "removed"

_END = frozenset((FAILED, CANCELLED))

TASK_MOVES: Final[dict[str, frozenset[str]]] = {
    WAITING: _END | {READY},
    # Straight to RUNNING when nothing is before it on its worker.
    READY: _END | {SENT, RUNNING},
    # Back to READY when handed back or when its worker is lost. An actor that runs several calls at a time may start
    # and end them in another order than the core assumes, hence BLOCKED and DONE.
    SENT: _END | {RUNNING, BLOCKED, DONE, READY, CANCELLING},
    RUNNING: _END | {BLOCKED, DONE, READY, CANCELLING},
    BLOCKED: _END | {RUNNING, DONE, READY, CANCELLING},
    # Its worker may have finished it before it saw the request.
    CANCELLING: _END | {DONE},
    DONE: frozenset(),
    FAILED: frozenset(),
    CANCELLED: frozenset(),
}
ENDED: Final = frozenset((DONE, FAILED, CANCELLED))

ACTOR_MOVES: Final[dict[str, frozenset[str]]] = {
    WAITING: frozenset((STARTING, DEAD)),
    # Back to WAITING when its worker was lost before the creation had started, which is not charged.
    STARTING: frozenset((ALIVE, RESTARTING, WAITING, DEAD)),
    ALIVE: frozenset((RESTARTING, DEAD)),
    RESTARTING: frozenset((ALIVE, DEAD)),
    DEAD: frozenset(),
}

OBJECT_MOVES: Final[dict[str, frozenset[str]]] = {
    PROMISED: frozenset((SEALED, FAILED, DROPPED)),
    # Freed by hand.
    SEALED: frozenset((FAILED, DROPPED)),
    FAILED: frozenset((DROPPED,)),
    DROPPED: frozenset(),
}

GROUP_MOVES: Final[dict[str, frozenset[str]]] = {
    PENDING: frozenset((RESERVED, REMOVED)),
    RESERVED: frozenset((REMOVED,)),
    REMOVED: frozenset(),
}

#: What `TaskUpdate.state` says for each state of a task.
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
    """The core broke one of its own rules while it dealt with a task; `story` is what happened to it before."""

    def __init__(self, text: str, task_id: int = 0, story: str = "") -> None:
        super().__init__(f"{text}\n{story}" if story else text)
        self.task_id = task_id
        self.story = story


class InvalidTransition(CoreError):
    """A move that the tables do not have."""
