"""The record of an object, and the change of its state. Data only; `core.lifetimes` decides.

A holder is a number that says who keeps the object alive:

    client id                        a client has refs to the object
    object id                        a ref to the object is inside that object's value
    -task_id                         the object is an argument of that task (of that actor's creation)
    SESSION, SAVED, DETACHED         the session itself, for the reason that the constant's comment gives

The sign has the meaning that `ids` gives it: `-n` is the task, `n` its first object. Most objects have one holder, so
`Object.holders` is 0 for none, the number for one, and a set for several, which saves 200 bytes an object.
"""

from __future__ import annotations

from typing import Final

from ipyremote.core.state.work import Task
from ipyremote.core.transitions import OBJECT_MOVES, PROMISED, InvalidTransition
from ipyremote.ids import CLIENTS, COUNTER_BITS, NO_CLIENT, ClientId, ObjectId
from ipyremote.messages import Failure, Inline, Stored

__all__ = ["DETACHED", "FIRST_ID", "SAVED", "SESSION", "Object", "move_object"]

#: The holder of objects that exported functions refer to; such objects live as long as the session.
SESSION: Final = CLIENTS + 1
#: The holder of objects that names of a driver stood for, once that driver is gone.
SAVED: Final = CLIENTS + 2
#: The holder of detached actors.
DETACHED: Final = CLIENTS + 3
#: The smallest id of a task, object or actor. Holders below it and above 0 are clients and the three constants.
FIRST_ID: Final = 1 << COUNTER_BITS


class Object:
    """A value, or the promise of one. The object of an actor's creation has the actor's holders."""

    __slots__ = (
        "creator",
        "forward",
        "holders",
        "id",
        "name",
        "number",
        "producer",
        "refs",
        "seconds",
        "state",
        "value",
        "waiters",
        "wanted",
        "watchers",
    )

    def __init__(
        self, object_id: ObjectId, holder: int, name: str, number: str, producer: Task | None
    ) -> None:
        self.id = object_id
        self.state: str = PROMISED
        #: The value, never a `Forward`; None while promised.
        self.value: Inline | Stored | Failure | None = None
        #: The holders, as the module docstring says.
        self.holders: int | set[int] = holder
        #: The client that made the segment and recycles it; 0 when the value has none or another object owns it.
        self.creator = NO_CLIENT
        #: Ids that the value refers to; this object holds them.
        self.refs: tuple[ObjectId, ...] = ()
        #: Tasks that need the value, and objects that forward to this one.
        self.waiters: list[Task | Object] | None = None
        #: Clients that asked for the value.
        self.wanted: set[ClientId] | None = None
        #: Clients that follow the state of the task.
        self.watchers: set[ClientId] | None = None
        #: The task that will give the value; None once the task has ended, and for a `put`.
        self.producer = producer
        #: Name and number of the task, as in its spec; empty for a `put`.
        self.name = name
        self.number = number
        #: Duration of the task in seconds, once it has ended.
        self.seconds = 0.0
        #: The object whose value this one will have, while that object is promised.
        self.forward: Object | None = None

    @property
    def label(self) -> str:
        """Return `name#number` of the task; empty for a `put`."""
        return f"{self.name}#{self.number}" if self.name else ""


def move_object(obj: Object, state: str) -> None:
    """Change an object's state. Raises InvalidTransition."""
    if state not in OBJECT_MOVES[obj.state]:
        raise InvalidTransition(f"object {obj.label or obj.id} cannot go from {obj.state} to {state}", obj.id)
    obj.state = state
