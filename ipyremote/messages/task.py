"""What a client asks to be run: a task, an actor, and the environment that they run in.

The arguments of a task are one pickle, in which refs at the top level were replaced by slots:

    f.remote(1, ref, x=[other])

    args = pickle of ((1, Slot(0)), {"x": [other]})
    deps = (id of ref,)                  the task starts when these have values
    refs = (id of other,)                the task keeps these alive, and gets them as refs
"""

from __future__ import annotations

import msgspec

from ipyremote.backend.placement import Place
from ipyremote.messages.values import RESOURCE_UNIT, Inline, Resources, Struct

__all__ = [
    "ActorSpec",
    "EnvironmentSpec",
    "Packages",
    "TaskSpec",
    "share_parts",
]


class TaskSpec(Struct, frozen=True):
    """What a client asks to be run; the scheduler hands it on to a worker unchanged, inside `RunTask`."""

    #: Also the id of the first return; return i has the id `task_id + i`.
    task_id: int
    #: Digest of the function (of the class for a method call or an actor creation), as announced by `Define`.
    digest: bytes
    #: The name of the function or method, or the one given by `options(name=...)`.
    name: str
    #: Distinguishes the submitter's tasks of one name, such as "3"; "3.1" is the first one that task 3 submitted.
    number: str
    #: The pickle of `(args, kwargs)` with `serialize.Slot(i)` in the place of top-level ref `deps[i]`; empty data
    #: means no arguments at all. When `packed`, the arguments are instead the value of the last of `deps`.
    args: Inline
    #: Objects whose values the task needs before it can start. The task holds them until it has ended.
    deps: tuple[int, ...] = ()
    #: Objects and actors referred to inside `args`. The task holds them until it has ended.
    refs: tuple[int, ...] = ()
    packed: bool = False
    #: Number of return objects. 0: the result is thrown away, and nothing is ever reported for it.
    returns: int = 1
    #: Needed while it runs. Ignored for a method call (the actor has its own).
    resources: Resources = (("CPU", RESOURCE_UNIT),)
    #: Further attempts after a crash of the worker (or a retried exception); -1 means without end.
    max_retries: int = 0
    #: Which exceptions of user code are retried: b"" none, b"*" any Exception, else the pickle of a tuple of types.
    retry_on: bytes = b""
    #: For a method call: which actor, and which of its methods.
    actor_id: int = 0
    method: str = ""
    #: The task that submitted this one (0: a driver's own code).
    parent: int = 0
    #: The driver that gets its output, and that driver's token for the notebook cell that asked.
    driver: int = 1
    cell: int = 0
    #: For a method call: its concurrency group; empty for the default one.
    group: str = ""
    #: What it yields: 0 nothing; n objects, at most so many of which were not consumed yet; or ENDLESS or DYNAMIC.
    stream: int = 0
    #: Where it may run, for an actor's creation where the actor may live; None: anywhere.
    place: Place | None = None
    #: Its worker leaves after so many runs of its function; 0: it stays.
    max_calls: int = 0
    #: Key of the environment that it runs in; empty for the session's own processes. Ignored for a method call.
    environment: str = ""

    @property
    def label(self) -> str:
        """Return `name#number`, for people."""
        return f"{self.name}#{self.number}"


def share_parts(spec: TaskSpec, resources: Resources, digest: bytes) -> None:
    """Let a decoded spec have these, which equal its own, in common with others. They are a quarter of its size."""
    msgspec.structs.force_setattr(spec, "resources", resources)
    msgspec.structs.force_setattr(spec, "digest", digest)


class ActorSpec(Struct, frozen=True):
    """What an actor needs beyond the `TaskSpec` of its creation (whose `task_id` is the actor's id)."""

    class_name: str
    #: Held while the actor lives. The creation itself needs `TaskSpec.resources`.
    resources: Resources = ()
    max_restarts: int = 0
    #: Default of `TaskSpec.max_retries` of its method calls; clients fill it in, it is here for `status`.
    max_task_retries: int = 0
    #: 1: calls run one at a time in order. With `groups`: those of the default group.
    max_concurrency: int = 1
    #: Whether a call that waits for objects lets later ones of its caller pass.
    unordered: bool = False
    #: (name, calls at a time) of its concurrency groups beside the default one.
    groups: tuple[tuple[str, int], ...] = ()
    #: What it can be found by; empty for most. An empty namespace is that of its driver.
    name: str = ""
    namespace: str = ""
    #: Whether it lives on without handles and without its owner.
    detached: bool = False
    #: Of one with a name: what handles are made from, the pickle of an `actor.ActorRecord`.
    record: bytes = b""
    #: Number of calls of one handle that may be pending; 0 for any number.
    max_pending_calls: int = 0


class Packages(Struct, frozen=True):
    """What to install for an environment."""

    #: "pip" or "uv"
    installer: str
    #: Lines of a file of requirements.
    requirements: tuple[str, ...]
    #: Further arguments of the installer.
    options: tuple[str, ...] = ()
    #: Whether to ask the installer afterwards if everything fits together.
    check: bool = False
    #: Of the installer, as in "==24.0"; empty: any.
    version: str = ""
    #: Something that changes with the files that the requirements name.
    fingerprints: tuple[str, ...] = ()


class EnvironmentSpec(Struct, frozen=True):
    """What a `RuntimeEnv` comes to on this machine. Paths are not text: they may have any bytes."""

    #: Hex digits, the same for the same environment; empty for the session's own.
    key: str = ""
    #: What it is, in a few words.
    title: str = ""
    #: The whole `RuntimeEnv`, merged with that of its parents, as JSON.
    text: str = "{}"
    #: Environment variables; `${NAME}` stands for what NAME was before.
    variables: tuple[tuple[str, str], ...] = ()
    #: The working directory; empty: the driver's.
    directory: bytes = b""
    #: Where to look for modules before anywhere else.
    modules: tuple[bytes, ...] = ()
    packages: Packages | None = None
    #: The pickle of a function that each worker calls first; empty: of none.
    hook: bytes = b""
    #: For how long the set-up may take; below 0: any time.
    seconds: float = 600.0
