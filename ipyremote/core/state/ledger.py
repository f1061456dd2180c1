"""The records of the core and the ledger that holds them. Data with a sentence for each field; no decisions.

Rules. Records are changed in `core/` only, states only through the functions of `moves`. A holder is an int: a
client id; an object id (a ref to the held object is inside that object's value); `-task_id` (the object is an
argument); `SESSION`; `SAVED`; or `DETACHED`. Most objects have one holder, so `Object.holders` is 0 for none, that int
for one, and a set for several, which saves 200 bytes an object.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Final, TypeAlias

from ipyremote.backend.placement import Place
from ipyremote.core.capacity import Group, Stock
from ipyremote.core.commands import Command
from ipyremote.core.history import Past
from ipyremote.core.state.clients import Client
from ipyremote.core.state.environments import OPEN, Environment
from ipyremote.core.state.functions import Function
from ipyremote.core.state.storage import Storage
from ipyremote.core.state.streams import Streams
from ipyremote.core.task_log import Step
from ipyremote.core.transitions import PROMISED, WAITING
from ipyremote.ids import COUNTER_BITS, DRIVER
from ipyremote.messages import RESOURCE_UNIT, ActorSpec, Failure, Inline, Resources, Stored, TaskSpec

__all__ = [
    "DETACHED",
    "FIRST_ID",
    "SAVED",
    "SESSION",
    "Actor",
    "Client",
    "Function",
    "Ledger",
    "Object",
    "Shape",
    "Task",
    "Worker",
]

#: The holder of what exported functions refer to.
SESSION: Final = -1
#: The holder of what a driver's names stood for, once that driver is gone.
SAVED: Final = -2
#: The holder of detached actors.
DETACHED: Final = -3
#: The smallest id of a task, object or actor; holders below it and above 0 are clients.
FIRST_ID: Final = 1 << COUNTER_BITS
#: Steps of a task's story that are kept.
STORY_STEPS: Final = 64


#: Needs, `exclusive`, `creates`, place, and key of the environment of a shape.
ShapeKey: TypeAlias = tuple[Resources, bool, bool, Place | None, str]


class Shape:
    """What some tasks need, and the ready ones among them: a queue for each client, served in turn."""

    __slots__ = (
        "client_ring",
        "creates",
        "environment",
        "exclusive",
        "gpu",
        "group",
        "lanes",
        "listed",
        "missing",
        "needs",
        "noticed",
        "place",
        "ready",
        "served",
        "sources",
        "starved_since",
    )

    def __init__(
        self,
        environment: Environment,
        needs: Resources,
        exclusive: bool,
        gpu: int,
        missing: str,
        sources: tuple[Stock, ...],
        place: Place | None = None,
        group: Group | None = None,
        *,
        creates: bool = False,
    ) -> None:
        self.needs = needs
        #: Whose workers can run its tasks.
        self.environment = environment
        #: What its leases are drawn from, each from one of these: the session's stock, or bundles of its group. None:
        #: the group is not reserved yet.
        self.sources = sources
        #: Where its tasks are placed; None: anywhere.
        self.place = place
        #: The placement group in which they are.
        self.group = group
        #: Its tasks get a worker of their own, nothing behind them: actor creations, tasks with GPUs or `max_calls`.
        self.exclusive = exclusive
        #: Its tasks are actor creations.
        self.creates = creates
        #: The GPU amount among `needs`.
        self.gpu = gpu
        #: What the whole session lacks for it, in words; empty when it can be met.
        self.missing = missing
        #: Ready tasks by submitter. A task that was cancelled meanwhile is still here and is skipped.
        self.lanes: dict[int, deque[Task]] = {}
        #: The clients that have a lane; the next to be served first.
        self.client_ring: deque[int] = deque()
        #: Tasks in the lanes that are READY.
        self.ready = 0
        #: Which lease, counted over the session, was the last that it got.
        self.served = 0
        #: Whether it is in `Ledger.rota`.
        self.listed = False
        #: Whether the driver was told that it cannot be met.
        self.noticed = False
        #: Since when it has had ready tasks and not fitted; None when it fitted last time.
        self.starved_since: float | None = None


class Object:
    """A value, or the promise of one. An actor's creation has one too, whose holders are those of the actor."""

    __slots__ = (
        "creator",
        "forward",
        "holders",
        "id",
        "label",
        "producer",
        "refs",
        "seconds",
        "state",
        "value",
        "waiters",
        "wanted",
        "watchers",
    )

    def __init__(self, object_id: int, holder: int, label: str, producer: Task | None) -> None:
        self.id = object_id
        self.state: str = PROMISED
        #: Never a Forward; None while promised.
        self.value: Inline | Stored | Failure | None = None
        #: See the module docstring.
        self.holders: int | set[int] = holder
        #: The client that made the segment and recycles it; 0 when the value has none or another object owns it.
        self.creator = 0
        #: What the value refers to: this object holds these.
        self.refs: tuple[int, ...] = ()
        #: Tasks that need the value, and objects that forward to this one.
        self.waiters: list[Task | Object] | None = None
        #: Clients that asked for the value.
        self.wanted: set[int] | None = None
        #: Clients that follow the task's state.
        self.watchers: set[int] | None = None
        #: The task that will give the value; None once it has ended, and for `put`.
        self.producer = producer
        self.label = label
        #: How long the task ran in all.
        self.seconds = 0.0
        #: The object whose value this one will have, while that is promised.
        self.forward: Object | None = None


class Task:
    """A task, a method call or an actor's creation, from submission until it has ended."""

    __slots__ = (
        "actor",
        "attempt",
        "children",
        "crashes",
        "estimate",
        "failure",
        "function",
        "missing",
        "parent",
        "run",
        "shape",
        "spec",
        "started",
        "state",
        "story",
        "submitted",
        "submitter",
        "watched",
        "worker",
    )

    def __init__(self, spec: TaskSpec, submitter: int, state: str, now: float) -> None:
        self.spec = spec
        #: The client that asked for it.
        self.submitter = submitter
        self.state = state
        #: Charged runs so far; part of every message about a run.
        self.attempt = 0
        #: Dependencies that have no value yet.
        self.missing = 0
        #: What it needs; None for a method call.
        self.shape: Shape | None = None
        #: What it runs; None for a method call.
        self.function: Function | None = None
        #: The actor of a method call or of a creation.
        self.actor: Actor | None = None
        #: Where it was sent, while it is there.
        self.worker: Worker | None = None
        #: Number of its run on that worker.
        self.run = 0
        #: Microseconds by which it counts in `Worker.load`.
        self.estimate = 0.0
        #: When it was submitted.
        self.submitted = now
        #: When its present run started, as far as the core can tell.
        self.started = 0.0
        #: Workers that were lost while they ran it.
        self.crashes = 0
        #: The failure of a dependency, which ends it.
        self.failure: Failure | None = None
        #: The task that submitted it, while that has not ended (else that one's parent, and so on).
        self.parent: Task | None = None
        #: Tasks whose `parent` it is.
        self.children: set[Task] | None = None
        #: Whether any of its returns has watchers.
        self.watched = False
        #: What happened beyond the usual course, oldest first, bounded.
        self.story: deque[Step] | None = None

    def note(self, now: float, text: str) -> None:
        """Add a step to its story."""
        if self.story is None:
            self.story = deque(maxlen=STORY_STEPS)
        self.story.append(Step(now, text))


class Worker:
    """A worker process, from the decision to start it until its exit is known."""

    __slots__ = (
        "actor",
        "blocked",
        "calls",
        "cpus_lent",
        "environment",
        "functions",
        "gpus",
        "id",
        "idle_since",
        "last_end",
        "leased_at",
        "load",
        "pid",
        "recall",
        "reported",
        "runs",
        "shape",
        "started_at",
        "state",
        "stock",
        "tasks",
    )

    def __init__(self, worker_id: int, now: float, environment: Environment) -> None:
        self.id = worker_id
        self.environment = environment
        #: 0 until it has greeted.
        self.pid = 0
        #: "starting", "idle", "busy", "actor" or "stopping".
        self.state = "starting"
        #: What it was sent and has not reported on, in the order sent.
        self.tasks: deque[Task] = deque()
        #: The tasks among them that wait in `get` or `wait`.
        self.blocked: set[Task] = set()
        #: What it holds of the session's resources: its lease. None: nothing.
        self.shape: Shape | None = None
        #: What its lease is drawn from.
        self.stock: Stock | None = None
        #: Whether the CPUs of its lease are lent out since it is blocked.
        self.cpus_lent = False
        #: Indices of the GPUs of its lease.
        self.gpus: tuple[int, ...] = ()
        #: The actor that it has become.
        self.actor: Actor | None = None
        #: Number of runs sent to it.
        self.runs = 0
        #: Functions that were sent to it.
        self.functions: set[Function] = set()
        #: Runs of functions with `max_calls`; None: there was none.
        self.calls: dict[Function, int] | None = None
        #: Expected microseconds of all that it was sent; unknown durations count as a full load.
        self.load = 0.0
        #: When its last report came, or the start of its lease.
        self.reported = now
        #: When its lease began.
        self.leased_at = now
        #: Recalls since its last report: 0 none, 1 half of what was sent ahead, 2 all.
        self.recall = 0
        self.idle_since = now
        #: When its last run ended, for the timeline.
        self.last_end = now
        #: When it was asked for, then when it greeted.
        self.started_at = now


class Actor:
    """An actor, from its creation until it is dead and no handle is left."""

    __slots__ = (
        "calls",
        "cause",
        "creation",
        "deaths",
        "held",
        "id",
        "lanes",
        "max_running",
        "outbox",
        "shape",
        "spec",
        "state",
        "worker",
    )

    def __init__(self, spec: ActorSpec, creation: Task, shape: Shape, held: Shape) -> None:
        #: Also the id of its creation's task and object.
        self.id = creation.spec.task_id
        self.spec = spec
        self.state: str = WAITING
        #: The task that makes it, anew for each restart.
        self.creation = creation
        #: What its worker needs: for each resource the larger of creation's and life's.
        self.shape = shape
        #: What it holds while it lives.
        self.held = held
        self.worker: Worker | None = None
        #: Restarts that were used.
        self.deaths = 0
        #: Calls that run at a time, at most.
        self.max_running = max(1, spec.max_concurrency) + sum(size for _, size in spec.groups)
        #: All calls that have not ended, by task id.
        self.calls: dict[int, Task] = {}
        #: When calls run one at a time: by caller, the calls behind one that waits for objects, itself included.
        self.lanes: dict[int, deque[Task]] = {}
        #: Calls to be sent, in order. One that was cancelled meanwhile is still here and is skipped.
        self.outbox: deque[Task] = deque()
        #: Why it is dead: the value of each later call.
        self.cause: Failure | None = None


class Ledger:
    """All state of a session. What a change means for other records is left in `woken`, `touched` and `orphans`."""

    __slots__ = (
        "actors",
        "clients",
        "counts",
        "environments",
        "free",
        "functions",
        "groups",
        "home",
        "labels",
        "leased",
        "lost_segments",
        "next_client",
        "now",
        "objects",
        "orphans",
        "out",
        "owner",
        "past",
        "plain_shapes",
        "rota",
        "shapes",
        "stock",
        "storage",
        "streams",
        "tasks",
        "total",
        "touched",
        "unheard",
        "waiting_groups",
        "woken",
        "workers",
    )

    def __init__(self, total: Mapping[str, int], gpus: int, now: float, labels: Mapping[str, str]) -> None:
        self.now = now
        #: Commands of the present `handle`.
        self.out: list[Command] = []
        #: Tasks that have not ended.
        self.tasks: dict[int, Task] = {}
        #: Objects that have holders.
        self.objects: dict[int, Object] = {}
        self.actors: dict[int, Actor] = {}
        self.workers: dict[int, Worker] = {}
        #: The session's own processes.
        self.home = Environment("", now, OPEN)
        #: The others, by key.
        self.environments: dict[str, Environment] = {}
        #: Workers with a lease for tasks (not for an actor).
        self.leased: dict[int, Worker] = {}
        self.clients: dict[int, Client] = {DRIVER: Client(DRIVER)}
        #: The driver that the session belongs to; NOBODY while there is none.
        self.owner = DRIVER
        #: The next client or worker id.
        self.next_client = DRIVER + 1
        self.functions: dict[bytes, Function] = {}
        self.shapes: dict[ShapeKey, Shape] = {}
        #: The same for tasks that can run anywhere, by `TaskSpec.resources` as it came.
        self.plain_shapes: dict[Resources, Shape] = {}
        #: Shapes that have ready tasks and can be met.
        self.rota: deque[Shape] = deque()
        #: What the session has, without what placement groups have reserved.
        self.stock = Stock(total, dict.fromkeys(range(gpus), RESOURCE_UNIT))
        #: Its amounts: all of them, and what is free.
        self.total = self.stock.total
        self.free = self.stock.free
        #: Labels of the machine.
        self.labels = dict(labels)
        #: Placement groups that were not removed, oldest first.
        self.groups: dict[int, Group] = {}
        #: Those of them that wait to be reserved, and can be.
        self.waiting_groups: dict[int, Group] = {}
        #: Tasks that ended, by state.
        self.counts: dict[str, int] = {}
        #: Where stored values lie.
        self.storage = Storage()
        #: Tasks whose last dependency was sealed, or one of whose dependencies failed.
        self.woken: list[Task] = []
        #: Actors one of whose calls has ended or become ready.
        self.touched: dict[int, Actor] = {}
        #: Actors that nobody holds.
        self.orphans: list[Actor] = []
        #: Segments to be dropped at the end of the present `handle`, by creator.
        self.lost_segments: dict[int, list[str]] = {}
        #: Failures of tasks without any ref, by driver and cell.
        self.unheard: dict[tuple[int, int], int] = {}
        self.streams = Streams()
        #: What is over, for whoever asks.
        self.past = Past()
