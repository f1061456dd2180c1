"""The only door between what users call and the engine that runs the work.

protocol      what every engine can be asked for, and the parts that only some engines have
capabilities  what an engine can do, with the sentence that is shown where the engine cannot
records       what is asked and answered, free of any engine
placement     where a task may run
current       the backend of this process
registry      the engines by name or address, and how they are started
current_task  what code in a task can ask about itself
reporter      what a worker reports of its tasks
"""

from __future__ import annotations

from ipyremote.backend.capabilities import Capabilities, required
from ipyremote.backend.protocol import (
    ActorNames,
    Backend,
    CurrentTask,
    Environments,
    History,
    Insight,
    Listener,
    Origin,
    PlacementGroups,
    Recovery,
    Streams,
    Waiting,
    Work,
)
from ipyremote.backend.records import (
    DYNAMIC,
    ENDLESS,
    ONE_CPU,
    RESOURCE_UNIT,
    ActorOptions,
    BarState,
    ClusterStatus,
    Condition,
    DisplayReport,
    Exported,
    Identity,
    IdKind,
    KeptName,
    KeptNames,
    KeptSession,
    NamedHandle,
    NodeStatus,
    ProgressReport,
    RareOptions,
    Resources,
    Similar,
    StateReport,
    TableCounts,
    TableRows,
    TaskOptions,
    TaskRun,
    TextReport,
    WorkerStatus,
)

__all__ = [
    "DYNAMIC",
    "ENDLESS",
    "ONE_CPU",
    "RESOURCE_UNIT",
    "ActorNames",
    "ActorOptions",
    "Backend",
    "BarState",
    "Capabilities",
    "ClusterStatus",
    "Condition",
    "CurrentTask",
    "DisplayReport",
    "Environments",
    "Exported",
    "History",
    "IdKind",
    "Identity",
    "Insight",
    "KeptName",
    "KeptNames",
    "KeptSession",
    "Listener",
    "NamedHandle",
    "NodeStatus",
    "Origin",
    "PlacementGroups",
    "ProgressReport",
    "RareOptions",
    "Recovery",
    "Resources",
    "Similar",
    "StateReport",
    "Streams",
    "TableCounts",
    "TableRows",
    "TaskOptions",
    "TaskRun",
    "TextReport",
    "Waiting",
    "Work",
    "WorkerStatus",
    "required",
]
