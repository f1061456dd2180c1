"""The decisions of a session as a pure state machine: `Core.handle(events, now) -> commands`.

The core has no clock, thread, file, socket, log or randomness; `scheduler/` owns those and performs the commands.

    events, commands      the vocabulary: all that goes in, all that comes out
    transitions           the states of tasks, actors, objects, workers, groups, environments, and the legal moves
    state                 the records, and the ledger that holds them all; `task_log`: the story of a task
    core                  the front door

    tasks, actors         a task from submission to its end; an actor's creation, calls, restarts and end
    lifetimes             the holders of objects; sealing, forwarding, dropping, freeing
    streams               items of tasks that yield
    queues, placement     ready tasks by shape and client; the choice of a worker and a moment for each task
    dispatch, resources   the way of a task onto a worker and off it; free amounts, and the GPUs of each lease
    worker_pool           the number of workers: starting, spares, failures, stopping
    environments          the opening and closing of environments
    placement_groups, group_reservation    creation and removal of groups; reserving and giving back their resources

    reports, worker_loss  reports of workers; consequences of the loss of a worker or a driver
    cancel, spilling      cancellation with all children; moves of objects to disk when memory has no room
    detached, actor_names sessions that outlive their driver; names of actors, and namespaces
    output_routing, unretrieved            the audience of a task's output; failures that nobody can retrieve

    explain, audit        reasons why a task waits; the invariants of all records
    state_query, columns, attempts, timeline    lists and counts, and their rows and columns
"""

from ipyremote.core.commands import (
    CloseEnvironment,
    Command,
    DropSegment,
    Log,
    OpenEnvironment,
    Quit,
    Send,
    StartWorker,
    StopWorker,
)
from ipyremote.core.core import Core
from ipyremote.core.events import (
    ClientGone,
    ClientJoined,
    EnvironmentLost,
    EnvironmentOpened,
    Event,
    Received,
    Tick,
    WorkerExited,
    WorkerStarted,
)
from ipyremote.core.task_log import Step
from ipyremote.core.transitions import CoreError, InvalidTransition

__all__ = [
    "ClientGone",
    "ClientJoined",
    "CloseEnvironment",
    "Command",
    "Core",
    "CoreError",
    "DropSegment",
    "EnvironmentLost",
    "EnvironmentOpened",
    "Event",
    "InvalidTransition",
    "Log",
    "OpenEnvironment",
    "Quit",
    "Received",
    "Send",
    "StartWorker",
    "Step",
    "StopWorker",
    "Tick",
    "WorkerExited",
    "WorkerStarted",
]
