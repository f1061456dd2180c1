"""The door between what users call and the engine that runs the work: the `Backend` protocol and its parts.

A backend knows objects and actors by ids, which are numbers without a meaning to everybody else; `ObjectRef`s and
handles are made above this door. A backend does not know notebooks either: the notebook layer sets `cell` and registers
a `Listener`. Implementations: `backends/local.py` (processes under a scheduler; `client/session.py` is the backend of
the driver and of each worker) and `backends/inline` (this process).

Rules. Every method may be called from any thread. `release` may be called by a finalizer, at any instant and in any
thread, so an implementation of `release` appends to a deque and does nothing else. A backend that was shut down raises
`ClusterLostError` or `IPyRemoteSystemError` from every method except `shutdown` and `release`. A part that an engine
does not have is None, and `capabilities` has the sentence that says so; `required` raises the sentence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NoReturn, Protocol, TypeAlias

from ipyremote.backend.capabilities import Capabilities
from ipyremote.backend.placement import GroupRecord, LabelMatch
from ipyremote.backend.records import (
    ActorOptions,
    ClusterStatus,
    Condition,
    DisplayReport,
    Exported,
    Identity,
    IdKind,
    KeptNames,
    NamedHandle,
    NodeStatus,
    ProgressReport,
    StateReport,
    TableCounts,
    TableRows,
    TaskOptions,
    TaskRun,
    TextReport,
)
from ipyremote.exceptions import IPyRemoteError
from ipyremote.ids import NO_GROUP, ActorId, GroupId, ObjectId, TaskId
from ipyremote.runtime_env import RuntimeEnv

__all__ = [
    "ActorNames",
    "Backend",
    "CurrentTask",
    "Environments",
    "History",
    "Insight",
    "Listener",
    "Origin",
    "PlacementGroups",
    "Recovery",
    "Streams",
    "Waiting",
    "Work",
]

#: Makes a context in which a thread submits on behalf of the code that asked for the origin.
Origin: TypeAlias = Callable[[], AbstractContextManager[None]]


class ActorNames(Protocol):
    """The named actors of a session. Every method waits for the engine's answer."""

    @property
    def namespace(self) -> str:
        """The namespace of the calling code's driver."""

    def use(self, namespace: str) -> None:
        """Put this driver's named actors into a namespace, from now on."""

    def create(
        self,
        exported: Exported,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        options: TaskOptions,
        actor: ActorOptions,
        record: Any,
    ) -> tuple[NamedHandle, bool]:
        """Create an actor with a name, unless one has the name already.

        Returns (the actor that has the name from now on, whether that actor is new). The caller gets one hold of a new
        actor. `record` is kept for those who find the actor later.
        """

    def find(self, name: str, namespace: str = "") -> NamedHandle | None:
        """Return the living actor of a name, without a hold; None where there is none."""

    def all(self, *, everywhere: bool = False) -> list[NamedHandle]:
        """Return the living actors of the own namespace, or of all namespaces, sorted by namespace and name."""


class PlacementGroups(Protocol):
    """The placement groups of a session. Every method that asks waits for the engine's answer."""

    def create(
        self,
        bundles: Sequence[tuple[tuple[str, int], ...]],
        strategy: str,
        name: str,
        *,
        detached: bool,
        labels: tuple[tuple[LabelMatch, ...], ...],
    ) -> tuple[GroupRecord, bool]:
        """Create a group, unless one has the name already. Does not wait for a group without a name.

        Returns (the group that has the name from now on, whether that group is new). `labels`: sets of conditions, all
        of which the machine has to meet.
        """

    def remove(self, group_id: GroupId) -> None:
        """Give a group's resources back, and end its tasks and actors. Does nothing for an unknown group."""

    def find(self, name: str) -> GroupRecord | None:
        """Return the group of a name in the calling code's namespace; None where there is none."""

    def all(self, group_id: GroupId = NO_GROUP) -> list[GroupRecord]:
        """Return the groups that exist or were removed lately; with an id only that group."""


class Listener(Protocol):
    """What a backend tells whoever shows things. Called on the backend's own threads; must be quick and never raise."""

    def on_output(self, output: TextReport) -> None:
        """Take text of a task of this driver. The text comes before the task's result is known."""

    def on_display(self, display: DisplayReport) -> None:
        """Take something else that a task shows, in order with the task's text."""

    def on_progress(self, progress: ProgressReport) -> None:
        """Take the state of a task's progress bar. The last state comes before the task's result."""

    def on_update(self, update: StateReport) -> None:
        """Take the new state of a watched object's task."""

    def on_notice(self, cell: int, text: str) -> None:
        """Take a sentence for the user, which belongs to a cell."""

    def flush(self) -> None:
        """Let out what was handed to `on_output`: a `get` is about to return."""

    def on_lost(self, reason: str) -> None:
        """Take the news that the cluster is gone and will not come back."""


class Streams(Protocol):
    """The streams of a backend: tasks that yield refs while they run. A stream is known by its task's id."""

    def waitable(self, task_id: TaskId) -> ObjectId:
        """Return the id that stands for the stream's next item in `Backend.wait`, `is_ready`, `on_ready` and `release`.

        A stream is ready when `take` need not wait, and released when its generator is gone.
        """

    def take(self, task_id: TaskId) -> tuple[ObjectId, int] | None:
        """Return (id, index) of the next item, with one hold for the caller; None while there is no next item.

        After a failure the last item is the task's own object. Raises ObjectRefStreamEndOfStreamError after that, and
        ClusterLostError.
        """

    def is_finished(self, task_id: TaskId) -> bool:
        """Return whether the task has ended and every item was taken."""


class Insight(Protocol):
    """What an engine can tell about a whole session. Each question waits for the engine's answer."""

    def status(self) -> ClusterStatus:
        """Return a snapshot of the session."""

    def runs(self, since: float = 0.0) -> tuple[float, tuple[TaskRun, ...]]:
        """Return (the engine's clock now, runs that ended after `since`), at most the latest 20,000.

        Pass the clock on as the next `since`.
        """

    def rows(
        self, table: str, conditions: Sequence[Condition], limit: int, timeout: float, *, detail: bool
    ) -> TableRows:
        """Return the rows of "tasks", "actors", "objects" or "workers" that meet all conditions, at most `limit`.

        `timeout`: seconds that the answer may take. `detail`: whether to fill in the columns that cost more. Columns
        are those of the records in `ipyremote.util.state`. Raises ValueError for a value that its column cannot have.
        """

    def summary(self, table: str, timeout: float) -> TableCounts:
        """Return how many rows of a table are alike."""


class History(Protocol):
    """What this process has submitted, in order, and which failures nobody has asked for."""

    @property
    def next_id(self) -> ObjectId:
        """The lowest id of what this process submits from now on. Ids of one process only ever increase."""

    def unfinished(self, first: int = 0, last: int = 0) -> list[ObjectId]:
        """Return the ids from `first` up to `last` (0: the latest) of objects submitted here that have no value yet."""

    def watch_unretrieved(self, on_news: Callable[[ObjectId], None] | None) -> None:
        """Call `on_news(object_id)` for each failure that nobody has asked for. The callback must be quick."""

    def has_ref(self, object_id: ObjectId) -> bool:
        """Return whether this process has a ref to the object."""

    def failure(self, object_id: ObjectId) -> IPyRemoteError | None:
        """Return why an object has no value, without asking for it; None if it has a value, or none yet."""

    def is_unretrieved(self, object_id: ObjectId) -> bool:
        """Return whether the object's task failed and nobody has asked for the result."""

    def take_unretrieved(self, object_id: ObjectId) -> IPyRemoteError | None:
        """Return the failure if it is unretrieved and its text is new; from now on the failure counts as retrieved."""

    def mark_retrieved(self, ids: Sequence[ObjectId]) -> None:
        """Count the failures of these objects as retrieved."""

    def remember_calls(self) -> None:
        """Remember calls from now on, so that `retry` can repeat them."""

    def retry(self, object_id: ObjectId) -> ObjectId:
        """Run the task of an object again; return the id of the object that stands for it from now on.

        Raises ValueError, with the reason, where that is not possible.
        """


class Environments(Protocol):
    """The environments (`runtime_env`) that a session's tasks run in."""

    @property
    def runtime_env(self) -> RuntimeEnv:
        """The environment of the calling code's tasks."""

    def use(self, asked: RuntimeEnv) -> None:
        """Give all that this program submits from now on an environment. Raises what its preparation raises."""


class Recovery(Protocol):
    """A session that outlives its program: which names are kept, and what a later program takes of them."""

    def watch(self, names: Sequence[Mapping[str, Any]]) -> None:
        """Keep what the names in these mappings stand for; look through the mappings now, and then every second."""

    def close(self) -> None:
        """Stop looking through names."""

    def at_exit(self) -> None:
        """Look through the names a last time, and leave the session as it is, for a later program."""

    def kept_names(self) -> KeptNames:
        """Take the session over, if that has not happened, and return what is left of the former program's names."""

    def take(self, names: Sequence[str]) -> None:
        """Count these names as taken by this program, which holds what they stand for."""

    def has_refs(self, ids: Sequence[ObjectId]) -> bool:
        """Return whether this process has a ref to each of these."""

    def leave(self) -> None:
        """Leave the session without ending it."""


class CurrentTask(Protocol):
    """A worker, from the point of view of the code that runs in it."""

    def exit_actor(self) -> NoReturn:
        """End the actor that the code runs in; see `current_task.exit_actor`."""

    def is_canceled(self) -> bool:
        """Return whether the running task was cancelled; see `current_task.is_canceled`."""

    def current_actor(self) -> Any:
        """Return a handle of the actor that the code runs in; see `current_task.current_actor`."""

    def identity(self) -> Identity:
        """Return on whose behalf the calling code runs."""


class Backend(Protocol):
    """What runs tasks and keeps objects. See the module docstring for the rules."""

    #: Hexadecimal digits that name the session; refs of another session are refused by it.
    key: str
    #: The notebook layer's token of the cell that runs now. Above 0: the cell's number n of `In [n]`, which may be
    #: shown to users; below 0: a run of a cell without a number; 0: code outside notebooks.
    cell: int

    @property
    def capabilities(self) -> Capabilities:
        """What the engine can do."""

    @property
    def ended(self) -> str:
        """Why the session cannot be used any more; empty while it can."""

    @property
    def address(self) -> str:
        """Where other programs find the session, for `init(address=...)`; empty where they cannot."""

    @property
    def shared_directory(self) -> Path | None:
        """A directory that all processes of the session share, and that goes with it; None where there is none."""

    @property
    def is_worker(self) -> bool:
        """Whether this process was started by the engine to run tasks."""

    # ---- parts that only some engines have

    @property
    def named_actors(self) -> ActorNames | None:
        """The session's named actors."""

    @property
    def placement_groups(self) -> PlacementGroups | None:
        """The session's placement groups."""

    @property
    def streams(self) -> Streams | None:
        """The session's streams."""

    @property
    def insight(self) -> Insight | None:
        """What the engine can tell about the session."""

    @property
    def history(self) -> History | None:
        """What this process has submitted."""

    @property
    def environments(self) -> Environments | None:
        """The environments that tasks run in."""

    @property
    def recovery(self) -> Recovery | None:
        """How the session outlives this program; None where it ends with it."""

    @property
    def current_task(self) -> CurrentTask | None:
        """Who answers what code in a task asks about itself; None where no task runs."""

    # ---- ids and refs

    def hex_of(self, kind: IdKind, any_id: int) -> str:
        """Return the hexadecimal digits of an id, as many as Ray's id of this kind has. Works after the end, too."""

    def export_ref(self, any_id: ObjectId, *, weak: bool = False) -> Any:
        """Return what stands for an object or actor in a pickle; the pickle keeps them alive, unless it is `weak`."""

    def import_ref(self, exported: Any, *, weak: bool = False) -> ObjectId:
        """Return the id for what `export_ref` has returned in some process of the session.

        The caller gets one hold of the object or actor, unless the ref is `weak`.
        """

    def hold(self, any_id: ObjectId) -> None:
        """Count one more Python ref to this object or actor in this process."""

    def release(self, any_id: ObjectId) -> None:
        """Count one Python ref to this object or actor less. A finalizer may call this, at any instant."""

    # ---- on whose behalf code runs

    def identity(self) -> Identity:
        """Return on whose behalf the calling code runs. Never waits."""

    def origin(self) -> Origin:
        """Return what lets other threads submit on behalf of the calling code, as of now.

        What they submit then has the same parent, counts its labels with the calling code's, and its output goes to
        the cell of this moment.
        """

    # ---- work

    def define(self, target: Callable[..., Any], name: str) -> Exported:
        """Take a function or class. Raises TypeError when it cannot be pickled, ValueError when above 100 MB."""

    def submit(
        self, exported: Exported, args: tuple[Any, ...], kwargs: Mapping[str, Any], options: TaskOptions
    ) -> tuple[TaskId, str]:
        """Start a task, without waiting. Returns (id of its first return, label).

        With `options.stream` the caller gets the hold of a generator, `streams` says what comes of it, and the return
        is the end of the stream.
        """

    def create_actor(
        self,
        exported: Exported,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        options: TaskOptions,
        actor: ActorOptions,
    ) -> tuple[ActorId, str]:
        """Start an actor, without waiting. Returns (actor id, label)."""

    def call(
        self,
        actor_id: ActorId,
        class_name: str,
        method: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        options: TaskOptions,
    ) -> tuple[TaskId, str]:
        """Call a method, without waiting; calls of one process arrive in order. Returns (first id, label)."""

    def put(self, value: Any) -> tuple[ObjectId, str]:
        """Store a value. Returns (id, label). Raises ObjectStoreFullError."""

    def free(self, ids: Sequence[ObjectId]) -> None:
        """Drop values although there are refs, once no task needs the values; then `get` raises ObjectFreedError."""

    def get(self, ids: Sequence[ObjectId], timeout: float | None = None) -> list[Any]:
        """Return the values in order. Raises the first failure met, or GetTimeoutError after `timeout` seconds."""

    def wait(self, ids: Sequence[ObjectId], num_returns: int, timeout: float | None = None) -> list[ObjectId]:
        """Return the first `num_returns` ids that have a value or failed, in order; fewer after `timeout` seconds."""

    def is_ready(self, object_id: ObjectId) -> bool:
        """Return whether this process knows that the object has a value or a failure. Never waits."""

    def on_ready(self, object_id: ObjectId, callback: Callable[[ObjectId], None]) -> None:
        """Call `callback(object_id)` once the object has a value or a failure: now, or later on any thread."""

    def cancel(self, object_id: ObjectId, *, force: bool = False, recursive: bool = True) -> None:
        """Cancel the task behind an object. Does nothing when the task has ended."""

    def kill(self, actor_id: ActorId, *, no_restart: bool = True) -> None:
        """Kill an actor's process at once."""

    def watch(self, ids: Sequence[ObjectId]) -> None:
        """Report the tasks of these objects to `Listener.on_update`, now and at each change."""

    def unwatch(self, ids: Sequence[ObjectId]) -> None:
        """Stop reporting the tasks of these objects."""

    def explain(self, object_id: ObjectId) -> str:
        """Return a sentence on why the task of an object does not run."""

    def nodes(self) -> tuple[NodeStatus, ...]:
        """Return the machines of the session, the one of this process first. May wait for an answer."""

    def resources(self) -> tuple[dict[str, float], dict[str, float]]:
        """Return (total, available) amounts by name. What is used up is absent from the second."""

    def listen(self, listener: Listener | None) -> None:
        """Report to a listener from now on; None stands for the process's own stdout and stderr."""

    def shutdown(self) -> None:
        """End the session, or leave a session that others have started. Idempotent. In a worker nothing happens."""


class Work(Protocol):
    """Work in many pieces that have no refs of their own, for whoever shows it. Must be quick and never raise."""

    def on_counts(self, counts: Mapping[str, int]) -> None:
        """Take how many pieces are "pending", "running", "resolved", "failed" and "cancelled" by now."""

    def end(self) -> None:
        """Take note that no count changes any more. Idempotent."""


class Waiting(Protocol):
    """Told of each `get` that has to wait. Must be quick and never raise."""

    def begin(self, refs: Sequence[Any]) -> Any:
        """Take note that a `get` of these `ObjectRef`s starts to wait. The result is handed to `end`."""

    def end(self, wait: Any) -> None:
        """Take note that a `get` waits no longer, whatever came of it."""

    def interrupted(self, error: KeyboardInterrupt, function: str, refs: Sequence[Any]) -> None:
        """Note that `function` ("get" or "wait"), which waited for these refs, is about to raise `error`."""

    def work(self, name: str) -> Work:
        """Return who is told of the calls of `name` that the running cell waits for."""
