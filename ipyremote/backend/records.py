"""The records that cross the door between the API and an engine. All are immutable, and none knows an engine.

What is asked of an engine once for each call is a frozen dataclass; what engines report is a NamedTuple, which any
engine can send over its own wire as a plain tuple.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from ipyremote.backend.placement import Place
from ipyremote.ids import DRIVER, NO_GROUP, NOBODY, ActorId, ClientId, GroupId, ObjectId, TaskId
from ipyremote.runtime_env import RuntimeEnv

__all__ = [
    "DYNAMIC",
    "ENDLESS",
    "ONE_CPU",
    "RESOURCE_UNIT",
    "ActorOptions",
    "BarState",
    "ClusterStatus",
    "Condition",
    "DisplayReport",
    "Exported",
    "IdKind",
    "Identity",
    "KeptName",
    "KeptNames",
    "KeptSession",
    "NamedHandle",
    "NodeStatus",
    "ProgressReport",
    "RareOptions",
    "Resources",
    "Similar",
    "StateReport",
    "TableCounts",
    "TableRows",
    "TaskOptions",
    "TaskRun",
    "TextReport",
    "WorkerStatus",
]

#: Value of `TaskOptions.stream` for a task that yields as many items as it likes, ahead of its consumer.
ENDLESS: Final = -1
#: Value of `TaskOptions.stream` for a task whose one value is the refs of all items that the task has yielded.
DYNAMIC: Final = -2
#: Amount of one whole CPU or GPU: resources are counted in ten-thousandths, so that fractions add up exactly.
RESOURCE_UNIT: Final = 10_000
#: Pairs of (name, amount in ten-thousandths), sorted by name, without zero amounts.
Resources: TypeAlias = tuple[tuple[str, int], ...]
#: One CPU, in the form of `TaskOptions.resources`.
ONE_CPU: Resources = (("CPU", RESOURCE_UNIT),)


@dataclass(frozen=True, slots=True)
class Exported:
    """A function or class that a backend has taken."""

    #: The function or class itself.
    target: Callable[..., Any]
    #: Name without a number, the first part of labels.
    name: str
    #: 16 bytes that identify the pickle; empty where an engine pickles nothing.
    digest: bytes


class RareOptions(NamedTuple):
    """Options that most tasks do not have. Whoever passes a task on passes this record on as one, unread.

    A field has no default, so that a type checker finds each place that makes the record. A value of 0, False or ""
    asks for nothing.
    """

    #: Number of runs of the function after which the task's process leaves; 0 for a process that stays.
    max_calls: int


@dataclass(frozen=True, slots=True)
class TaskOptions:
    """Checked options of one call. The defaults are those of a plain task."""

    #: Name for the label, in place of the function's; None for the function's.
    name: str | None = None
    #: Number of return objects, 0 or more.
    returns: int = 1
    #: (name, ten-thousandths) pairs, sorted by name, without zero amounts.
    resources: Resources = ONE_CPU
    #: Number of times that the task may run again.
    max_retries: int = 3
    #: Exceptions after which the task runs again: none (False), every `Exception` (True), or these types.
    retry_exceptions: bool | tuple[type[BaseException], ...] = False
    #: Whether the refs of the call are deferred, as those of operators on refs are.
    deferred: bool = False
    #: Name of a method's concurrency group; empty for the default group.
    group: str = ""
    #: 0 for a task that yields nothing; else the number of items that may wait for their consumer, ENDLESS or DYNAMIC.
    stream: int = 0
    #: Where the task may run, or the actor live; None where nothing was said.
    place: Place | None = None
    #: Options that most tasks do not have; None for such a task.
    rare: RareOptions | None = None
    #: The task's environment; None for the environment of the code that submits the task.
    runtime_env: RuntimeEnv | None = None


@dataclass(frozen=True, slots=True)
class ActorOptions:
    """Checked options of one actor, beyond the `TaskOptions` of its creation."""

    class_name: str
    #: (name, ten-thousandths) pairs that the actor holds while it lives, beside those of its creation.
    resources: Resources = ()
    #: Number of times that the actor may start again after a crash; -1 for any number.
    max_restarts: int = 0
    #: Number of times that a call may run again after a crash of the actor; -1 for any number.
    max_task_retries: int = 0
    #: Number of calls that may run at a time.
    max_concurrency: int = 1
    #: Number of calls of one handle that may be pending; 0 for any number.
    max_pending_calls: int = 0
    #: Whether a call that waits for objects lets later calls of its caller pass.
    unordered: bool = False
    #: (name, number of calls at a time) of each concurrency group but the default one.
    groups: Resources = ()
    #: Name by which others find the actor; empty for none.
    name: str = ""
    #: Namespace of the name; empty for the namespace of the actor's driver.
    namespace: str = ""
    #: Whether the actor outlives the process that created it.
    detached: bool = False
    #: Whether an actor that has the name already is taken instead.
    get_if_exists: bool = False


@dataclass(frozen=True, slots=True)
class NamedHandle:
    """The parts of a handle of a named actor."""

    name: str
    namespace: str
    actor_id: ActorId
    label: str
    #: The `ActorRecord` that the creator of the actor gave.
    record: Any


# ------------------------------------------------------------------------------------------ on whose behalf code runs

#: What an id stands for, where its hexadecimal digits are asked for.
IdKind: TypeAlias = Literal["object", "actor", "task", "placement group", "process", "node", "job"]


@dataclass(frozen=True, slots=True)
class Identity:
    """On whose behalf the calling code runs. Ids are 0, and names empty, where there is none."""

    #: Number of the process in its session.
    client: ClientId = DRIVER
    #: Id of the running task or method.
    task: TaskId = NOBODY
    #: Name of the task: that of `.options(name=...)`, else the function's.
    task_name: str = ""
    #: Module and qualified name of what runs.
    function: str = ""
    #: Id of the actor.
    actor: ActorId = NOBODY
    #: Whether the actor was restarted.
    restarted: bool = False
    #: (name, ten-thousandths) pairs of the task, or of the actor for its life.
    resources: Resources = ()
    #: Indices of the GPUs that the task or actor may use.
    gpus: tuple[int, ...] = ()
    #: Id of the placement group that the task or actor is in.
    group: GroupId = NO_GROUP
    #: Whether what the code submits is placed in that group, too.
    captures: bool = False


# ------------------------------------------------------------------------------------------------ what tasks report


@dataclass(frozen=True, slots=True)
class BarState:
    """The state of one progress bar of a task. A closed bar is never reported again."""

    #: Number of the bar, unique in the task. Smaller numbers enclose larger ones, as long as both bars are open.
    number: int
    description: str
    #: Amount that is done, in `unit`.
    done: float
    #: Amount in all, in `unit`; None when nobody knows it.
    total: float | None
    #: Name of what is counted, such as "it" or "B".
    unit: str
    closed: bool


class TextReport(NamedTuple):
    """Text that a task wrote."""

    #: The notebook layer's number of the cell that asked for the task; 0 outside notebooks.
    cell: int
    #: `name#number` of the task.
    label: str
    #: 1 for stdout, 2 for stderr.
    stream: int
    text: str
    #: Id of the task; 0 where the text belongs to none.
    task_id: TaskId = NOBODY


class DisplayReport(NamedTuple):
    """Something other than text that a task shows."""

    #: The notebook layer's number of the cell that asked for the task; 0 outside notebooks.
    cell: int
    #: `name#number` of the task.
    label: str
    #: Id of the task.
    task_id: TaskId
    #: `kind` ("display_data", "update_display_data" or "clear_output"), `data` by MIME type, `metadata`, `transient`
    #: (`display_id`) and `wait`, as in Jupyter's messages of these names.
    content: dict[str, Any]


class ProgressReport(NamedTuple):
    """State of a progress bar of a task."""

    #: The notebook layer's number of the cell that asked for the task; 0 outside notebooks.
    cell: int
    #: `name#number` of the task.
    label: str
    #: Id of the task.
    task_id: TaskId
    bar: BarState


class StateReport(NamedTuple):
    """New state of a watched object's task."""

    object_id: ObjectId
    #: "waiting", "ready", "sent", "running", "blocked", "cancelling", "done", "failed" or "cancelled".
    state: str
    #: `name#number` of the task.
    label: str
    #: Seconds that the task has run so far, or ran in all.
    seconds: float
    #: First line of the failure's text; empty otherwise.
    detail: str


# ----------------------------------------------------------------------------------------- what an engine knows of all


class WorkerStatus(NamedTuple):
    """A worker process, as an engine sees it."""

    worker_id: ClientId
    #: Process id on the worker's own machine.
    pid: int
    #: "starting", "idle", "busy", "blocked" or "actor"
    state: str
    #: Label of the task that runs, or the class of an actor that runs nothing; empty when the worker is idle.
    label: str = ""
    #: Number of tasks that were sent ahead to the worker and have not started.
    queued: int = 0
    #: Whether the worker runs a task or a call now.
    runs: bool = False
    #: Id of the worker's machine; empty for this one.
    node: str = ""
    #: Share of one CPU; None where the engine does not measure it.
    cpu: float | None = None
    #: Bytes of the process's own memory; None where the engine does not measure it.
    memory: int | None = None


class ClusterStatus(NamedTuple):
    """A snapshot of a whole session."""

    #: (name, ten-thousandths) pairs.
    total: Resources
    #: (name, ten-thousandths) pairs; zero amounts are left out, as in Ray.
    available: Resources
    workers: tuple[WorkerStatus, ...]
    #: Number of tasks in each state, by the state's name.
    tasks: dict[str, int]
    #: Number of actors in each state, by the state's name.
    actors: dict[str, int]
    #: Number of objects.
    objects: int
    #: Bytes of all stored objects that lie in memory.
    stored_bytes: int
    #: Bytes of all stored objects that lie on disk.
    spilled_bytes: int = 0
    #: Labels of the machine, by key.
    labels: tuple[tuple[str, str], ...] = ()


class NodeStatus(NamedTuple):
    """A machine of a session."""

    #: Hexadecimal digits.
    node_id: str
    hostname: str
    #: Address in the network.
    ip: str
    #: Amounts by name.
    resources: dict[str, float]
    labels: dict[str, str]


class TaskRun(NamedTuple):
    """A run of a task that has ended, for a timeline. Times are the engine's clock, in seconds."""

    worker_id: ClientId
    #: Name of the task, and the number that distinguishes tasks of one name; no number for several runs drawn as one.
    name: str
    number: str
    start: float
    end: float
    #: "done", "failed", "cancelled", "retried" (the task raised and runs again) or "lost" (with its worker).
    state: str

    @property
    def label(self) -> str:
        """Return `name#number`, for people."""
        return f"{self.name}#{self.number}" if self.number else self.name


class Condition(NamedTuple):
    """A condition on a column of a list. Text is compared without regard to case."""

    column: str
    #: Whether the value must be equal, or must differ.
    is_equal: bool
    value: str | bool | int | float


class TableRows(NamedTuple):
    """Rows of one table."""

    #: The columns by name, each row's own. Ids are hexadecimal digits and times milliseconds since 1970.
    rows: tuple[Mapping[str, Any], ...]
    #: Number of rows that meet the conditions.
    matched: int
    #: Number of rows that were not looked at, because there are too many.
    unseen: int


class Similar(NamedTuple):
    """Rows of a table that are alike in what is told here. What does not apply is empty."""

    name: str
    type: str
    state: str
    reference: str
    #: Number of rows that are alike.
    number: int
    #: Bytes of all of them.
    size: int


class TableCounts(NamedTuple):
    """How many rows of a table are alike."""

    groups: tuple[Similar, ...]
    #: Number of rows that were not looked at, because there are too many.
    unseen: int


# ------------------------------------------------------------------------------- what outlives the program that made it


class KeptName(NamedTuple):
    """A name of a program that has ended, and what became of what the name stood for."""

    name: str
    #: Ids of the objects and actors that the value refers to.
    ids: tuple[ObjectId, ...]
    #: Pickle of the value, which is nothing but refs and handles, or lists, tuples and dicts of them.
    payload: bytes
    #: Label of the task or actor; for several, how many there are.
    label: str
    #: State of the task or actor; for several, how many are in each state.
    state: str


class KeptSession(NamedTuple):
    """A session that may outlive the program that started it."""

    #: Hexadecimal digits that name the session.
    key: str
    #: Where the session can be reached.
    address: str
    #: Directory in which the program ran that started the session.
    directory: str
    #: Whether this program, or this kernel before its restart, has started the session.
    is_ours: bool
    #: Seconds for which the session outlives its program.
    keep_alive: float
    #: The arguments of the `init` that started the session.
    arguments: Mapping[str, Any]


class KeptNames(NamedTuple):
    """What is left to recover in a session."""

    #: In the order in which the names were bound.
    names: tuple[KeptName, ...]
    #: Seconds for which the session is kept.
    seconds: float
    #: Whether another program has taken the session over, so that nothing of it can be had.
    is_taken: bool = False
