"""The only door between what users call and the engine that runs the work.

protocol    what every engine can be asked for
records     what is asked and answered, free of any engine
placement   where a task may run
current     the backend of this process
registry    how a backend is found and started
"""

from __future__ import annotations

from ipyremote.backend.protocol import ActorNames, Backend, Listener, PlacementGroups, Streams, Waiting, Work
from ipyremote.backend.records import (
    DYNAMIC,
    ENDLESS,
    ONE_CPU,
    ActorOptions,
    Exported,
    NamedHandle,
    TaskOptions,
)

__all__ = [
    "DYNAMIC",
    "ENDLESS",
    "ONE_CPU",
    "ActorNames",
    "ActorOptions",
    "Backend",
    "Exported",
    "Listener",
    "NamedHandle",
    "PlacementGroups",
    "Streams",
    "TaskOptions",
    "Waiting",
    "Work",
]
