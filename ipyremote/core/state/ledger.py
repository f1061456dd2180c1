"""The ledger: all records of a session. What a change means for other records is left in `woken`, `touched`, `orphans`.

It decides nothing. Times are the `now` of `Core.handle`, in seconds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from ipyremote.core.commands import Command
from ipyremote.core.state.clients import Client
from ipyremote.core.state.functions import Function
from ipyremote.core.state.history import Past
from ipyremote.core.state.objects import Object
from ipyremote.core.state.stock import Stock
from ipyremote.core.state.storage import Storage
from ipyremote.core.state.streams import StreamTable
from ipyremote.core.state.work import Actor, Environment, GroupState, Shape, ShapeKey, Task, Worker
from ipyremote.core.transitions import OPEN
from ipyremote.ids import DRIVER, ActorId, ClientId, GroupId, ObjectId, TaskId
from ipyremote.messages import RESOURCE_UNIT, Resources

__all__ = ["Ledger"]


class Ledger:
    """All state of a session."""

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
        "unretrieved",
        "waiting_groups",
        "woken",
        "workers",
    )

    def __init__(self, total: Mapping[str, int], gpus: int, now: float, labels: Mapping[str, str]) -> None:
        #: Time of the present `handle`.
        self.now = now
        #: Commands of the present `handle`.
        self.out: list[Command] = []
        #: Tasks that have not ended, by id.
        self.tasks: dict[TaskId, Task] = {}
        #: Objects that have holders, by id.
        self.objects: dict[ObjectId, Object] = {}
        #: Actors, the dead ones included as long as they have holders, by id.
        self.actors: dict[ActorId, Actor] = {}
        #: Worker processes, by worker id.
        self.workers: dict[ClientId, Worker] = {}
        #: The environment of the session's own processes.
        self.home = Environment("", now, OPEN)
        #: All other environments, by key.
        self.environments: dict[str, Environment] = {}
        #: Workers with a lease for tasks (not for an actor), by worker id.
        self.leased: dict[ClientId, Worker] = {}
        #: Drivers and workers that are connected, by client id.
        self.clients: dict[ClientId, Client] = {DRIVER: Client(DRIVER)}
        #: The driver that the session belongs to; NO_CLIENT while there is none.
        self.owner = DRIVER
        #: The next client or worker id.
        self.next_client = ClientId(DRIVER + 1)
        #: Exported functions and classes, by digest.
        self.functions: dict[bytes, Function] = {}
        #: All shapes, by what distinguishes them.
        self.shapes: dict[ShapeKey, Shape] = {}
        #: Shapes of tasks that can run anywhere, by `TaskSpec.resources` exactly as the client sent them.
        self.plain_shapes: dict[Resources, Shape] = {}
        #: Shapes that have ready tasks and can be met; the shape to be looked at next is first.
        self.rota: deque[Shape] = deque()
        #: Resources of the session, without the bundles of reserved placement groups.
        self.stock = Stock(total, dict.fromkeys(range(gpus), RESOURCE_UNIT))
        #: All amounts of that stock, by resource.
        self.total = self.stock.total
        #: The free amounts of that stock, by resource.
        self.free = self.stock.free
        #: Labels of the machine, by key.
        self.labels = dict(labels)
        #: Placement groups that were not removed, by id, oldest first.
        self.groups: dict[GroupId, GroupState] = {}
        #: Placement groups that wait to be reserved and can be, by id, oldest first.
        self.waiting_groups: dict[GroupId, GroupState] = {}
        #: Number of tasks that ended, by state.
        self.counts: dict[str, int] = {}
        #: Where the segments of stored values lie.
        self.storage = Storage()
        #: Tasks whose last dependency got its value, or one of whose dependencies failed.
        self.woken: list[Task] = []
        #: Actors one of whose calls has ended or become ready, by id.
        self.touched: dict[ActorId, Actor] = {}
        #: Actors that nobody holds.
        self.orphans: list[Actor] = []
        #: Segments to be dropped at the end of the present `handle`, by creator.
        self.lost_segments: dict[ClientId, list[str]] = {}
        #: Number of failures that nobody can retrieve, by driver and cell.
        self.unretrieved: dict[tuple[int, int], int] = {}
        #: Streams of tasks that yield.
        self.streams = StreamTable()
        #: Tasks, actors and workers that are over, for lists.
        self.past = Past()
