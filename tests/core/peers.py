"""The peers of a simulated cluster: workers that run plans, and drivers. `simulation.World` connects them to a core."""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Generator, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ipyremote import messages as m
from ipyremote.ids import NOBODY, ClientId, IdSource, ObjectId, minus
from tests.core.transcript import EXIT_CODE_0, rare

if TYPE_CHECKING:
    from tests.core.simulation import World

CPU = 10_000
#: Kinds of plans; each kind is a function of its own.
KINDS = ("value", "raise", "flaky", "wait", "tail", "hand", "large", "spin", "stream", "leave")
#: Keys of the environments besides the session's own.
ENVIRONMENTS = ("x", "y")
#: Texts of stored values, by segment.
TEXTS: dict[str, str] = {}


@dataclass(frozen=True)
class Plan:
    """The program of a task."""

    #: "value", "raise", "flaky" (fails once, is retried), "wait" (gets its children), "tail" (forwards to its child),
    #: "hand" (returns refs to its children), "large" (returns a stored value), "spin" (until cancelled), "stream"
    #: (yields), "leave" (drops its children).
    kind: str
    name: str
    children: tuple[Plan, ...] = ()
    retries: int = -1
    cpus: int = CPU
    returns: int = 1
    #: For a stream: number of items, every third of them large; limit; number of attempts that raise after one item.
    items: int = 0
    limit: int = m.ENDLESS
    raises: int = 0
    #: Key of the environment, and number of runs after which the worker leaves.
    environment: str = ""
    max_calls: int = 0

    def item(self, index: int, args: list[str]) -> str:
        """Return the item that a sequential run yields."""
        return f"{self.name}[{index}]({','.join(args)})"

    def value(self, args: list[str]) -> str:
        """Return the value of a sequential run; "!" stands for a failure."""
        if "!" in args or self.kind == "raise":
            return "!"
        if self.kind == "tail":
            return self.children[0].value([])
        parts = [*args, *(child.value([]) for child in self.children)] if self.kind == "wait" else args
        return "!" if "!" in parts else f"{self.name}({','.join(parts)})"


@dataclass
class SimWorker:
    """A worker process as the core sees it: a queue of runs, a progress page, a client's refs."""

    world: World
    id: ClientId
    ids: IdSource
    #: Key of the worker's environment.
    environment: str = ""
    queue: deque[m.RunTask] = field(default_factory=deque)
    current: m.RunTask | None = None
    program: Generator[None, None, None] | None = None
    cancelled: bool = False
    started: int = 0
    finished: int = 0
    last_run: int = 0
    leaving: bool = False
    values: dict[ObjectId, m.Inline | m.Stored | m.Failure] = field(default_factory=dict)
    functions: set[bytes] = field(default_factory=set)
    actor_id: ObjectId = NOBODY
    #: Runs that were delivered and not reported, by run number.
    open_runs: dict[int, m.RunTask] = field(default_factory=dict)
    #: Task ids of the calls that an actor has run, by caller.
    history: dict[int, list[ObjectId]] = field(default_factory=dict)
    #: Run numbers of the tasks that the worker has handed back, by task id.
    handed_back: dict[ObjectId, int] = field(default_factory=dict)
    #: Reports that are found after the worker's death, by run number.
    kept: dict[int, m.TaskDone | m.TaskFailed] = field(default_factory=dict)
    segments: int = 0
    #: Ids of the objects that the present task waits for.
    awaited: tuple[ObjectId, ...] = ()
    #: Number of items that the present stream may yield, and number that it has yielded.
    demand: int = m.ENDLESS
    yielded: int = 0
    #: Numbers of items that runs that have not started may yield, by run number.
    demands: dict[int, int] = field(default_factory=dict)
    #: Number of runs of each function with `max_calls`, by digest.
    calls: Counter[bytes] = field(default_factory=Counter)

    def send(self, message: m.FromClient) -> None:
        self.world.up[self.id].append(message)

    def on_message(self, message: m.ToClient) -> None:
        match message:
            case m.RunTask(spec, _, run):
                assert run == self.last_run + 1, "runs are numbered one by one"
                self.last_run = run
                assert spec.actor_id or spec.digest in self.functions, "the function was not sent"
                assert not self.actor_id or spec.actor_id == self.actor_id, "an actor got a foreign task"
                own = spec.actor_id or spec.environment == self.environment
                assert own, "a task was sent into another environment"
                self._count_call(spec)
                self.queue.append(message)
            case m.Define(digest):
                assert digest not in self.functions, "a function was sent twice"
                self.functions.add(digest)
            case m.Recall(task_ids):
                self.send(m.Returned(self._hand_back(task_ids)))
            case m.CancelRun(task_id, attempt):
                self._on_cancel(task_id, attempt)
            case m.ObjectReady(object_id, value):
                self.values[object_id] = value
            case m.Exit():
                self.leaving = True
            case m.DropSegments() | m.Evict() | m.Spill():
                self.world.on_segments(self.id, message)
            case m.Trim():
                pass
            case m.StreamDemand(task_id, attempt, items):
                self._on_demand(task_id, attempt, items)
            case m.StreamItem(_, _, object_id):
                # A worker has dropped the generators of all its streams.
                self.send(m.Release((object_id,)))
            case _:
                raise AssertionError(f"a worker got {message}")

    def _count_call(self, spec: m.TaskSpec) -> None:
        if spec.rare is not None and spec.rare.max_calls:
            self.calls[spec.digest] += 1
            assert self.calls[spec.digest] <= spec.rare.max_calls, "a function ran too often in one process"

    def _hand_back(self, task_ids: Iterable[ObjectId]) -> tuple[ObjectId, ...]:
        """Give up runs that have not started. Returns the ids of their tasks."""
        taken = [run for run in self.queue if run.spec.task_id in task_ids]
        for run in taken:
            self.queue.remove(run)
            del self.open_runs[run.run]
            self.handed_back[run.spec.task_id] = run.run
        return tuple(run.spec.task_id for run in taken)

    def _on_cancel(self, task_id: ObjectId, attempt: int) -> None:
        def is_it(run: m.RunTask) -> bool:
            return run.spec.task_id == task_id and run.attempt == attempt

        if self.current is not None and is_it(self.current):
            self.cancelled = True
        for run in list(self.queue):
            if is_it(run):
                self.queue.remove(run)
                self._done(run, (m.Failure("task_cancelled", "unstarted"),) * run.spec.returns)

    def _on_demand(self, task_id: ObjectId, attempt: int, items: int) -> None:
        current = self.current
        if current is not None and (current.spec.task_id, current.attempt) == (task_id, attempt):
            self.demand = items
        for run in self.queue:
            if (run.spec.task_id, run.attempt) == (task_id, attempt):
                self.demands[run.run] = items

    def can_step(self) -> bool:
        if self.current is None:
            return bool(self.queue) or self.leaving
        return not self._awaits()

    def _awaits(self) -> bool:
        """Return whether the present task waits for values or for the consumption of its items."""
        if self.cancelled:
            return False
        return 0 < self.demand <= self.yielded or any(child not in self.values for child in self.awaited)

    def step(self) -> None:
        """Go on with the present run, begin the next one, or leave."""
        if self.current is None:
            if not self.queue:
                self.world.end_worker(self.id, EXIT_CODE_0, survives=None)
                return
            self.current = self.queue.popleft()
            self.cancelled = False
            self.awaited = ()
            self.yielded = 0
            self.demand = self.demands.pop(self.current.run, self.current.spec.stream or m.ENDLESS)
            self.started = self.current.run
            self.world.on_start(self, self.current)
            self.program = self._run(self.current)
        assert self.program is not None
        if next(self.program, "end") == "end":
            self.current = self.program = None

    def _run(self, run: m.RunTask) -> Generator[None, None, None]:
        spec = run.spec
        plan = self.world.plans[spec.task_id]
        values = [self.values[dep] if v is None else v for dep, v in zip(spec.deps, run.values, strict=True)]
        assert not any(isinstance(value, m.Failure) for value in values), "a failed dependency was sent"
        args = [read(value) for value in values]
        yield
        while plan.kind == "spin" and not self.cancelled and not self.world.calm:
            yield
        ids = []
        for child in plan.children:
            child_id = self.ids.take(child.returns)
            self.world.plans[child_id] = child
            self.send(m.Submit(spec_of(child, child_id, parent=spec.task_id)))
            ids.append(child_id)
            yield
        text = plan.value(args)
        if plan.kind == "stream":
            yield from self._stream(run, plan, args)
        if plan.kind == "wait":
            behind = () if self.actor_id else [run.spec.task_id for run in self.queue]
            self.send(m.Blocked(spec.task_id, self._hand_back(behind)))
            self.send(m.Want(tuple(ids)))
            self.awaited = tuple(ids)
            while self._awaits():
                yield
            self.awaited = ()
            self.send(m.Unblocked(spec.task_id))
            yield
            if not self.cancelled:
                text = self._gather(plan, args, ids)
        self.finished = run.run
        yield
        if self.cancelled:
            self._done(run, (m.Failure("task_cancelled", "interrupted"),) * spec.returns)
        elif text == "!":
            self._done(run, (m.Failure("task_error", "it raised"),) * spec.returns)
        elif (plan.kind == "flaky" and run.attempt == 0) or run.attempt < plan.raises:
            self._fail(run)
        else:
            self._done(run, *self._results(plan, text, ids))
        returns = zip(ids, plan.children, strict=False)
        gone = [ObjectId(first + i) for first, child in returns for i in range(child.returns)]
        gone += [
            minus(first) for first, child in zip(ids, plan.children, strict=False) if child.kind == "stream"
        ]
        self.send(m.Release(tuple(gone)))

    def _stream(self, run: m.RunTask, plan: Plan, args: list[str]) -> Generator[None, None, None]:
        """Yield the items of a plan up to the demand; an attempt that is to raise ends after the first item."""
        spec = run.spec
        count = min(plan.items, 1) if run.attempt < plan.raises else plan.items
        while self.yielded < count and self.demand and not self.cancelled:
            if 0 < self.demand <= self.yielded:
                behind = () if self.actor_id else [other.spec.task_id for other in self.queue]
                self.send(m.Blocked(spec.task_id, self._hand_back(behind)))
                while self._awaits():
                    yield
                self.send(m.Unblocked(spec.task_id))
                yield
                continue
            text = plan.item(self.yielded, args)
            value = inline(text) if self.yielded % 3 else self._stored(text)
            self.send(m.Yield(spec.task_id, run.attempt, self.yielded, value))
            self.yielded += 1
            yield

    def _stored(self, text: str) -> m.Stored:
        self.segments += 1
        segment = f"{self.id}-{self.segments}"
        self.world.files.memory[segment] = self.id
        TEXTS[segment] = text
        return m.Stored(segment, 100, len(text))

    def _gather(self, plan: Plan, args: list[str], ids: list[ObjectId]) -> str:
        got = [self.values[child] for child in ids]
        if any(isinstance(value, m.Failure) for value in got):
            return "!"
        return f"{plan.name}({','.join([*args, *map(read, got)])})"

    def _results(
        self, plan: Plan, text: str, ids: list[ObjectId]
    ) -> tuple[tuple[m.Value, ...], tuple[tuple[ObjectId, ...], ...]]:
        if plan.kind == "tail":
            return (m.Forward(ids[0]),), ()
        if plan.kind == "large":
            self.segments += 1
            segment = f"{self.id}-{self.segments}"
            self.world.files.memory[segment] = self.id
            return (m.Stored(segment, 100, len(text), ((0, len(text)),) if not text else ()),) * 1, ()
        if plan.kind == "hand":
            return (inline(text, ids),), (tuple(ids),)
        return (inline(text),) * plan.returns, ()

    def _done(self, run: m.RunTask, values: tuple[m.Value, ...], refs: Any = ()) -> None:
        for value in values:
            if isinstance(value, m.Stored):
                TEXTS[value.segment] = self.world.plans[run.spec.task_id].value(
                    [read(v) if v is not None else "" for v in run.values]
                )
        del self.open_runs[run.run]
        self._report(run, m.TaskDone(run.spec.task_id, run.attempt, values, refs, 50))

    def _fail(self, run: m.RunTask) -> None:
        del self.open_runs[run.run]
        self.world.charges[run.spec.task_id] += 1
        self._report(run, m.TaskFailed(run.spec.task_id, run.attempt, m.Failure("task_error", "flaky"), 50))

    def _report(self, run: m.RunTask, report: m.TaskDone | m.TaskFailed) -> None:
        if self.world.keeps_reports and not self.world.plans[run.spec.task_id].children:
            # Only the report of a run that has sent no other message can stand alone.
            self.kept[run.run] = report
        self.send(report)


def inline(text: str, refs: Iterable[ObjectId] = ()) -> m.Inline:
    """Return a value with a text and refs inside."""
    return m.Inline(json.dumps([text, list(refs)]).encode())


def read(value: m.Inline | m.Stored | m.Failure) -> str:
    """Return the text of a value; "!" for a failure."""
    if isinstance(value, m.Failure):
        return "!"
    if isinstance(value, m.Stored):
        return TEXTS[value.segment]
    text: str = json.loads(value.data)[0]
    return text


def spec_of(plan: Plan, task_id: ObjectId, **fields: Any) -> m.TaskSpec:
    """Return the spec of a task that runs a plan."""
    if plan.kind == "flaky":
        fields["retry_on"] = b"*"
    if plan.kind == "stream":
        fields["stream"] = plan.limit
        if plan.raises:
            fields["retry_on"] = b"*"
    resources = (("CPU", plan.cpus),) if plan.cpus else ()
    fields.setdefault("digest", plan.kind.encode())
    if not fields.get("actor_id"):
        fields["environment"] = plan.environment
        fields["rare"] = rare(max_calls=plan.max_calls) if plan.max_calls else None
    return m.TaskSpec(
        task_id=task_id,
        name=plan.name,
        number=str(task_id & 0xFFFF),
        args=m.Inline(b""),
        resources=resources,
        max_retries=plan.retries,
        returns=plan.returns,
        **fields,
    )


class SimDriver:
    """A driver: the objects that it holds, and the values that it was told."""

    def __init__(self, world: World, client_id: ClientId) -> None:
        self.world = world
        self.id = client_id
        self.ids = IdSource(client_id)
        self.held: set[ObjectId] = set()
        self.actors: set[ObjectId] = set()
        #: Values that came, and number of `ObjectReady` messages that may still come, by object id.
        self.values: dict[ObjectId, m.Inline | m.Stored | m.Failure] = {}
        self.allowed: Counter[ObjectId] = Counter()
        #: Ids of the actors that the driver has created with a name, by request.
        self.asked: dict[int, ObjectId] = {}
        #: Ids of the items that came, and number of items taken, by task id.
        self.streams: dict[ObjectId, list[ObjectId]] = {}
        self.taken: Counter[ObjectId] = Counter()

    def send(self, message: m.FromClient) -> None:
        self.world.up[self.id].append(message)

    def define(self) -> None:
        for kind in KINDS:
            self.send(m.Define(kind.encode(), b"code"))
        for key in ENVIRONMENTS:
            self.send(m.DefineEnvironment(m.EnvironmentSpec(key, key)))

    def on_message(self, message: m.ToClient) -> None:
        match message:
            case m.ObjectReady(object_id, value):
                self.allowed[object_id] -= 1
                assert self.allowed[object_id] >= 0, "a value came twice"
                self.values[object_id] = value
                if isinstance(value, m.Inline) and object_id in self.held:
                    self._adopt(json.loads(value.data)[1])
            case m.DropSegments() | m.Evict() | m.Spill():
                self.world.on_segments(self.id, message)
            case m.Trim():
                pass
            case m.StreamItem(task_id, index, object_id, value):
                self._on_item(task_id, index, object_id, value)
            case m.Listing():
                self._on_listing(message)
            case m.Names(request, _, (named,)):
                self._on_named(self.asked[request], named)
            case m.Notice():
                pass
            case m.TaskUpdate():
                pass
            case _:
                raise AssertionError(f"a driver got {message}")

    def _on_listing(self, listing: m.Listing) -> None:
        """Assert that each attempt, actor, object and worker is listed once."""
        keys = (
            [(row.task_id, row.attempt) for row in listing.tasks],
            [row.actor_id for row in listing.actors],
            [row.object_id for row in listing.objects],
            [row.worker_id for row in listing.workers],
        )
        assert all(len(set(some)) == len(some) for some in keys)
        assert listing.matched == sum(len(some) for some in keys)

    def _on_named(self, actor_id: ObjectId, named: m.NamedActor) -> None:
        """React to the answer to the creation of a named actor: forget the actor if another has the name."""
        if named.actor_id != actor_id:
            self.held.discard(actor_id)
            self.actors.discard(actor_id)
            del self.allowed[actor_id]

    def _on_item(
        self, task_id: ObjectId, index: int, object_id: ObjectId, value: m.Inline | m.Stored | None
    ) -> None:
        if task_id not in self.streams:
            self.send(m.Release((object_id,)))
            return
        items = self.streams[task_id]
        assert index == len(items), "an item came twice, or one was left out"
        assert value is not None, "no item is deferred"
        limit = self.world.plans[task_id].limit
        assert limit < 0 or len(items) < self.taken[task_id] + limit, "more came than was asked for"
        items.append(object_id)
        self.held.add(object_id)
        self.values[object_id] = value

    def waiting_streams(self) -> list[ObjectId]:
        """Return the task ids of streams with items that were not taken."""
        return [task_id for task_id, items in self.streams.items() if len(items) > self.taken[task_id]]

    def take(self, task_id: ObjectId) -> None:
        """Take the next item, as `next` on a generator does."""
        self.taken[task_id] += 1
        if self.world.plans[task_id].limit > 0:
            self.send(m.Consumed(task_id, self.taken[task_id]))

    def drop(self, task_id: ObjectId, *, end_too: bool) -> None:
        """Drop the generator of a stream with the items that were not taken; `end_too`: and the task's own object."""
        gone = self.streams.pop(task_id)[self.taken[task_id] :]
        gone = [object_id for object_id in gone if object_id in self.held]
        if end_too and task_id in self.held:
            gone.append(task_id)
        self.held.difference_update(gone)
        self.send(m.Release((minus(task_id), *gone)))

    def _adopt(self, refs: list[ObjectId]) -> None:
        """Hold the refs inside a value, and ask for their values."""
        for ref in refs:
            self.held.add(ref)
            self.allowed[ref] += 1
            self.send(m.Hold((ref,)))
            self.send(m.Want((ref,)))
