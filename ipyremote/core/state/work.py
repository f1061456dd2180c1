"""The records of tasks and of all that they run in: queues, workers, actors, placement groups, environments.

These records refer to each other in both directions (a task knows its worker, a worker its tasks), so they share one
file. They are data with a sentence for each field, and decide nothing. They are changed in `core/` only, and their
states only through the functions at the end, which refuse a move that the tables of `transitions` do not have.
"""

from __future__ import annotations

from collections import deque
from typing import Final, TypeAlias

from ipyremote.backend.placement import Place
from ipyremote.core.state.functions import Function
from ipyremote.core.state.stock import Stock
from ipyremote.core.task_log import Step, told
from ipyremote.core.transitions import (
    ACTOR_MOVES,
    CLOSED,
    ENVIRONMENT_MOVES,
    GROUP_MOVES,
    PENDING,
    STARTING,
    TASK_MOVES,
    WAITING,
    WORKER_MOVES,
    InvalidTransition,
)
from ipyremote.ids import ActorId, ClientId, TaskId
from ipyremote.messages import ActorSpec, CreateGroup, EnvironmentSpec, Failure, Resources, TaskSpec

__all__ = [
    "Actor",
    "Environment",
    "GroupState",
    "Shape",
    "ShapeKey",
    "Task",
    "Worker",
    "move_actor",
    "move_environment",
    "move_group",
    "move_task",
    "move_worker",
]

#: Steps of a task's story that are kept.
STORY_STEPS: Final = 64

#: What distinguishes a shape: needs, `exclusive`, `creates`, place, and key of the environment.
ShapeKey: TypeAlias = tuple[Resources, bool, bool, Place | None, str]


class Shape:
    """What some tasks need, and the ready ones among them: a queue for each client; the queues are served in turn."""

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
        *,
        environment: Environment,
        needs: Resources,
        exclusive: bool,
        gpu: int,
        missing: str,
        sources: tuple[Stock, ...],
        place: Place | None = None,
        group: GroupState | None = None,
        creates: bool = False,
    ) -> None:
        #: Resources that a task of this shape takes while it runs.
        self.needs = needs
        #: The environment whose workers can run the tasks.
        self.environment = environment
        #: Stocks from one of which each lease is drawn: the session's, or bundles of the group. Empty while the group
        #: is not reserved.
        self.sources = sources
        #: Where the tasks must be placed; None: anywhere.
        self.place = place
        #: The placement group in which the tasks are, if any.
        self.group = group
        #: Whether a task gets a worker of its own, with nothing queued behind the task: actor creations, tasks with
        #: GPUs, tasks with `max_calls`.
        self.exclusive = exclusive
        #: Whether the tasks are actor creations.
        self.creates = creates
        #: The GPU amount among `needs`, in ten-thousandths.
        self.gpu = gpu
        #: What even the whole idle session lacks for such a task, in words; empty when nothing is lacking.
        self.missing = missing
        #: Ready tasks by submitting client. A task that was cancelled meanwhile is still here, and is skipped.
        self.lanes: dict[ClientId, deque[Task]] = {}
        #: Clients that have a lane; the client to be served next is first.
        self.client_ring: deque[ClientId] = deque()
        #: Number of tasks in the lanes that are READY.
        self.ready = 0
        #: Number of the latest lease that this shape got; leases are counted over the session.
        self.served = 0
        #: Whether the shape is in `Ledger.rota`.
        self.listed = False
        #: Whether the driver was told that the shape cannot be met.
        self.noticed = False
        #: Time since which the shape has had ready tasks without fitting; None while it fits.
        self.starved_since: float | None = None


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

    def __init__(self, spec: TaskSpec, submitter: ClientId, state: str, now: float) -> None:
        self.spec = spec
        #: The client that submitted the task.
        self.submitter = submitter
        self.state = state
        #: Number of runs that were charged against the retries so far; every message about a run names it.
        self.attempt = 0
        #: Number of dependencies that have no value yet.
        self.missing = 0
        #: The queue of the task and what the task needs; None for a method call.
        self.shape: Shape | None = None
        #: The function that the task runs; None for a method call.
        self.function: Function | None = None
        #: The actor of a method call or of a creation.
        self.actor: Actor | None = None
        #: The worker that the task was sent to, while the task is there.
        self.worker: Worker | None = None
        #: Number of the run on that worker.
        self.run = 0
        #: Microseconds that the task counts for in `Worker.load`.
        self.estimate = 0.0
        #: Time of submission.
        self.submitted = now
        #: Time at which the present run started, as far as the core can tell; 0 before that.
        self.started = 0.0
        #: Number of workers that were lost while they ran the task.
        self.crashes = 0
        #: The failure of a dependency, which ends the task.
        self.failure: Failure | None = None
        #: The task that submitted this one. When that task ends, its own parent takes its place.
        self.parent: Task | None = None
        #: Tasks whose `parent` is this one.
        self.children: set[Task] | None = None
        #: Whether any return object has watchers.
        self.watched = False
        #: Unusual events in the life of the task, oldest first, at most `STORY_STEPS`.
        self.story: deque[Step] | None = None

    def note(self, now: float, text: str) -> None:
        """Add a step to the task's story."""
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

    def __init__(self, worker_id: ClientId, now: float, environment: Environment) -> None:
        self.id = worker_id
        self.environment = environment
        #: Process id; 0 until the worker has greeted.
        self.pid = 0
        self.state: str = STARTING
        #: Tasks that were sent to the worker and not reported on, in the order sent.
        self.tasks: deque[Task] = deque()
        #: The tasks among them that wait in `get` or `wait`.
        self.blocked: set[Task] = set()
        #: The shape whose resources the worker holds: its lease. None while the worker holds nothing.
        self.shape: Shape | None = None
        #: The stock that the lease is drawn from.
        self.stock: Stock | None = None
        #: Whether the CPUs of the lease are lent to others, because a task of the worker is blocked.
        self.cpus_lent = False
        #: Device indices of the GPUs of the lease.
        self.gpus: tuple[int, ...] = ()
        #: The actor that the worker has become.
        self.actor: Actor | None = None
        #: Number of runs sent to the worker.
        self.runs = 0
        #: Functions whose definitions were sent to the worker.
        self.functions: set[Function] = set()
        #: Number of runs of each function with `max_calls`; None while there was none.
        self.calls: dict[Function, int] | None = None
        #: Expected microseconds of all tasks on the worker. A task of unknown duration counts as a full load.
        self.load = 0.0
        #: Time of the latest report, or of the start of the lease.
        self.reported = now
        #: Time at which the lease began.
        self.leased_at = now
        #: Recalls since the latest report: 0 none, 1 half of the tasks sent ahead, 2 all of them.
        self.recall = 0
        #: Time since which the worker has been idle.
        self.idle_since = now
        #: Time at which the latest run ended, for the timeline.
        self.last_end = now
        #: Time at which the worker was asked for; once it has greeted, the time of its greeting.
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
        #: Id of the actor, and of the task and the object of its creation.
        self.id = creation.spec.task_id
        self.spec = spec
        self.state: str = WAITING
        #: The task that creates the actor; a new one for each restart.
        self.creation = creation
        #: What a worker must have to become the actor: of each resource the larger amount of `held` and the creation.
        self.shape = shape
        #: What the actor holds while it lives.
        self.held = held
        #: The worker that is the actor now, if any.
        self.worker: Worker | None = None
        #: Number of restarts that were used.
        self.deaths = 0
        #: Number of calls that run at a time, at most.
        self.max_running = max(1, spec.max_concurrency) + sum(size for _, size in spec.groups)
        #: All calls that have not ended, by task id.
        self.calls: dict[TaskId, Task] = {}
        #: Calls that must not overtake a call of their caller that waits for objects, that call first; by caller. Used
        #: only by an actor that runs one call at a time.
        self.lanes: dict[ClientId, deque[Task]] = {}
        #: Calls to be sent, in order. A call that was cancelled meanwhile is still here, and is skipped.
        self.outbox: deque[Task] = deque()
        #: The reason of a dead actor's end, which is the value of each later call.
        self.cause: Failure | None = None


class GroupState:
    """A placement group, from its creation until it is removed."""

    __slots__ = (
        "actor_id",
        "id",
        "namespace",
        "reserved_at",
        "shape",
        "shapes",
        "spec",
        "state",
        "stocks",
        "submitted",
    )

    def __init__(
        self, spec: CreateGroup, namespace: str, actor_id: ActorId, shape: Shape, now: float
    ) -> None:
        self.id = spec.group_id
        self.spec = spec
        self.state: str = PENDING
        #: The namespace in which the group's name is looked up.
        self.namespace = namespace
        #: The actor that created the group, with which the group ends; 0: it ends with the driver in `spec`.
        self.actor_id = actor_id
        #: The sum of all bundles as one shape, which waits its turn as shapes of tasks do.
        self.shape = shape
        #: Shapes of the tasks and actors that are placed in the group.
        self.shapes: list[Shape] = []
        #: Stocks of the bundles, in order; empty unless the group is reserved.
        self.stocks: tuple[Stock, ...] = ()
        #: Time of creation.
        self.submitted = now
        #: Time at which the group was reserved; 0 before that.
        self.reserved_at = 0.0

    @property
    def label(self) -> str:
        """Return the group's name for people."""
        return self.spec.label


class Environment:
    """An environment and its workers. The session's own processes are one, with an empty key, which is always open.

    An environment is open while a process (a zygote) runs that forks its workers.
    """

    __slots__ = (
        "definition",
        "eager",
        "failed_at",
        "failures",
        "floor",
        "idle",
        "key",
        "members",
        "pool_size",
        "put_off",
        "reason",
        "shapes",
        "since",
        "start_after",
        "starting",
        "state",
        "unneeded_since",
        "wanted",
    )

    def __init__(self, key: str, now: float, state: str = CLOSED) -> None:
        self.key = key
        #: What is set up; None until a client has described it.
        self.definition: EnvironmentSpec | None = None
        self.state = state
        #: Time of the latest change of state.
        self.since = now
        #: Whether the environment is to be opened before any task needs it.
        self.eager = False
        #: Shapes of the tasks in this environment.
        self.shapes: list[Shape] = []
        #: Workers that have nothing to do, by id; the worker that worked last is last.
        self.idle: dict[ClientId, Worker] = {}
        #: Number of all its workers.
        self.members = 0
        #: Number of workers that were asked for and have not greeted.
        self.starting = 0
        #: Number of workers that run tasks or will: all but actors and workers that stop.
        self.pool_size = 0
        #: Number of workers that are kept for tasks at least.
        self.floor = 0
        #: Number of further workers that could be put to work at once.
        self.wanted = 0
        #: Number of failed starts of workers in a row.
        self.failures = 0
        #: Text of the last failure of a start or of the set-up.
        self.reason = ""
        #: Time of the last failed start.
        self.failed_at = now
        #: Time before which no worker is started.
        self.start_after = now
        #: Whether a start had to be put off until `start_after`.
        self.put_off = False
        #: Time since which the environment has been open with nothing to do; None while it is used or not open.
        self.unneeded_since: float | None = None

    @property
    def is_needed(self) -> bool:
        """Return whether any task could run here if the environment were open."""
        return any(shape.ready for shape in self.shapes)

    @property
    def title(self) -> str:
        """Return the environment's description, in a few words."""
        return self.definition.title if self.definition is not None else "unknown"


def move_task(task: Task, state: str) -> None:
    """Change a task's state. Raises InvalidTransition."""
    if state not in TASK_MOVES[task.state]:
        text = f"task {task.spec.label} cannot go from {task.state} to {state}"
        raise InvalidTransition(text, task.spec.task_id, told(task.story))
    task.state = state


def move_actor(actor: Actor, state: str) -> None:
    """Change an actor's state. Raises InvalidTransition."""
    if state not in ACTOR_MOVES[actor.state]:
        text = f"actor {actor.spec.class_name} cannot go from {actor.state} to {state}"
        raise InvalidTransition(text, actor.id, told(actor.creation.story))
    actor.state = state


def move_worker(worker: Worker, state: str) -> None:
    """Change a worker's state. Raises InvalidTransition."""
    if state not in WORKER_MOVES[worker.state]:
        raise InvalidTransition(f"worker {worker.id} cannot go from {worker.state} to {state}")
    worker.state = state


def move_group(group: GroupState, state: str) -> None:
    """Change a placement group's state. Raises InvalidTransition."""
    if state not in GROUP_MOVES[group.state]:
        raise InvalidTransition(f"{group.label} cannot go from {group.state} to {state}")
    group.state = state


def move_environment(environment: Environment, state: str, now: float) -> None:
    """Change an environment's state. Raises InvalidTransition."""
    if state not in ENVIRONMENT_MOVES[environment.state]:
        raise InvalidTransition(
            f"environment {environment.title} cannot go from {environment.state} to {state}"
        )
    environment.state = state
    environment.since = now
    environment.unneeded_since = None
