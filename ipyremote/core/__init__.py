"""The decisions of a session as a pure state machine: `Core.handle(events, now) -> commands`.

It knows no clock, thread, file, socket, log or randomness; `scheduler/` owns those and performs the commands.

    events, commands   the vocabulary: all that goes in, all that comes out
    transitions, moves states of tasks, actors, objects and groups, and the legal moves between them
    state, story       the records (some in clients, functions, environment, storage, streams, past), and the ledger
                       that holds them all; what happened to a task
    stock, resources   what leases are drawn from; what is free and which GPU is whose
    queues             ready tasks by shape and client
    lifetimes          who holds which object; sealing, forwarding, dropping, freeing
    spilling           where stored values lie, and which are moved to disk when there is no room
    dispatch           how a task gets onto a worker and off it again
    setups             when environments are set up and given up
    pool               how many workers there are: starting, spares, failures, stopping
    tasks              a task from submission to its end
    actors             their creation, calls, restarts and end
    runs, losses       what workers report; what the loss of a worker or a client does
    cancel             cancellation, of children too
    groups, bundles    placement groups; how they are reserved and given back
    keeping            what outlives its driver
    names, audience    the names of actors; who sees what a task shows
    placement          which task goes to which worker: fairness, aging, prefetch, recall
    past, timeline     what is remembered of what is over
    explain, audit     why a task waits, and the snapshot; whether all is consistent
    listing            what there is, as lists and counts; attempts and rows are what they are made of
    core               the front door
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
