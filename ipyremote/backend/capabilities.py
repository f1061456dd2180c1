"""What an engine can do, and the sentence that a user is shown where the engine cannot."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TypeVar

__all__ = ["Capabilities", "required"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What one engine can do. A feature's field is empty where the engine can, else the sentence that says why not."""

    #: Name of the engine, as `init(backend=...)` takes it.
    engine: str
    #: Tasks run beside each other and beside the program that submits them.
    parallel_tasks: str = ""
    #: Tasks run in processes of their own, which can crash, leave and be killed without the program.
    worker_processes: str = ""
    #: A task that runs is cancelled before its end.
    cancellation: str = ""
    #: Tasks yield refs while they run.
    streams: str = ""
    #: Actors are found by name.
    named_actors: str = ""
    #: Bundles of resources are reserved together.
    placement_groups: str = ""
    #: Tasks run in environments of their own (`runtime_env`).
    runtime_env: str = ""
    #: A task's process is replaced after so many runs (`max_calls`).
    max_calls: str = ""
    #: A session outlives the program that started it, which recovers it later (`keep_alive`).
    keep_alive: str = ""
    #: Values are dropped by hand although there are refs to them (`free`).
    free: str = ""
    #: Tasks, actors, objects and workers are listed, and runs are timed.
    insight: str = ""
    #: Failures that nobody has asked for are known, and failed tasks can be run again.
    history: str = ""
    #: What tasks print and display is reported to the listener.
    output: str = ""

    def lacks(self, feature: str) -> str:
        """Return the sentence for a feature that the engine does not have; empty where the engine has the feature.

        Raises ValueError for a word that is no feature.
        """
        if feature not in FEATURES:
            raise ValueError(f"there is no feature {feature!r}; there are: {', '.join(sorted(FEATURES))}")
        sentence: str = getattr(self, feature)
        return sentence


#: Names of the fields of `Capabilities` that are features.
FEATURES = frozenset(field.name for field in fields(Capabilities)) - {"engine"}


def required(part: T | None, sentence: str) -> T:
    """Return an optional part of a backend. Raises NotImplementedError with the sentence where there is none."""
    if part is None:
        raise NotImplementedError(sentence)
    return part
