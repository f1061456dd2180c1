"""The decisions of a session as a pure state machine: `Core.handle(events, now) -> commands`.

It knows no clock, thread, file, socket, log or randomness; `scheduler/` owns those and performs the commands.

    events, commands      the vocabulary: all that goes in, all that comes out
    transitions           the states of tasks, actors, objects, workers, groups, environments, and the legal moves
    state                 the records, and the ledger that holds them all; `task_log`: the story of a task
    core                  the front door

    tasks, actors         a task from submission to its end; an actor's creation, calls, restarts and end
    lifetimes             who holds which object; sealing, forwarding, dropping, freeing
    streams               tasks that yield
    queues, placement     ready tasks by shape and client; which task goes to which worker, and when
    dispatch, resources   how a task gets onto a worker and off it; what is free and which GPU is whose
    worker_pool           how many workers there are: starting, spares, failures, stopping
    environments          when environments are set up and given up
    placement_groups, group_reservation    who creates and removes groups; how groups are reserved and given back

    reports, worker_loss  what workers report; what the loss of a worker or a driver does
    cancel, spilling      cancellation with all children; what is moved to disk when memory has no room
    detached, actor_names what outlives its driver; who is found by which name
    output_routing, unretrieved            who sees what a task shows; failures that nobody can retrieve

    explain, audit        why a task waits; whether all records are consistent
    state_query, columns, attempts, timeline    lists and counts, and what they are made of
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
