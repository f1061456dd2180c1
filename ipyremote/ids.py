"""Identifiers: one 63-bit integer for every client, task, object and actor.

Layout, high bits to low:

    | 0 | client: 23 bits | counter: 40 bits |

The client that mints an id puts its own number into the high bits, so ids are unique in a session although no other
process is asked for one. A task's id is the id of the task's first object, and the ids of its other objects follow. An
actor's id is the id of the task that creates the actor. Thus `TaskId` and `ActorId` are other names of `ObjectId`,
while numbers of clients and ids of placement groups are kinds of their own. This module mints ids and takes ids apart;
it does not know which of them exist.

A negative number `-n` stands for the task itself, where `n` stands for the task's first object: `-n` is waited for and
released in the place of the next item of the task's stream, and is the holder of the objects that the task needs.
"""

from __future__ import annotations

from typing import NewType, TypeAlias

__all__ = [
    "CLIENTS",
    "COUNTER_BITS",
    "DRIVER",
    "FIRST_JOINED_CLIENT",
    "NOBODY",
    "NO_CLIENT",
    "NO_GROUP",
    "SCHEDULER",
    "ActorId",
    "ClientId",
    "GroupId",
    "IdSource",
    "Identifier",
    "ObjectId",
    "TaskId",
    "client_of",
    "digits_of",
    "group_hex_of",
    "hex_of",
    "job_hex_of",
    "minus",
    "task_hex_of",
]

#: Number of a client, which is a driver or a worker.
ClientId = NewType("ClientId", int)
#: Id of an object.
ObjectId = NewType("ObjectId", int)
#: Id of a task, which is the id of the task's first object.
TaskId: TypeAlias = ObjectId
#: Id of an actor, which is the id of the task that creates the actor.
ActorId: TypeAlias = ObjectId
#: Id of a placement group: a random number.
GroupId = NewType("GroupId", int)

#: Number of the low bits of an id, which count the ids of one client.
COUNTER_BITS = 40
#: Upper limit of client numbers, itself not one of them.
CLIENTS = 1 << 23
#: Smallest number of a driver that joins a session later; such numbers are random, and larger than those of workers.
FIRST_JOINED_CLIENT = ClientId(1 << 22)
#: Number of the driver that started the session. Workers get their numbers from the scheduler.
DRIVER = ClientId(1)
#: Number in the ids that the scheduler mints, for the items of streams. No client has this number.
SCHEDULER = ClientId(CLIENTS - 1)
#: Absent id of an object, a task or an actor.
NOBODY = ObjectId(0)
#: Absent id of a placement group.
NO_GROUP = GroupId(0)
#: Absent number of a client.
NO_CLIENT = ClientId(0)

_COUNTER_MASK = (1 << COUNTER_BITS) - 1


class IdSource:
    """A source of consecutive ids for one client. Not thread-safe: the owner holds a lock of its own."""

    __slots__ = ("_next", "first_id")

    def __init__(self, client_id: ClientId) -> None:
        if not 0 < client_id < CLIENTS:
            raise ValueError(f"client id out of range: {client_id}")
        #: Lowest id of this client.
        self.first_id = self._next = ObjectId((client_id << COUNTER_BITS) + 1)

    @property
    def next_id(self) -> TaskId:
        """Id that `take` will return next."""
        return self._next

    def take(self, count: int = 1) -> TaskId:
        """Reserve `count` consecutive ids (at least one) and return the first."""
        first = self._next
        self._next = first + (count if count > 1 else 1)  # type: ignore[assignment]  # an id plus a count is an id
        return first


def minus(any_id: ObjectId) -> ObjectId:
    """Return the negative id for a task's id, and the task's id for the negative one; see the module docstring."""
    return -any_id  # type: ignore[return-value]  # minus an id is an id


def client_of(any_id: ObjectId) -> ClientId:
    """Return the number of the client that minted an id."""
    return any_id >> COUNTER_BITS  # type: ignore[return-value]  # the high bits of an id are a client's number


def hex_of(session_key: str, any_id: int) -> str:
    """Return 56 hexadecimal digits, the length of Ray's object ids: 40 of the session, 16 of the id."""
    return f"{session_key[:40]:0>40}{any_id:016x}"


def task_hex_of(session_key: str, task_id: int) -> str:
    """Return 48 hexadecimal digits, the length of Ray's task ids."""
    return hex_of(session_key, task_id)[-48:]


def group_hex_of(session_key: str, group_id: int) -> str:
    """Return 36 hexadecimal digits, the length of Ray's placement group ids: 20 of the session, 16 of the id."""
    return f"{session_key[:20]:0>20}{group_id:016x}"


def job_hex_of(session_key: str) -> str:
    """Return 8 hexadecimal digits, the length of Ray's job ids: a session is one job."""
    return f"{session_key[:8]:0>8}"


def digits_of(session_key: str, kind: str, any_id: int) -> str:
    """Return the hexadecimal digits of an id of this module's layout. `kind`: see `backend.records.IdKind`."""
    match kind:
        case "task":
            return task_hex_of(session_key, any_id)
        case "placement group":
            return group_hex_of(session_key, any_id)
        case "job":
            return job_hex_of(session_key)
        case _:
            return hex_of(session_key, any_id)


class Identifier:
    """An opaque id, such as that of the task behind a ref, which has digits and can be compared."""

    __slots__ = ("_digits", "_kind")

    def __init__(self, kind: str, digits: str) -> None:
        self._kind = kind
        self._digits = digits

    def hex(self) -> str:
        """Return the hexadecimal digits of the id."""
        return self._digits

    def binary(self) -> bytes:
        """Return the bytes of the id."""
        return bytes.fromhex(self._digits)

    def is_nil(self) -> bool:
        """Return whether the id is absent."""
        return not self._digits.strip("0")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Identifier) and (other._kind, other._digits) == (self._kind, self._digits)

    def __hash__(self) -> int:
        return hash((self._kind, self._digits))

    def __repr__(self) -> str:
        return f"{self._kind}({self._digits})"
