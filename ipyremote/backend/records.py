"""The records that cross the door between the API and an engine. All are frozen, and none knows an engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from ipyremote.backend.placement import Place
from ipyremote.runtime_env import RuntimeEnv

__all__ = ["DYNAMIC", "ENDLESS", "ActorOptions", "Exported", "NamedHandle", "TaskOptions"]

#: Values of `TaskOptions.stream`: nothing holds up what it yields; all that it yields are refs in its one value.
ENDLESS: Final = -1
DYNAMIC: Final = -2
#: One CPU, in the form of `TaskOptions.resources`.
ONE_CPU: tuple[tuple[str, int], ...] = (("CPU", 10_000),)


@dataclass(frozen=True, slots=True)
class Exported:
    """A function or class that a backend has taken."""

    #: What was exported; the inline backend calls it.
    target: Callable[..., Any]
    #: Bare name, the first part of labels.
    name: str
    #: 16 bytes that identify its pickle; empty where a backend pickles nothing.
    digest: bytes


@dataclass(frozen=True, slots=True)
class TaskOptions:
    """Checked options of one call. Defaults are a plain task's."""

    #: Overrides the name in the label.
    name: str | None = None
    #: Number of return objects, 0 or more.
    returns: int = 1
    #: (name, ten-thousandths) pairs, sorted by name, without zero amounts.
    resources: tuple[tuple[str, int], ...] = ONE_CPU
    max_retries: int = 3
    #: False: no exception is retried; True: each `Exception` is; or these types.
    retry_exceptions: bool | tuple[type[BaseException], ...] = False
    #: Whether the refs it returns are deferred (the result of an operator on refs).
    deferred: bool = False
    #: Concurrency group of a method; empty for the default one.
    group: str = ""
    #: What it yields: 0 nothing; n objects, at most so many of which were not consumed yet; or ENDLESS or DYNAMIC.
    stream: int = 0
    #: Where it may run, for an actor's creation where that may live. None: nothing was said.
    place: Place | None = None
    #: Its process leaves after so many runs of its function; 0: it stays.
    max_calls: int = 0
    #: None: that of the code that submits it.
    runtime_env: RuntimeEnv | None = None


@dataclass(frozen=True, slots=True)
class ActorOptions:
    """Checked options of one actor, beyond the `TaskOptions` of its creation."""

    class_name: str
    #: Held while it lives (the creation's own are in its `TaskOptions`).
    resources: tuple[tuple[str, int], ...] = ()
    max_restarts: int = 0
    max_task_retries: int = 0
    max_concurrency: int = 1
    #: Calls of one handle that have not ended, at most; 0: any number.
    max_pending_calls: int = 0
    #: Whether a call that waits for objects lets later ones of its caller pass.
    unordered: bool = False
    #: (name, calls at a time) of the concurrency groups beside the default one.
    groups: tuple[tuple[str, int], ...] = ()
    #: Empty: it has none.
    name: str = ""
    #: Empty: that of its driver.
    namespace: str = ""
    detached: bool = False
    get_if_exists: bool = False


@dataclass(frozen=True, slots=True)
class NamedHandle:
    """What a handle of a named actor is made from."""

    name: str
    namespace: str
    actor_id: int
    label: str
    #: The `ActorRecord` that its creator gave.
    record: Any
