"""The records of the core: data with a sentence for each field, and no decisions.

work        tasks, queues, workers, actors, placement groups, environments, and the changes of their states
objects     objects and their holders
clients     drivers and workers as peers
functions   exported functions
stock       amounts that leases are drawn from
storage     where stored values lie
streams     how far streams have come
history     what is over: attempts of tasks, dead actors, workers that are gone
ledger      all of these together
"""

from __future__ import annotations

from ipyremote.core.state.clients import Client
from ipyremote.core.state.functions import Function
from ipyremote.core.state.history import ActorFacts, Attempt, Past
from ipyremote.core.state.ledger import Ledger
from ipyremote.core.state.objects import DETACHED, FIRST_ID, SAVED, SESSION, Object, move_object
from ipyremote.core.state.stock import Stock
from ipyremote.core.state.storage import Move, Storage
from ipyremote.core.state.streams import StreamState, StreamTable
from ipyremote.core.state.work import (
    Actor,
    Environment,
    GroupState,
    Shape,
    ShapeKey,
    Task,
    Worker,
    move_actor,
    move_environment,
    move_group,
    move_task,
    move_worker,
)

__all__ = [
    "DETACHED",
    "FIRST_ID",
    "SAVED",
    "SESSION",
    "Actor",
    "ActorFacts",
    "Attempt",
    "Client",
    "Environment",
    "Function",
    "GroupState",
    "Ledger",
    "Move",
    "Object",
    "Past",
    "Shape",
    "ShapeKey",
    "Stock",
    "Storage",
    "StreamState",
    "StreamTable",
    "Task",
    "Worker",
    "move_actor",
    "move_environment",
    "move_group",
    "move_object",
    "move_task",
    "move_worker",
]
