"""The door between the API and whatever runs the work: the `Backend` protocol.

A backend knows objects and actors by their ids (`ids.py`) only; `ObjectRef`s and handles are made above this door. A
backend is not told about notebooks either: the notebook layer sets `cell` and registers a `Listener`. Implementations:
`backends/local.py` (processes under a scheduler), `backends/inline` (in this process), and, inside a worker, the
worker's own client session.

Rules. Every method may be called from any thread. `released` may be appended to from a finalizer, which must do nothing
else. A backend that was shut down raises `ClusterLostError` or `IPyRemoteSystemError` from every method except
`shutdown` and `release`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from ipyremote.backend.placement import GroupRecord, LabelMatch
from ipyremote.backend.records import ActorOptions, Exported, NamedHandle, TaskOptions

__all__ = ["ActorNames", "Backend", "Listener", "PlacementGroups", "Streams", "Waiting", "Work"]


class ActorNames(Protocol):
    """The named actors of a session. What asks waits for the answer."""

    @property
    def namespace(self) -> str:
        """The namespace of the calling code's driver."""

    def use(self, namespace: str) -> None:
        """This driver's named actors are in this namespace, from now on."""

    def create(
        self,
        exported: Exported,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        options: TaskOptions,
        actor: ActorOptions,
        record: Any,
    ) -> tuple[NamedHandle, bool]:
        """(the actor that has the name from now on, whether that is a new one). One hold of a new one is taken."""

    def find(self, name: str, namespace: str = "") -> NamedHandle | None:
        """The living actor of this name. No hold is taken."""

    def all(self, *, everywhere: bool = False) -> list[NamedHandle]:
        """The living actors of the own namespace, or of all, by namespace and name."""


class PlacementGroups(Protocol):
    """The placement groups of a session. What asks waits for the answer."""

    def create(
        self,
        bundles: Sequence[tuple[tuple[str, int], ...]],
        strategy: str,
        name: str,
        *,
        detached: bool,
        labels: tuple[tuple[LabelMatch, ...], ...],
    ) -> tuple[GroupRecord, bool]:
        """(the group that has the name from now on, whether that is a new one). Does not wait when it has no name.

        `labels`: sets of conditions, all of which the machine has to meet.
        """

    def remove(self, group_id: int) -> None:
        """Give it back, and end what is in it. Nothing happens when it is not there."""

    def find(self, name: str) -> GroupRecord | None:
        """The group of this name in the calling code's namespace."""

    def all(self, group_id: int = 0) -> list[GroupRecord]:
        """Those that are there and those removed lately; or only the one with this id."""


class Listener(Protocol):
    """What a backend tells whoever shows things. Called on the backend's own threads; must be quick and never raise."""

    def on_output(self, cell: int, label: str, stream: int, text: str, task_id: int = 0) -> None:
        """Text of a task of this driver. `stream`: 1 stdout, 2 stderr. Comes before the task's result is known."""

    def on_display(self, cell: int, label: str, task_id: int, content: dict[str, Any]) -> None:
        """Something else that a task shows, in order with its text; `messages` draws `content`."""

    def on_progress(
        self, task_id: int, bar: int, description: str, done: float, total: float, unit: str, closed: bool
    ) -> None:
        """State of a progress bar of a task; see `messages.Progress`. The last one comes before the task's result."""

    def on_update(self, object_id: int, state: str, label: str, seconds: float, detail: str) -> None:
        """New state of a watched object's task; see `messages.TaskUpdate`."""

    def on_notice(self, cell: int, text: str) -> None:
        """A sentence for the user."""

    def flush(self) -> None:
        """`get` is about to return: what was handed to `on_output` must be out."""

    def on_lost(self, reason: str) -> None:
        """The cluster is gone and will not come back."""


class Streams(Protocol):
    """The streams of a backend. A stream is known by its task's id.

    To `Backend.wait`, `is_ready`, `on_ready` and `released` it is minus that id: a stream is ready when `take` need not
    wait, and released when its generator is gone.
    """

    def take(self, task_id: int) -> tuple[int, int] | None:
        """(id, index) of the next item, with one hold for the caller; None: it is not there yet.

        After a failure the last item is the task's own object. Raises ObjectRefStreamEndOfStreamError after that, and
        ClusterLostError.
        """

    def is_finished(self, task_id: int) -> bool:
        """Whether it has ended and everything was taken."""


@runtime_checkable
class Backend(Protocol):
    """What runs tasks and keeps objects. See the module docstring for the rules."""

    #: Hex digits that name the session; refs of another session are refused by it.
    key: str
    #: Ids whose last Python ref in this process died. Appended to by finalizers, emptied by the backend.
    released: deque[int]
    #: The notebook layer's number of the cell that runs now; 0 outside notebooks.
    cell: int

    @property
    def names(self) -> ActorNames:
        """The session's named actors."""

    @property
    def streams(self) -> Streams:
        """Its streams."""

    @property
    def groups(self) -> PlacementGroups:
        """Its placement groups."""

    def node_labels(self) -> dict[str, str]:
        """Labels of the machine. May wait for an answer."""

    def define(self, target: Callable[..., Any], name: str) -> Exported:
        """Take a function or class. Raises TypeError when it cannot be pickled, ValueError when above 100 MB."""

    def submit(
        self, exported: Exported, args: tuple[Any, ...], kwargs: Mapping[str, Any], options: TaskOptions
    ) -> tuple[int, str]:
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
    ) -> tuple[int, str]:
        """Start an actor, without waiting. Returns (actor id, label)."""

    def call(
        self,
        actor_id: int,
        class_name: str,
        method: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        options: TaskOptions,
    ) -> tuple[int, str]:
        """Call a method, without waiting; calls of one process arrive in order. Returns (first id, label)."""

    def put(self, value: Any) -> tuple[int, str]:
        """Store a value. Returns (id, label). Raises ObjectStoreFullError."""

    def free(self, ids: Sequence[int]) -> None:
        """Drop these values although there are refs, once no task needs them; then `get` raises ObjectFreedError."""

    def get(self, ids: Sequence[int], timeout: float | None = None) -> list[Any]:
        """Values in order. Raises the first failure met, or GetTimeoutError after `timeout` seconds."""

    def wait(self, ids: Sequence[int], num_returns: int, timeout: float | None = None) -> list[int]:
        """The first `num_returns` of these that have a value or failed, in the order given; fewer after `timeout`."""

    def is_ready(self, object_id: int) -> bool:
        """Whether the object is known in this process to have a value or a failure. Never blocks."""

    def on_ready(self, object_id: int, callback: Callable[[int], None]) -> None:
        """Call `callback(object_id)` once it has a value or a failure (now, if it has), on any thread."""

    def cancel(self, object_id: int, *, force: bool = False, recursive: bool = True) -> None:
        """Cancel the task behind an object; nothing happens when it has ended."""

    def kill(self, actor_id: int, *, no_restart: bool = True) -> None:
        """Kill an actor's process at once."""

    def hold(self, any_id: int) -> None:
        """A further Python ref to this object or actor appeared in this process (it was unpickled)."""

    def watch(self, ids: Sequence[int]) -> None:
        """Report `Listener.on_update` for these, now and at each change."""

    def unwatch(self, ids: Sequence[int]) -> None:
        """Stop reporting."""

    def explain(self, object_id: int) -> str:
        """Why its task does not run, in a sentence."""

    def resources(self) -> tuple[dict[str, float], dict[str, float]]:
        """(total, available) amounts by name; what is used up is absent from the second."""

    def listen(self, listener: Listener | None) -> None:
        """Report to this listener from now on; None: to the process's own stdout and stderr."""

    def shutdown(self) -> None:
        """End the session (or leave it, in a worker). Idempotent."""


class Work(Protocol):
    """Work in many pieces that have no refs of their own, for whoever shows it. Must be quick and never raise."""

    def on_counts(self, counts: Mapping[str, int]) -> None:
        """How many pieces are "pending", "running", "resolved", "failed" and "cancelled" by now."""

    def end(self) -> None:
        """Nothing changes any more. Idempotent."""


class Waiting(Protocol):
    """Told of each `get` that has to wait. Must be quick and never raise."""

    def begin(self, refs: Sequence[Any]) -> Any:
        """A `get` of these `ObjectRef`s starts to wait; what it returns is handed to `end`."""

    def end(self, wait: Any) -> None:
        """It waits no longer, whatever came of it."""

    def interrupted(self, error: KeyboardInterrupt, function: str, refs: Sequence[Any]) -> None:
        """Note that `function` ("get" or "wait"), which waited for these refs, is about to raise `error`."""

    def work(self, name: str) -> Work:
        """The running cell waits for calls of `name`, as many as there will be."""
