"""Every struct that crosses a socket, grouped by direction.

Format. A connection is one zmq DEALER (client) to the scheduler's ROUTER; the DEALER's routing id is the letter
"c" and the client number as 8 bytes, big-endian. A frame is

    greeting  = secret (32 bytes) + msgpack(Hello)           the first frame of a connection, never again
    frame     = msgpack([sequence, [message, message, ...]])  every other frame, both directions

`sequence` counts a sender's frames from 1; the receiver drops a frame whose number it has seen, so a sender that was
interrupted may send the same frame twice. A message is an array whose first element is its tag (the number in its
class statement). User data is opaque bytes inside `Inline.data`, `Failure.data` and `Define.payload`; the scheduler
never looks into it.

Values. A task's result, a task's argument or a `put` value is one of

    Inline(data, sizes)              small: the bytes themselves
    Stored(segment, head, buffers)   large: where they lie in the session directory
    Failure(kind, text, data)        an error that stands in a value's place
    Forward(object_id)               a deferred ref was returned: the value is that object's (a tail call)

Streams. A task whose `TaskSpec.stream` is not 0 sends `Yield` for each item; the scheduler makes an object of it, which
the submitter holds from then on, and says so with `StreamItem`. Items are known by their index, so that a task which
runs again gives none twice. `ObjectReady` of the task's own object is the end of the stream. The submitter's generator
is named `-task_id` in its `Release`.

`Inline.sizes` is empty when `data` is one pickle; else it is (length of the pickle, length of buffer 1, ...), where
the pickle and every buffer start at a multiple of 16 bytes.

Order. Messages of one sender arrive in the order sent. A client's `Hold` therefore precedes the `TaskDone` whose task
kept the object alive until then, and a task's `Output`, `Display` and `Progress` precede its `TaskDone`.

Display. What a task shows that is not text is one JSON object, which the scheduler does not look into:

    {"kind": "display_data" | "update_display_data" | "clear_output",
     "data": {mime type: ...}, "metadata": {...}, "transient": {"display_id"?: str}, "wait"?: bool}
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import msgspec

from ipyremote.backend import DYNAMIC, ENDLESS
from ipyremote.backend.placement import GroupRecord, LabelMatch, Place

__all__ = [
    "DYNAMIC",
    "ENDLESS",
    "ActorRow",
    "ActorSpec",
    "Bind",
    "Blocked",
    "Bound",
    "Bye",
    "CancelRun",
    "CancelTask",
    "ClusterStatus",
    "Consumed",
    "CreateActor",
    "CreateGroup",
    "DecodeError",
    "Define",
    "DefineEnvironment",
    "Display",
    "DisplayContent",
    "DropSegments",
    "Environment",
    "EnvironmentBoot",
    "Evict",
    "Exit",
    "Explain",
    "Explanation",
    "Failure",
    "Filter",
    "Forward",
    "Free",
    "FromClient",
    "Group",
    "Groups",
    "Hello",
    "Hold",
    "Inline",
    "Kept",
    "KeptReply",
    "KillActor",
    "ListState",
    "Listing",
    "LookUp",
    "LookUpGroups",
    "NamedActor",
    "Names",
    "NoRoom",
    "Notice",
    "ObjectReady",
    "ObjectRow",
    "Output",
    "OutputText",
    "Packages",
    "Place",
    "Progress",
    "ProgressUpdate",
    "Put",
    "RareFromClient",
    "Recall",
    "Release",
    "RemoveGroup",
    "Reply",
    "Returned",
    "RunTask",
    "Saved",
    "Span",
    "Spans",
    "SpansReply",
    "Spill",
    "Spilled",
    "Status",
    "StatusReply",
    "Stored",
    "StreamDemand",
    "StreamItem",
    "Submit",
    "Summarize",
    "Summary",
    "Taken",
    "TaskDone",
    "TaskFailed",
    "TaskRow",
    "TaskSpec",
    "TaskUpdate",
    "Titled",
    "ToClient",
    "Trim",
    "Unblocked",
    "Unwatch",
    "UseNamespace",
    "Value",
    "Want",
    "Watch",
    "Welcome",
    "WorkerRow",
    "WorkerStatus",
    "Yield",
]

#: What the functions that decode raise.
DecodeError = msgspec.DecodeError

#: Resources are counted in ten-thousandths, so that fractions add up exactly.
RESOURCE_UNIT: Final = 10_000
#: (name, amount in ten-thousandths) pairs, sorted by name, no zero amounts.
Resources: TypeAlias = tuple[tuple[str, int], ...]


class Struct(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Base of every wire struct: immutable, encoded as an array, never part of a reference cycle."""


# ---------------------------------------------------------------------------------------------------------- values


class Inline(Struct, frozen=True, tag=1):
    """A small value: its bytes. `sizes` is explained in the module docstring."""

    data: bytes
    sizes: tuple[int, ...] = ()


class Stored(Struct, frozen=True, tag=2):
    """A large value in the store."""

    #: File name in the session directory or, once it was moved to disk, in the spill directory. One that was made
    #: there, because the memory had no room, begins with "disk-".
    segment: str
    #: Bytes of the segment file that this object occupies, for accounting.
    size: int
    #: Length of the pickle, which starts at offset 0.
    head: int
    #: (offset, length) of each out-of-band buffer; offsets are multiples of 64.
    buffers: tuple[tuple[int, int], ...] = ()


class Failure(Struct, frozen=True, tag=3):
    """An error in a value's place. `kind`: see `exceptions.FAILURES`. `data`: empty unless user code raised."""

    kind: str
    text: str
    data: bytes = b""
    #: Objects and actors referred to inside `data`; held by whatever object has this failure as its value.
    refs: tuple[int, ...] = ()

    @property
    def line(self) -> str:
        """One line about it: for an error of user code its type and the first line of its message."""
        first = self.text.partition("\n")[0]
        if self.kind != "task_error":
            return first
        # The traceback below says the same with the type in front, not indented.
        named = (line for line in self.text.splitlines()[1:] if line.endswith(f": {first}"))
        return next((line for line in named if not line.startswith(" ")), first)


class Forward(Struct, frozen=True, tag=4):
    """The value is that of another object, once it has one."""

    object_id: int


Value: TypeAlias = Inline | Stored | Failure | Forward

# ------------------------------------------------------------------------------------------------- parts of messages


class TaskSpec(Struct, frozen=True):
    """What a client asks to be run; the scheduler hands it on to a worker unchanged, inside `RunTask`."""

    #: Also the id of the first return; return i has the id `task_id + i`.
    task_id: int
    #: Digest of the function (of the class for a method call or an actor creation), as announced by `Define`.
    digest: bytes
    #: `name#number`, for people.
    label: str
    #: The pickle of `(args, kwargs)` with `serialize.Slot(i)` in the place of top-level ref `deps[i]`; empty data
    #: means no arguments at all. When `packed`, the arguments are instead the value of the last of `deps`.
    args: Inline
    #: Objects whose values the task needs before it can start. The task holds them until it has ended.
    deps: tuple[int, ...] = ()
    #: Objects and actors referred to inside `args`. The task holds them until it has ended.
    refs: tuple[int, ...] = ()
    packed: bool = False
    #: Number of return objects. 0: the result is thrown away, and nothing is ever reported for it.
    returns: int = 1
    #: Needed while it runs. Ignored for a method call (the actor has its own).
    resources: Resources = (("CPU", RESOURCE_UNIT),)
    #: Further attempts after a crash of the worker (or a retried exception); -1 means without end.
    max_retries: int = 0
    #: Which exceptions of user code are retried: b"" none, b"*" any Exception, else the pickle of a tuple of types.
    retry_on: bytes = b""
    #: For a method call: which actor, and which of its methods.
    actor_id: int = 0
    method: str = ""
    #: The task that submitted this one (0: a driver's own code).
    parent: int = 0
    #: The driver that gets its output, and that driver's token for the notebook cell that asked.
    driver: int = 1
    cell: int = 0
    #: For a method call: its concurrency group; empty for the default one.
    group: str = ""
    #: What it yields: 0 nothing; n objects, at most so many of which were not consumed yet; or ENDLESS or DYNAMIC.
    stream: int = 0
    #: Where it may run, for an actor's creation where the actor may live; None: anywhere.
    place: Place | None = None
    #: Its worker leaves after so many runs of its function; 0: it stays.
    max_calls: int = 0
    #: Key of the environment that it runs in; empty for the session's own processes. Ignored for a method call.
    environment: str = ""


def share_parts(spec: TaskSpec, resources: Resources, digest: bytes) -> None:
    """Let a decoded spec have these, which equal its own, in common with others. They are a quarter of its size."""
    msgspec.structs.force_setattr(spec, "resources", resources)
    msgspec.structs.force_setattr(spec, "digest", digest)


class ActorSpec(Struct, frozen=True):
    """What an actor needs beyond the `TaskSpec` of its creation (whose `task_id` is the actor's id)."""

    class_name: str
    #: Held while the actor lives. The creation itself needs `TaskSpec.resources`.
    resources: Resources = ()
    max_restarts: int = 0
    #: Default of `TaskSpec.max_retries` of its method calls; clients fill it in, it is here for `status`.
    max_task_retries: int = 0
    #: 1: calls run one at a time in order. With `groups`: those of the default group.
    max_concurrency: int = 1
    #: Whether a call that waits for objects lets later ones of its caller pass.
    unordered: bool = False
    #: (name, calls at a time) of its concurrency groups beside the default one.
    groups: tuple[tuple[str, int], ...] = ()
    #: What it can be found by; empty for most. An empty namespace is that of its driver.
    name: str = ""
    namespace: str = ""
    #: Whether it lives on without handles and without its owner.
    detached: bool = False
    #: Of one with a name: what handles are made from, the pickle of an `actor.ActorRecord`.
    record: bytes = b""


class Packages(Struct, frozen=True):
    """What to install for an environment."""

    #: "pip" or "uv"
    installer: str
    #: Lines of a file of requirements.
    requirements: tuple[str, ...]
    #: Further arguments of the installer.
    options: tuple[str, ...] = ()
    #: Whether to ask the installer afterwards if everything fits together.
    check: bool = False
    #: Of the installer, as in "==24.0"; empty: any.
    version: str = ""
    #: Something that changes with the files that the requirements name.
    fingerprints: tuple[str, ...] = ()


class Environment(Struct, frozen=True):
    """What a `RuntimeEnv` comes to on this machine. Paths are not text: they may have any bytes."""

    #: Hex digits, the same for the same environment; empty for the session's own.
    key: str = ""
    #: What it is, in a few words.
    title: str = ""
    #: The whole `RuntimeEnv`, merged with that of its parents, as JSON.
    text: str = "{}"
    #: Environment variables; `${NAME}` stands for what NAME was before.
    variables: tuple[tuple[str, str], ...] = ()
    #: The working directory; empty: the driver's.
    directory: bytes = b""
    #: Where to look for modules before anywhere else.
    modules: tuple[bytes, ...] = ()
    packages: Packages | None = None
    #: The pickle of a function that each worker calls first; empty: of none.
    hook: bytes = b""
    #: For how long the set-up may take; below 0: any time.
    seconds: float = 600.0


class WorkerStatus(Struct, frozen=True):
    worker_id: int
    pid: int
    #: "starting", "idle", "busy", "blocked" or "actor"
    state: str
    #: Label of what it runs (`name#number`), or the class of an actor that runs nothing; empty when idle.
    label: str = ""
    #: Number of tasks sent ahead to it that have not started.
    queued: int = 0


class ClusterStatus(Struct, frozen=True):
    """A snapshot of the whole session."""

    total: Resources
    #: Zero amounts are left out, as in Ray.
    available: Resources
    workers: tuple[WorkerStatus, ...]
    #: Number of tasks in each state, by the state's name.
    tasks: dict[str, int]
    #: Number of actors in each state, by the state's name.
    actors: dict[str, int]
    objects: int
    #: Bytes of all stored objects that lie in the session directory.
    stored_bytes: int
    #: Bytes of all stored objects that lie in the spill directory.
    spilled_bytes: int = 0
    #: Labels of the machine, by key.
    labels: tuple[tuple[str, str], ...] = ()


class Span(Struct, frozen=True):
    """A run that has ended, for a timeline. Times are the scheduler's clock, in seconds."""

    worker_id: int
    #: The task's.
    label: str
    start: float
    end: float
    #: "done", "failed", "cancelled", "retried" (it raised and runs again) or "lost" (with its worker).
    state: str


class Bound(Struct, frozen=True):
    """A name of the driver's program and what it stands for."""

    name: str
    #: Objects and actors that the value refers to.
    ids: tuple[int, ...]
    #: The pickle of the value, which is nothing but refs and handles, or lists, tuples and dicts of them.
    payload: bytes


class Saved(Struct, frozen=True):
    """A name whose driver has ended, and what became of what it stands for."""

    bound: Bound
    #: Label of the task or actor; for several, how many there are.
    label: str
    #: As in `TaskUpdate`, or an actor's; for several, how many are in each state.
    state: str


class NamedActor(Struct, frozen=True):
    """An actor that can be found by its name."""

    name: str
    namespace: str
    actor_id: int
    label: str
    #: As in `ActorSpec`.
    record: bytes


class TaskRow(Struct, frozen=True):
    """One attempt of a task, for a list. States and types are Ray's words. Times: the scheduler's clock; 0: not yet."""

    task_id: int
    attempt: int
    label: str
    #: The label without its number.
    name: str
    state: str
    #: "NORMAL_TASK", "ACTOR_CREATION_TASK" or "ACTOR_TASK".
    type: str
    function: str
    actor_id: int
    #: The task that submitted it; 0: a driver.
    parent: int
    #: 0 and 0 while it is on no worker, and for one that never was.
    worker_id: int
    pid: int
    #: Empty unless it failed.
    error_type: str
    #: The placement group that it is in; 0: none.
    group: int
    submitted: float
    started: float
    ended: float
    #: Empty unless details were asked for.
    error: str = ""
    resources: Resources = ()


class ActorRow(Struct, frozen=True):
    """An actor, for a list. States are Ray's words."""

    actor_id: int
    label: str
    class_name: str
    state: str
    name: str
    namespace: str
    #: 0 while it has no process.
    pid: int
    #: What its output is shown under, if it says so.
    title: str
    resources: Resources
    is_detached: bool
    restarts: int
    #: The placement group that it is in; 0: none.
    group: int
    #: Why it is dead; empty unless details were asked for.
    cause: str = ""


class ObjectRow(Struct, frozen=True):
    """An object, for a list. `status` and `reference` are Ray's words."""

    object_id: int
    #: Empty for a `put`.
    label: str
    #: Bytes; 0 while it is promised.
    size: int
    status: str
    reference: str
    #: Who made it: 0 when that process is gone, or is not known.
    pid: int
    is_of_driver: bool


class WorkerRow(Struct, frozen=True):
    """A process of the session, for a list. Times: the scheduler's clock; 0: not known."""

    worker_id: int
    pid: int
    is_driver: bool
    is_alive: bool
    #: As in `WorkerStatus`, and "stopping"; empty for a driver and for one that is gone.
    state: str = ""
    #: Label of what it runs.
    label: str = ""
    #: Ray's word for the way it ended, and how it ended in words.
    exit_type: str = ""
    exit_detail: str = ""
    started: float = 0.0
    ended: float = 0.0


class Filter(Struct, frozen=True):
    """A condition on a column of a list. Text is compared without regard to case, and is given in lower case."""

    column: str
    is_equal: bool
    value: int | str


class Group(Struct, frozen=True):
    """How many rows of a list are alike. What does not apply is empty."""

    name: str
    type: str
    state: str
    reference: str
    count: int
    size: int


# ------------------------------------------------------------------------------------- from any client (driver, worker)


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


class DefineEnvironment(Struct, frozen=True, tag=75):
    """An environment; precedes the first task in it. `eager`: set it up although nothing needs it yet."""

    environment: Environment
    eager: bool = False


class CreateGroup(Struct, frozen=True, tag=80):
    """Reserve bundles of resources, all of them or nothing.

    One with a name has a `request` number and is answered by `Groups` with the one group that has the name from now
    on: this one, or the one that has had it before; then nothing is reserved.
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
    """Which placement groups are there, or were removed lately? Answered by `Groups`.

    `driver`: whom the sender runs for, whose namespace counts. With a `name` that living group, with a `group_id` that
    one; with neither all of them.
    """

    request: int
    driver: int
    name: str = ""
    group_id: int = 0


class Spilled(Struct, frozen=True, tag=71):
    """Answer to `Spill`: complete copies of these lie in the spill directory, and of those none was made."""

    done: tuple[str, ...]
    failed: tuple[str, ...] = ()


class Free(Struct, frozen=True, tag=73):
    """Nobody needs the values of these objects any more, whatever refs there are: as soon as no task does."""

    ids: tuple[int, ...]


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


# ------------------------------------------------------------------------------------------------- from a worker only


class Titled(Struct, frozen=True, tag=67):
    """From an actor: what stands before its output instead of the labels of its calls."""

    title: str


class TaskDone(Struct, frozen=True, tag=30):
    """A run ended with values, one for each return (user exceptions that are not retried are `Failure` values)."""

    task_id: int
    attempt: int
    values: tuple[Value, ...]
    #: For each value the objects and actors referred to inside it; empty when no value refers to any.
    refs: tuple[tuple[int, ...], ...] = ()
    #: How long user code ran, in microseconds.
    micros: int = 0


class TaskFailed(Struct, frozen=True, tag=31):
    """A run ended with an exception that matches the task's `retry_on`: run it again if a retry is left."""

    task_id: int
    attempt: int
    failure: Failure
    micros: int = 0


class Blocked(Struct, frozen=True, tag=32):
    """The running task waits in `get` or `wait`; `returned` are tasks sent ahead that go back unstarted."""

    task_id: int
    returned: tuple[int, ...] = ()


class Unblocked(Struct, frozen=True, tag=33):
    """The task goes on."""

    task_id: int


class Returned(Struct, frozen=True, tag=34):
    """Answer to `Recall`: these were not started and will not be."""

    task_ids: tuple[int, ...]


class Output(Struct, frozen=True, tag=35):
    """Text that a task wrote. `stream` is 1 for stdout, 2 for stderr. Task 0: written outside any task."""

    task_id: int
    stream: int
    text: str


class Display(Struct, frozen=True, tag=36):
    """Something that a task shows and that is not text; see the module docstring."""

    task_id: int
    content: bytes


class Progress(Struct, frozen=True, tag=37):
    """State of a progress bar of a task. A closed bar is never heard of again."""

    task_id: int
    #: Number of the bar, unique in the task. Smaller ones enclose larger ones, as long as both are open.
    bar: int
    description: str
    done: float
    #: Below 0 when it is not known.
    total: float
    unit: str
    closed: bool


class Yield(Struct, frozen=True, tag=60):
    """An item of a stream. `index` counts from 0 in each attempt."""

    task_id: int
    attempt: int
    index: int
    value: Inline | Stored | Forward
    #: Objects and actors referred to inside the value.
    refs: tuple[int, ...] = ()


# -------------------------------------------------------------------------------------------------- to any client


class Reply(Struct, frozen=True):
    """Base of the answers to what a client has asked under a number."""

    request: int


class Welcome(Struct, frozen=True, tag=40):
    """The greeting was accepted."""

    client_id: int
    #: Process id of the scheduler.
    pid: int


class ObjectReady(Struct, frozen=True, tag=41):
    """An object has its value (never a `Forward`: that is followed first)."""

    object_id: int
    value: Inline | Stored | Failure


class DropSegments(Struct, frozen=True, tag=42):
    """To the creator of these segments: nobody needs them, recycle."""

    segments: tuple[str, ...]


class Trim(Struct, frozen=True, tag=43):
    """Give the memory of recycled segments back to the system: another client has no room."""


class TaskUpdate(Struct, frozen=True, tag=44):
    """State of the task behind a watched object.

    `state` is "waiting", "ready", "running", "blocked", "done", "failed" or "cancelled". A `put` object is "done".
    `seconds` is how long it has run so far, or ran in all. `detail`: why it waits, or the first line of its failure.
    """

    object_id: int
    state: str
    label: str = ""
    seconds: float = 0.0
    detail: str = ""


class OutputText(Struct, frozen=True, tag=45):
    """Output of a task, for the driver that shows it."""

    cell: int
    label: str
    stream: int
    text: str
    task_id: int = 0


class Notice(Struct, frozen=True, tag=46):
    """A sentence for the user of the driver, such as that a request can never be met."""

    text: str
    cell: int = 0


class StatusReply(Reply, frozen=True, tag=47):
    status: ClusterStatus


class Explanation(Reply, frozen=True, tag=48):
    text: str


class DisplayContent(Struct, frozen=True, tag=49):
    """What a task shows, for the driver that shows it; `content` as in `Display`."""

    cell: int
    label: str
    task_id: int
    content: bytes


class ProgressUpdate(Struct, frozen=True, tag=54):
    """State of a progress bar, for the driver of its task; see `Progress`."""

    cell: int
    label: str
    task_id: int
    bar: int
    description: str
    done: float
    total: float
    unit: str
    closed: bool


class SpansReply(Reply, frozen=True, tag=55):
    """Runs in the order in which their ends became known; `now` is the clock that their times are of."""

    now: float
    spans: tuple[Span, ...]


class KeptReply(Reply, frozen=True, tag=56):
    #: Another driver has the session, so nothing was claimed.
    is_taken: bool
    #: What is left to recover, in the order in which it was bound.
    saved: tuple[Saved, ...]
    #: For how many seconds it is kept.
    seconds: float


class Names(Reply, frozen=True, tag=68):
    #: The sender's own, whatever was asked for.
    namespace: str
    actors: tuple[NamedActor, ...]


class Groups(Reply, frozen=True, tag=83):
    groups: tuple[GroupRecord, ...]


class Listing(Reply, frozen=True, tag=86):
    """Rows of the kind that was asked for, in the one of the fields that has its name."""

    #: The clock that the times are of.
    now: float
    #: Rows that meet the filters; of those that were not looked at, because there are too many, nothing is known.
    matched: int
    unseen: int
    tasks: tuple[TaskRow, ...] = ()
    actors: tuple[ActorRow, ...] = ()
    objects: tuple[ObjectRow, ...] = ()
    workers: tuple[WorkerRow, ...] = ()


class Summary(Reply, frozen=True, tag=88):
    #: As in `Listing`.
    unseen: int
    groups: tuple[Group, ...]


class Spill(Struct, frozen=True, tag=70):
    """Copy these to the spill directory, except those that somebody has mapped. Answered by `Spilled`.

    The originals stay until the scheduler says `Evict` to their creators, so whoever dies in between loses nothing.
    """

    values: tuple[Stored, ...]


class Evict(Struct, frozen=True, tag=72):
    """To the creator of these segments: remove them from memory without reuse, since somebody may have them mapped."""

    segments: tuple[str, ...]


class StreamItem(Struct, frozen=True, tag=62):
    """To the submitter of a stream: its next item is this object, which the receiver holds.

    Its value, or None for that of a deferred ref, which comes as `ObjectReady`.
    """

    task_id: int
    index: int
    object_id: int
    value: Inline | Stored | None


# -------------------------------------------------------------------------------------------------- to a worker only


class RunTask(Struct, frozen=True, tag=50):
    """Run this, after what was sent before. Each dependency's value is here, or came before as `ObjectReady`."""

    spec: TaskSpec
    attempt: int
    #: Number of this run on this worker, counting from 1: what the worker writes into its progress page.
    run: int
    #: Values of `spec.deps`, in order; None where it was sent ahead as `ObjectReady`.
    values: tuple[Inline | Stored | None, ...] = ()
    #: Indices of the GPUs assigned to it.
    gpus: tuple[int, ...] = ()
    #: Set for an actor's creation: from now on this worker is the actor.
    actor: ActorSpec | None = None


class Recall(Struct, frozen=True, tag=51):
    """Hand back those of these tasks that have not started; answered by `Returned`."""

    task_ids: tuple[int, ...]


class CancelRun(Struct, frozen=True, tag=52):
    """Raise KeyboardInterrupt in this task if it runs now. If it has not started, it never does.

    Either is reported as a `TaskDone` with `Failure("task_cancelled", ...)` values.
    """

    task_id: int
    attempt: int


class StreamDemand(Struct, frozen=True, tag=63):
    """How many items of a running task's stream are wanted, counted from its beginning.

    ENDLESS: all of them. 0: nobody can see any, so close the generator, or do not start it, and report `TaskDone`.
    """

    task_id: int
    attempt: int
    items: int


class Exit(Struct, frozen=True, tag=53):
    """Finish what runs, then leave."""


# ------------------------------------------------------------------------------------------------------- process starts


class Boot(Struct, frozen=True):
    """What a driver tells the scheduler that it starts, through an inherited pipe (never argv or the environment)."""

    #: The session directory, made by the driver, which also holds its lock.
    directory: str
    #: Hex digits that name the session.
    key: str
    secret: bytes
    #: Read end of a pipe whose write end only the driver holds: end of file means that the driver is gone.
    lifeline: int
    #: Write end of a pipe whose read end the driver holds: it closes when the scheduler is gone, however it went.
    alive: int
    #: Total resources of the session.
    resources: Resources
    #: Bytes that the object store may hold.
    capacity: int
    #: The driver's `sys.path` and working directory, which workers take over. Not text: a path may have any bytes.
    sys_path: tuple[bytes, ...]
    cwd: bytes
    #: The driver's `sys.argv`, which workers take over too.
    argv: tuple[bytes, ...] = ()
    #: At most so many worker processes at a time.
    max_workers: int = 256
    #: For how many seconds the session outlives its driver; 0: not at all.
    keep_alive: float = 0.0
    #: Labels of the machine, by key.
    labels: tuple[tuple[str, str], ...] = ()

    def at(self, cwd: bytes, sys_path: tuple[bytes, ...]) -> Boot:
        """The same with another working directory and search path."""
        return msgspec.structs.replace(self, cwd=cwd, sys_path=sys_path)


class WorkerBoot(Struct, frozen=True):
    """What the zygote gives to the worker that it forks."""

    worker_id: int
    directory: str
    key: str
    secret: bytes
    lifeline: int
    capacity: int
    sys_path: tuple[bytes, ...]
    cwd: bytes
    argv: tuple[bytes, ...] = ()
    #: The environment that it is of; None for the session's own processes.
    environment: Environment | None = None


class EnvironmentBoot(Struct, frozen=True):
    """What the scheduler tells the process that sets up an environment and then forks its workers, in a file that it
    inherits."""

    boot: Boot
    environment: Environment
    #: "module:function" that a worker runs.
    entry: str
    #: Descriptor of the socket to the scheduler.
    link: int
    #: Where to write why the set-up has failed.
    complaint: str


_boot = msgspec.msgpack.Decoder(Boot)
_environment_boot = msgspec.msgpack.Decoder(EnvironmentBoot)
_report: msgspec.msgpack.Decoder[TaskDone | TaskFailed] = msgspec.msgpack.Decoder(TaskDone | TaskFailed)


#: What the scheduler accepts: what it gets rarely, and everything.
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
    | Titled
    | Consumed
    | ListState
    | Summarize
)
FromClient: TypeAlias = (
    RareFromClient
    | Submit
    | Put
    | Hold
    | Release
    | Want
    | TaskDone
    | TaskFailed
    | Blocked
    | Unblocked
    | Returned
    | Output
    | Display
    | Progress
    | Yield
)
#: What a client accepts.
ToClient: TypeAlias = (
    Welcome
    | ObjectReady
    | DropSegments
    | Trim
    | Spill
    | Evict
    | TaskUpdate
    | OutputText
    | Notice
    | StatusReply
    | Explanation
    | DisplayContent
    | ProgressUpdate
    | SpansReply
    | KeptReply
    | Names
    | Groups
    | Listing
    | Summary
    | Define
    | RunTask
    | Recall
    | CancelRun
    | Exit
    | StreamItem
    | StreamDemand
)

_encoder = msgspec.msgpack.Encoder()
_from_client = msgspec.msgpack.Decoder(tuple[int, list[FromClient]])
_to_client = msgspec.msgpack.Decoder(tuple[int, list[ToClient]])
_hello = msgspec.msgpack.Decoder(Hello)
_json_encoder = msgspec.json.Encoder(enc_hook=lambda value: _as_json(value))
_json_decoder: msgspec.json.Decoder[dict[str, Any]] = msgspec.json.Decoder(dict[str, Any])

#: Length of a session's secret in bytes.
SECRET_BYTES: Final = 32


def encode_frame(sequence: int, batch: list[FromClient] | list[ToClient]) -> bytes:
    """One frame; see the module docstring."""
    return _encoder.encode((sequence, batch))


def decode_from_client(frame: bytes | memoryview) -> tuple[int, list[FromClient]]:
    """What the scheduler received. Raises DecodeError when it is not a frame."""
    return _from_client.decode(frame)


def decode_to_client(frame: bytes) -> tuple[int, list[ToClient]]:
    """What a client received. Raises DecodeError when it is not a frame."""
    return _to_client.decode(frame)


def encode_boot(boot: Boot | EnvironmentBoot) -> bytes:
    """A process start record as bytes."""
    return _encoder.encode(boot)


def decode_boot(data: bytes) -> Boot:
    """The scheduler's start record. Raises DecodeError."""
    return _boot.decode(data)


def decode_environment_boot(data: bytes) -> EnvironmentBoot:
    """The start record of an environment's process. Raises DecodeError."""
    return _environment_boot.decode(data)


def encode_report(report: TaskDone | TaskFailed) -> bytes:
    """One report, for the worker's progress page."""
    return _encoder.encode(report)


def decode_report(data: bytes) -> TaskDone | TaskFailed:
    """The opposite of `encode_report`. Raises DecodeError."""
    return _report.decode(data)


def encode_greeting(secret: bytes, hello: Hello) -> bytes:
    """The first frame of a connection."""
    return secret + _encoder.encode(hello)


def decode_hello(rest: bytes) -> Hello:
    """The greeting without its secret. Raises DecodeError."""
    return _hello.decode(rest)


def encode_content(content: dict[str, Any]) -> bytes:
    """`Display.content`. Bytes become base64, what JSON has no word for becomes text."""
    return _json_encoder.encode(content)


def decode_content(data: bytes) -> dict[str, Any]:
    """The opposite of `encode_content`. Raises DecodeError."""
    return _json_decoder.decode(data)


def _as_json(value: object) -> object:
    """A value of user code among what is displayed: numpy numbers and arrays have `tolist`."""
    convert = getattr(value, "tolist", None)
    return convert() if callable(convert) else str(value)
