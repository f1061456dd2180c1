"""Fakes around the notebook layer: a front end, a backend that runs nothing, and an updater without a thread."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from ipyremote.backend import (
    ActorNames,
    ActorOptions,
    Backend,
    Capabilities,
    ClusterStatus,
    Condition,
    CurrentTask,
    DisplayReport,
    Environments,
    Exported,
    History,
    Identity,
    IdKind,
    Insight,
    Listener,
    NodeStatus,
    Origin,
    PlacementGroups,
    ProgressReport,
    Recovery,
    StateReport,
    Streams,
    TableCounts,
    TableRows,
    TaskOptions,
    TaskRun,
    TextReport,
)
from ipyremote.backend.registry import Engine, Keeper
from ipyremote.exceptions import IPyRemoteError
from ipyremote.ids import NOBODY, ActorId, ObjectId, TaskId, digits_of, minus
from ipyremote.notebook.display.screen import Screen
from ipyremote.notebook.output.frontend import Bundle, Parent
from ipyremote.refs import ObjectRef
from ipyremote.serialization import nested_refs, pickling


class Clock:
    """A clock that tests set."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class ManualUpdater:
    """An updater that runs its functions when `advance` is called."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._order = itertools.count()
        self._queue: list[tuple[float, int, Callable[..., object], tuple[Any, ...]]] = []

    def call(self, fn: Callable[..., object], *args: Any) -> None:
        self.call_later(0.0, fn, *args)

    def call_later(self, seconds: float, fn: Callable[..., object], *args: Any) -> None:
        heapq.heappush(self._queue, (self.clock.now + max(seconds, 0.0), next(self._order), fn, args))

    def advance(self, seconds: float = 0.0) -> None:
        """Advance the clock by this number of seconds, and run the functions that are due."""
        end = self.clock.now + seconds
        while self._queue and self._queue[0][0] <= end:
            at, _, fn, args = heapq.heappop(self._queue)
            self.clock.now = max(self.clock.now, at)
            fn(*args)
        self.clock.now = end

    @property
    def idle(self) -> bool:
        """Return whether nothing is left to do."""
        return not self._queue


class FakeFrontend:
    """A front end with HTML that remembers what it was sent."""

    rich = True

    def __init__(self) -> None:
        self.request: Parent = {"cell": 0}
        #: (stream, text, parent)
        self.streams: list[tuple[str, str, Parent]] = []
        #: (display id, bundle)
        self.displays: list[tuple[str | None, Bundle]] = []
        #: (display id, bundle, parent)
        self.updates: list[tuple[str, Bundle, Parent]] = []
        #: (what a task displayed, parent)
        self.contents: list[tuple[dict[str, Any], Parent]] = []

    def parent(self) -> Parent:
        return self.request

    def stream(self, name: str, text: str, parent: Parent) -> None:
        self.streams.append((name, text, parent))

    def display(self, bundle: Bundle, display_id: str | None = None) -> None:
        self.displays.append((display_id, bundle))

    def display_under(self, parent: Parent, bundle: Bundle, display_id: str, *, update: bool) -> None:
        if update:
            self.updates.append((display_id, bundle, parent))
        else:
            self.displays.append((display_id, bundle))

    def content(self, parent: Parent, content: dict[str, Any]) -> None:
        self.contents.append((content, parent))

    def text(self, name: str = "stdout") -> str:
        """Return all text of a stream."""
        return "".join(text for stream, text, _ in self.streams if stream == name)


class FakeInsight:
    """What a test's engine tells about its session: nothing, unless the test overrides a question."""

    def status(self) -> ClusterStatus:
        raise NotImplementedError

    def runs(self, since: float = 0.0) -> tuple[float, tuple[TaskRun, ...]]:
        raise NotImplementedError

    def rows(
        self, table: str, conditions: Sequence[Condition], limit: int, timeout: float, *, detail: bool
    ) -> TableRows:
        raise NotImplementedError

    def summary(self, table: str, timeout: float) -> TableCounts:
        raise NotImplementedError


class FakeHistory:
    """What a test's engine knows of its submissions: nothing, unless the test overrides a question."""

    next_id = NOBODY

    def __init__(self) -> None:
        #: Ids that somebody was told of.
        self.asked: list[ObjectId] = []

    def unfinished(self, first: int = 0, last: int = 0) -> list[ObjectId]:
        return []

    def watch_unretrieved(self, on_news: Callable[[ObjectId], None] | None) -> None:
        """Do nothing: there is no news."""

    def has_ref(self, object_id: ObjectId) -> bool:
        return True

    def failure(self, object_id: ObjectId) -> IPyRemoteError | None:
        return None

    def is_unretrieved(self, object_id: ObjectId) -> bool:
        return False

    def take_unretrieved(self, object_id: ObjectId) -> IPyRemoteError | None:
        return None

    def mark_retrieved(self, ids: Sequence[ObjectId]) -> None:
        self.asked.extend(ids)

    def remember_calls(self) -> None:
        """Do nothing: the fake runs no calls, so none can be repeated."""

    def retry(self, object_id: ObjectId) -> ObjectId:
        raise ValueError("this call cannot be repeated")


#: What the fake can do is what the tests of the notebook layer need.
CAPABILITIES = Capabilities(
    "fake", insight="A fake session tells nothing.", history="A fake session forgets."
)


class FakeStreams:
    """Streams that yield nothing."""

    def waitable(self, task_id: TaskId) -> ObjectId:
        return minus(task_id)

    def take(self, task_id: TaskId) -> tuple[ObjectId, int] | None:
        return None

    def is_finished(self, task_id: TaskId) -> bool:
        return False


class FakeBackend:
    """Takes submissions, pickles them to be sure that they could be sent, and lets the test say what comes of them.

    Previews are made at once, in this process.
    """

    capabilities = CAPABILITIES
    address = ""
    shared_directory: Path | None = None
    is_worker = False
    named_actors: ActorNames | None = None
    placement_groups: PlacementGroups | None = None
    streams: Streams | None = FakeStreams()
    environments: Environments | None = None
    recovery: Recovery | None = None
    current_task: CurrentTask | None = None

    def __init__(self) -> None:
        self.key = "ab" * 20
        self.released: list[ObjectId] = []
        self.insight: Insight | None = None
        self.history: History | None = None
        self.cell = 0
        self.ended = ""
        self.listener: Listener | None = None
        self.watched: set[ObjectId] = set()
        self.cancelled: list[ObjectId] = []
        #: (id, label, exported, args, options)
        self.submitted: list[tuple[ObjectId, str, Exported, tuple[Any, ...], TaskOptions]] = []
        #: What became of each object: (state, value or exception).
        self.outcomes: dict[ObjectId, tuple[str, Any]] = {}
        #: Whether previews are answered.
        self.previews = True
        self.totals = {"CPU": 4.0, "object_store_memory": 3 * 2**30}
        self.available = dict(self.totals)
        self._callbacks: dict[ObjectId, list[Callable[[ObjectId], None]]] = {}
        self._numbers: dict[str, int] = {}
        self._ids = itertools.count(1)

    def new_ref(self, name: str = "square") -> ObjectRef[Any]:
        """Return the ref of a new task that has not ended."""
        return ObjectRef(ObjectId(next(self._ids)), self, self._label(name))

    def update(self, ref: ObjectRef[Any], state: str, seconds: float = 0.0, detail: str = "") -> None:
        """Report a new state of a task."""
        if self.listener is not None and ref._id in self.watched:
            self.listener.on_update(StateReport(ref._id, state, ref._label, seconds, detail))

    def end(self, ref: ObjectRef[Any], state: str, value: Any = None, seconds: float = 0.0) -> None:
        """End a task: "done" with a value, "failed" or "cancelled" with an exception."""
        self._settle(ref._id, state, value)
        self.update(ref, state, seconds, "" if state == "done" else str(value).partition("\n")[0])

    def _settle(self, object_id: ObjectId, state: str, value: Any) -> None:
        self.outcomes[object_id] = (state, value)
        for callback in self._callbacks.pop(object_id, []):
            callback(object_id)

    def _label(self, name: str) -> str:
        number = self._numbers[name] = self._numbers.get(name, 0) + 1
        return f"{name}#{number}"

    def hex_of(self, kind: IdKind, any_id: int) -> str:
        return digits_of(self.key, kind, any_id)

    def export_ref(self, any_id: ObjectId, *, weak: bool = False) -> ObjectId:
        nested_refs.collect(any_id)
        return any_id

    def import_ref(self, exported: ObjectId, *, weak: bool = False) -> ObjectId:
        return exported

    def release(self, any_id: ObjectId) -> None:
        self.released.append(any_id)

    def identity(self) -> Identity:
        return Identity()

    def origin(self) -> Origin:
        return nullcontext

    def nodes(self) -> tuple[NodeStatus, ...]:
        return (NodeStatus(self.hex_of("node", 0), "here", "127.0.0.1", dict(self.totals), {}),)

    def free(self, ids: Sequence[ObjectId]) -> None:
        raise NotImplementedError

    def define(self, target: Callable[..., Any], name: str) -> Exported:
        return Exported(target, name, b"")

    def submit(
        self, exported: Exported, args: tuple[Any, ...], kwargs: Mapping[str, Any], options: TaskOptions
    ) -> tuple[ObjectId, str]:
        pickling.dumps(tuple(None if isinstance(arg, ObjectRef) else arg for arg in args))
        object_id, label = ObjectId(next(self._ids)), self._label(options.name or exported.name)
        self.submitted.append((object_id, label, exported, args, options))
        if exported.name == "_preview" and self.previews:
            self._settle(object_id, "done", exported.target(self.outcomes[args[0]._id][1]))
        return object_id, label

    def create_actor(
        self,
        exported: Exported,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        options: TaskOptions,
        actor: ActorOptions,
    ) -> tuple[ObjectId, str]:
        raise NotImplementedError

    def call(
        self,
        actor_id: ActorId,
        class_name: str,
        method: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        options: TaskOptions,
    ) -> tuple[ObjectId, str]:
        raise NotImplementedError

    def put(self, value: Any) -> tuple[ObjectId, str]:
        raise NotImplementedError

    def get(self, ids: Sequence[ObjectId], timeout: float | None = None) -> list[Any]:
        values = []
        for object_id in ids:
            state, value = self.outcomes[object_id]
            if state != "done":
                raise value
            values.append(value)
        return values

    def wait(self, ids: Sequence[ObjectId], num_returns: int, timeout: float | None = None) -> list[ObjectId]:
        raise NotImplementedError

    def is_ready(self, object_id: ObjectId) -> bool:
        self._enter()
        return object_id in self.outcomes

    def on_ready(self, object_id: ObjectId, callback: Callable[[ObjectId], None]) -> None:
        if object_id in self.outcomes:
            callback(object_id)
        else:
            self._callbacks.setdefault(object_id, []).append(callback)

    def cancel(self, object_id: ObjectId, *, force: bool = False, recursive: bool = True) -> None:
        self.cancelled.append(object_id)

    def kill(self, actor_id: ActorId, *, no_restart: bool = True) -> None:
        raise NotImplementedError

    def hold(self, any_id: ObjectId) -> None:
        raise NotImplementedError

    def watch(self, ids: Sequence[ObjectId]) -> None:
        self._enter()
        self.watched.update(ids)
        for object_id in ids:
            if object_id in self.outcomes and self.listener is not None:
                state, value = self.outcomes[object_id]
                detail = "" if state == "done" else str(value).partition("\n")[0]
                self.listener.on_update(StateReport(object_id, state, "", 0.0, detail))

    def unwatch(self, ids: Sequence[ObjectId]) -> None:
        self.watched.difference_update(ids)

    def explain(self, object_id: ObjectId) -> str:
        return "it waits for a free CPU"

    def resources(self) -> tuple[dict[str, float], dict[str, float]]:
        self._enter()
        return dict(self.totals), dict(self.available)

    def listen(self, listener: Listener | None) -> None:
        self.listener = listener

    def shutdown(self) -> None:
        self.ended = "the session was shut down"

    def _enter(self) -> None:
        if self.ended:
            raise RuntimeError(self.ended)


class FakeEngine:
    """Starts fake backends, or fails; notes the arguments that it was started with."""

    capabilities = CAPABILITIES
    keeper: Keeper | None = None

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.started: list[dict[str, Any]] = []

    def start(self, arguments: Mapping[str, Any]) -> Backend:
        if self.error is not None:
            raise self.error
        self.started.append(dict(arguments))
        return FakeBackend()

    def join(self, address: str, arguments: Mapping[str, Any]) -> tuple[Backend, Mapping[str, Any]]:
        raise ConnectionError(address)


class FakeWidget:
    """A widget that remembers what it was sent."""

    made: list[FakeWidget]

    def __init__(self, html: str, state: str, on_message: Callable[..., None], number: int = 0) -> None:
        self.html, self.state, self.on_message, self.number = html, state, on_message, number
        self.card, self.lasting = "", False
        self.updates: list[tuple[str, str]] = []
        self.grids: list[tuple[str, bytes]] = []
        self.data: list[dict[str, Any]] = []
        self.discarded = False
        self.made.append(self)

    def update(self, html: str, state: str, card: str = "", lasting: bool = False) -> None:
        assert not self.discarded
        self.html, self.state, self.card, self.lasting = html, state, card, lasting
        self.updates.append((html, state))

    def send_grid(self, form: str, content: bytes) -> None:
        assert not self.discarded
        self.grids.append((form, content))

    def send_data(self, content: dict[str, Any]) -> None:
        assert not self.discarded
        self.data.append(content)

    def bundle(self, bundle: dict[str, Any]) -> dict[str, Any]:
        return {**bundle, "widget": {}}

    def discard(self) -> None:
        self.discarded = True


class Reports:
    """A listener that connects the backend to the screen, as the extension does."""

    def __init__(self, backend: FakeBackend, screen: Screen) -> None:
        self.backend, self.screen = backend, screen

    def on_update(self, update: StateReport) -> None:
        self.screen.on_update(self.backend, update)

    def on_output(self, output: TextReport) -> None: ...

    def on_display(self, display: DisplayReport) -> None: ...

    def on_progress(self, progress: ProgressReport) -> None: ...

    def on_notice(self, cell: int, text: str) -> None: ...

    def flush(self) -> None: ...

    def on_lost(self, reason: str) -> None: ...


def _checked_by_mypy(backend: FakeBackend, engine: FakeEngine) -> tuple[Backend, Engine]:
    """The fakes are what the notebook layer is written against."""
    return backend, engine
