"""Messages from a client, which is a driver or a worker, to the scheduler.

    Hello                                             the greeting
    Define, DefineEnvironment                         functions and environments; sent before their first use
    Submit, CreateActor, Put                          new tasks, actors and objects
    Hold, Release, Want, Free, Consumed               the sender's refs, and the values that the sender waits for
    CancelTask, KillActor, CreateGroup, RemoveGroup   changes of tasks, actors and placement groups
    Watch, Unwatch                                    subscriptions to the state of tasks
    NoRoom, Spilled                                   a full store
    Bind, Kept, Taken, UseNamespace, Bye              a driver's names, and its end
    Status, Explain, Spans, LookUp, LookUpGroups, ListState, Summarize     requests, each with a number `request`

The reply to a request is a `Reply` with the number of the request.
"""

from __future__ import annotations

from typing import TypeAlias

from ipyremote.backend.placement import LabelMatch
from ipyremote.backend.records import Resources
from ipyremote.ids import DRIVER, NO_GROUP, ActorId, ClientId, GroupId, ObjectId, TaskId
from ipyremote.messages.state_rows import Bound, Filter
from ipyremote.messages.task import ActorSpec, EnvironmentSpec, TaskSpec
from ipyremote.messages.values import Failure, Inline, Stored, Struct

__all__ = [
    "Bind",
    "Bye",
    "CancelTask",
    "Consumed",
    "CreateActor",
    "CreateGroup",
    "Define",
    "DefineEnvironment",
    "Explain",
    "Free",
    "FrequentFromClient",
    "Hello",
    "Hold",
    "Kept",
    "KillActor",
    "ListState",
    "LookUp",
    "LookUpGroups",
    "NoRoom",
    "Put",
    "RareFromClient",
    "Release",
    "RemoveGroup",
    "Spans",
    "Spilled",
    "Status",
    "Submit",
    "Summarize",
    "Taken",
    "Unwatch",
    "UseNamespace",
    "Want",
    "Watch",
]


class Hello(Struct, frozen=True, tag=10):
    """The first message of a connection."""

    client_id: ClientId
    pid: int
    #: "driver" or "worker"
    role: str


class Define(Struct, frozen=True, tag=11):
    """A function or class, sent before its first use. The scheduler sends it on to each worker that needs it."""

    digest: bytes
    #: Pickle of the function or class.
    payload: bytes
    #: Ids of objects that the payload refers to, in closures. The session holds them as long as it lives.
    refs: tuple[ObjectId, ...] = ()
    #: Name of the function or class as it is defined.
    name: str = ""


class DefineEnvironment(Struct, frozen=True, tag=75):
    """An environment, sent before the first task in it."""

    environment: EnvironmentSpec
    #: Whether to set the environment up before a task needs it.
    eager: bool = False


class Submit(Struct, frozen=True, tag=12):
    """A task or method call to be run. The sender holds each return object from now on."""

    spec: TaskSpec


class CreateActor(Struct, frozen=True, tag=13):
    """An actor to be started. The sender holds the actor's id from now on.

    The creation of an actor with a name has a `request` number and is answered by `Names`, with the one actor that has
    the name from now on. If another actor has the name already, that actor keeps it and nothing is started.
    """

    spec: TaskSpec
    actor: ActorSpec
    request: int = 0


class Put(Struct, frozen=True, tag=14):
    """A new object with its value. The sender holds the object from now on."""

    object_id: ObjectId
    value: Inline | Stored | Failure
    #: Ids of objects and actors that the value refers to.
    refs: tuple[ObjectId, ...] = ()


class Hold(Struct, frozen=True, tag=15):
    """Objects and actors to which the sender now has a ref, or which it has mapped. Harmless when repeated."""

    ids: tuple[ObjectId, ...]


class Release(Struct, frozen=True, tag=16):
    """Objects and actors to which the sender has no ref and no mapping any more. Harmless when repeated.

    `-task_id` names a task itself: the generator of its stream is gone, so nobody can use further items.
    """

    ids: tuple[ObjectId, ...]


class Want(Struct, frozen=True, tag=17):
    """Objects for which the sender wants `ObjectReady`, as soon as each has a value.

    The submitter of a task gets `ObjectReady` without asking, for the return objects that it still holds.
    """

    ids: tuple[ObjectId, ...]


class CancelTask(Struct, frozen=True, tag=18):
    """The task that returns this object is to be cancelled."""

    object_id: ObjectId
    #: Whether to kill the worker of a running task.
    force: bool = False
    #: Whether to cancel the tasks that the task has submitted, too.
    recursive: bool = True


class KillActor(Struct, frozen=True, tag=19):
    """The process of an actor is to be ended now."""

    actor_id: ActorId
    #: Whether the actor stays dead even if restarts are left.
    no_restart: bool = True


class Watch(Struct, frozen=True, tag=20):
    """Objects whose tasks the sender follows, by `TaskUpdate` now and at each change, until `Unwatch` or the end."""

    ids: tuple[ObjectId, ...]


class Unwatch(Struct, frozen=True, tag=21):
    """Objects whose tasks the sender follows no more."""

    ids: tuple[ObjectId, ...]


class Status(Struct, frozen=True, tag=22):
    """The request for a snapshot of the session. Its reply is `StatusReply`."""

    request: int


class Explain(Struct, frozen=True, tag=23):
    """The request for the reason why the task of an object does not run. Its reply is `Explanation`."""

    request: int
    object_id: ObjectId


class Bye(Struct, frozen=True, tag=24):
    """The sender ends. If it owns the session, the session ends: workers are stopped and the directory is removed."""


class NoRoom(Struct, frozen=True, tag=25):
    """The sender finds no room in the store. Every other client is asked to `Trim`.

    If `needed` is not 0, the answer is `Spill`, with the objects that the sender is to move to disk.
    """

    #: Bytes that the sender needs; 0 if nothing is to be moved to disk.
    needed: int = 0


class Spilled(Struct, frozen=True, tag=71):
    """Answer to `Spill`."""

    #: Segments whose complete copies lie in the spill directory.
    done: tuple[str, ...]
    #: Segments of which no copy was made.
    failed: tuple[str, ...] = ()


class Free(Struct, frozen=True, tag=73):
    """Objects whose values are freed, whatever refs there are, as soon as no task needs them."""

    ids: tuple[ObjectId, ...]


class Spans(Struct, frozen=True, tag=26):
    """The request for the runs that have ended. Its reply is `SpansReply`."""

    request: int
    #: Time after which a run must have been reported: `now` of the answer before, or 0.
    since: float


class Bind(Struct, frozen=True, tag=27):
    """Changes of the names of a driver's program that stand for objects and actors."""

    #: Names that are bound now, or bound anew.
    bound: tuple[Bound, ...]
    #: Names that are not bound any more.
    unbound: tuple[str, ...] = ()


class Kept(Struct, frozen=True, tag=28):
    """The request for the names that a driver has left when it ended. Its reply is `KeptReply`."""

    request: int
    #: Whether the sender owns the session from now on.
    claim: bool = False


class Taken(Struct, frozen=True, tag=29):
    """Saved names whose objects and actors the new owner of the session holds by now."""

    names: tuple[str, ...]


class UseNamespace(Struct, frozen=True, tag=65):
    """The namespace of a driver's named actors. A driver that sends no namespace has one of its own."""

    namespace: str


class LookUp(Struct, frozen=True, tag=66):
    """The request for living actors with names. Its reply is `Names`, sorted by namespace and name."""

    request: int
    #: The driver for which the sender runs.
    driver: ClientId
    #: Namespace to look in; empty for the sender's own.
    namespace: str = ""
    #: Name to look for; empty for all names.
    name: str = ""
    #: Whether to list the names of all namespaces.
    everywhere: bool = False


class CreateGroup(Struct, frozen=True, tag=80):
    """A placement group: bundles of resources that are reserved together.

    The creation of a group with a name has a `request` number and is answered by `GroupsReply`, with the one group that
    has the name from now on. If another group has the name already, that group keeps it and nothing is reserved.
    """

    group_id: GroupId
    bundles: tuple[Resources, ...]
    #: "PACK", "SPREAD", "STRICT_PACK" or "STRICT_SPREAD"
    strategy: str
    #: Name for people: `name`, or one that the client made.
    label: str
    #: Name by which the group is found; empty for most groups.
    name: str = ""
    #: Whether the group outlives the actor or driver that creates it.
    detached: bool = False
    #: The driver for which the sender runs, and its notebook cell, as in `TaskSpec`.
    driver: ClientId = DRIVER
    cell: int = 0
    request: int = 0
    #: Conditions on labels for each bundle that has some; the machine must meet all of them.
    labels: tuple[tuple[LabelMatch, ...], ...] = ()


class RemoveGroup(Struct, frozen=True, tag=81):
    """A placement group whose resources are given back. The tasks and actors in the group end."""

    group_id: GroupId


class LookUpGroups(Struct, frozen=True, tag=82):
    """The request for placement groups, including those removed lately. Its reply is `GroupsReply`."""

    request: int
    #: The driver for which the sender runs, whose namespace counts.
    driver: ClientId
    #: Name of the one living group that is asked for; empty for groups of all names.
    name: str = ""
    #: Id of the one group that is asked for; 0 for groups of all ids.
    group_id: GroupId = NO_GROUP


class Consumed(Struct, frozen=True, tag=61):
    """Progress of the consumer of a stream with a limit."""

    task_id: TaskId
    #: Number of items that were taken from the generator, from its beginning.
    count: int


class ListState(Struct, frozen=True, tag=85):
    """The request for rows of one kind. Its reply is `Listing`."""

    request: int
    #: "tasks", "actors", "objects" or "workers".
    kind: str
    #: Conditions that a row must meet, all of them.
    filters: tuple[Filter, ...] = ()
    #: Number of rows in the answer, at most.
    limit: int = 100
    #: Whether the answer has the texts of errors, and resources.
    detail: bool = False


class Summarize(Struct, frozen=True, tag=87):
    """The request for the numbers of alike rows of one kind. Its reply is `Summary`."""

    request: int
    #: "tasks", "actors" or "objects".
    kind: str


#: Messages that come with most calls.
FrequentFromClient: TypeAlias = Submit | Put | Hold | Release | Want
#: All other messages, except the greeting.
RareFromClient: TypeAlias = (
    Define
    | DefineEnvironment
    | CreateActor
    | CancelTask
    | KillActor
    | Watch
    | Unwatch
    | Status
    | Explain
    | Bye
    | NoRoom
    | Spilled
    | Free
    | Spans
    | Bind
    | Kept
    | Taken
    | UseNamespace
    | LookUp
    | CreateGroup
    | RemoveGroup
    | LookUpGroups
    | Consumed
    | ListState
    | Summarize
)
