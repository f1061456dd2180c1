"""What a client, which is a driver or a worker, tells the scheduler.

    Hello                                                             the greeting
    Define, DefineEnvironment                                         precede their first use
    Submit, CreateActor, Put                                          make objects and actors
    Hold, Release, Want, Free, Consumed                               what the sender has refs to, and waits for
    CancelTask, KillActor, CreateGroup, RemoveGroup                   change what is there
    Watch, Unwatch                                                    subscribe to the state of tasks
    NoRoom, Spilled                                                   the store is full
    Bind, Kept, Taken, UseNamespace, Bye                              a driver's names, and its end
    Status, Explain, Spans, LookUp, LookUpGroups, ListState, Summarize   questions, each with the number `request`

The answer to a question carries the number of its question and is a `Reply`.
"""

from __future__ import annotations

from ipyremote.backend.placement import LabelMatch
from ipyremote.messages.state_rows import Bound, Filter
from ipyremote.messages.task import ActorSpec, EnvironmentSpec, TaskSpec
from ipyremote.messages.values import Failure, Inline, Resources, Stored, Struct

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
    "Hello",
    "Hold",
    "Kept",
    "KillActor",
    "ListState",
    "LookUp",
    "LookUpGroups",
    "NoRoom",
    "Put",
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
    """Part of the greeting: who connects."""

    client_id: int
    pid: int
    #: "driver" or "worker"
    role: str


class Define(Struct, frozen=True, tag=11):
    """A function or class by its digest; precedes its first use. Also sent on to each worker that needs it.

    `refs` are objects that the payload refers to (closures); the session keeps them.
    """

    digest: bytes
    payload: bytes
    refs: tuple[int, ...] = ()
    #: Bare name, for people.
    name: str = ""


class DefineEnvironment(Struct, frozen=True, tag=75):
    """An environment; precedes the first task in it. `eager`: set it up although nothing needs it yet."""

    environment: EnvironmentSpec
    eager: bool = False


class Submit(Struct, frozen=True, tag=12):
    """Run a task or an actor's method. The sender holds each return object from now on."""

    spec: TaskSpec


class CreateActor(Struct, frozen=True, tag=13):
    """Start an actor. The sender holds the actor's id from now on.

    One with a name has a `request` number and is answered by `Names`, with the one actor that has the name from now on:
    this one, or the one that has had it before; then nothing is started.
    """

    spec: TaskSpec
    actor: ActorSpec
    request: int = 0


class Put(Struct, frozen=True, tag=14):
    """An object with its value. The sender holds it from now on. `refs`: objects referred to inside the value."""

    object_id: int
    value: Inline | Stored | Failure
    refs: tuple[int, ...] = ()


class Hold(Struct, frozen=True, tag=15):
    """The sender now has a ref to (or a mapping of) these objects or actors. Harmless when repeated."""

    ids: tuple[int, ...]


class Release(Struct, frozen=True, tag=16):
    """The sender has no ref to, and no mapping of, these any more. Harmless when repeated.

    A negative id is the generator of the stream of that task: its items are of no use to anybody any more.
    """

    ids: tuple[int, ...]


class Want(Struct, frozen=True, tag=17):
    """Send `ObjectReady` for these as soon as they have values (at once for those that have).

    The submitter of a task gets it for the returns that it still holds without asking.
    """

    ids: tuple[int, ...]


class CancelTask(Struct, frozen=True, tag=18):
    """Cancel the task that returns this object."""

    object_id: int
    force: bool = False
    recursive: bool = True


class KillActor(Struct, frozen=True, tag=19):
    actor_id: int
    no_restart: bool = True


class Watch(Struct, frozen=True, tag=20):
    """Send `TaskUpdate` now and at each change of state of these objects' tasks, until `Unwatch` or the end state."""

    ids: tuple[int, ...]


class Unwatch(Struct, frozen=True, tag=21):
    ids: tuple[int, ...]


class Status(Struct, frozen=True, tag=22):
    """A snapshot, please. Answered by `StatusReply`."""

    request: int


class Explain(Struct, frozen=True, tag=23):
    """Why does the task of this object not run? Answered by `Explanation`."""

    request: int
    object_id: int


class Bye(Struct, frozen=True, tag=24):
    """The session's driver ends it: stop the workers, remove the directory, exit. Another driver just leaves."""


class NoRoom(Struct, frozen=True, tag=25):
    """The store is full for the sender: ask every other client for `Trim`, and choose what to move to disk.

    `needed`: bytes that would help; 0: nothing is to be moved. Otherwise answered by `Spill`.
    """

    needed: int = 0


class Spilled(Struct, frozen=True, tag=71):
    """Answer to `Spill`: complete copies of these lie in the spill directory, and of those none was made."""

    done: tuple[str, ...]
    failed: tuple[str, ...] = ()


class Free(Struct, frozen=True, tag=73):
    """Nobody needs the values of these objects any more, whatever refs there are: as soon as no task does."""

    ids: tuple[int, ...]


class Spans(Struct, frozen=True, tag=26):
    """The runs that ended after `since`, which is `now` of the answer before, or 0. Answered by `SpansReply`."""

    request: int
    since: float


class Bind(Struct, frozen=True, tag=27):
    """From a driver: these names are bound now, and those not any more. Others stay as they were said to be."""

    bound: tuple[Bound, ...]
    unbound: tuple[str, ...] = ()


class Kept(Struct, frozen=True, tag=28):
    """What did the driver that has ended leave? `claim`: and be the session's driver in its place from now on.

    Answered by `KeptReply`.
    """

    request: int
    claim: bool = False


class Taken(Struct, frozen=True, tag=29):
    """From the session's driver: it holds what these saved names stand for."""

    names: tuple[str, ...]


class UseNamespace(Struct, frozen=True, tag=65):
    """From a driver: its named actors, and those of its tasks, are in this namespace. Without it: in one of its own."""

    namespace: str


class LookUp(Struct, frozen=True, tag=66):
    """Which living actors have names? Answered by `Names`, by namespace and name.

    `driver`: whom the sender runs for. `namespace`: empty for the sender's own. `name`: empty for all of them.
    """

    request: int
    driver: int
    namespace: str = ""
    name: str = ""
    everywhere: bool = False


class CreateGroup(Struct, frozen=True, tag=80):
    """Reserve bundles of resources, all of them or nothing.

    A group with a name has a `request` number and is answered by `GroupsReply`, with the one group that has the name
    from now on: the new one or, if another group had the name already, that group; then nothing is reserved.
    """

    group_id: int
    bundles: tuple[Resources, ...]
    #: "PACK", "SPREAD", "STRICT_PACK" or "STRICT_SPREAD"
    strategy: str
    label: str
    name: str = ""
    #: Whether it outlives the actor or driver that creates it.
    detached: bool = False
    #: As in `TaskSpec`.
    driver: int = 1
    cell: int = 0
    request: int = 0
    #: Sets of conditions on labels, all of which the machine has to meet.
    labels: tuple[tuple[LabelMatch, ...], ...] = ()


class RemoveGroup(Struct, frozen=True, tag=81):
    """Give back what a group has reserved, and end the tasks and actors in it."""

    group_id: int


class LookUpGroups(Struct, frozen=True, tag=82):
    """Which placement groups are there, or were removed lately? Answered by `GroupsReply`.

    `driver`: whom the sender runs for, whose namespace counts. With a `name` that living group, with a `group_id` that
    one; with neither all of them.
    """

    request: int
    driver: int
    name: str = ""
    group_id: int = 0


class Consumed(Struct, frozen=True, tag=61):
    """So many items of a stream with a limit were taken from its generator."""

    task_id: int
    count: int


class ListState(Struct, frozen=True, tag=85):
    """What is there of a kind, as rows: "tasks", "actors", "objects" or "workers"? Answered by `Listing`.

    Rows that meet all filters, at most `limit` of them.
    """

    request: int
    kind: str
    filters: tuple[Filter, ...] = ()
    limit: int = 100
    #: With the texts of errors, and with resources.
    detail: bool = False


class Summarize(Struct, frozen=True, tag=87):
    """How many rows of a kind ("tasks", "actors" or "objects") are alike? Answered by `Summary`."""

    request: int
    kind: str
