"""Specifications of tasks, actors and environments, as clients submit them.

The arguments of a task are one pickle, in which slots stand for the refs at the top level:

    f.remote(1, ref, x=[other])

    args = pickle of ((1, Slot(0)), {"x": [other]})
    deps = (id of ref,)                  objects whose values the task waits for, and gets in the place of the slots
    refs = (id of other,)                objects that the task keeps alive, and gets as refs
"""

from __future__ import annotations

import msgspec

from ipyremote.backend.placement import Place
from ipyremote.backend.records import RESOURCE_UNIT, RareOptions, Resources
from ipyremote.ids import DRIVER, NOBODY, ActorId, ClientId, ObjectId, TaskId
from ipyremote.messages.values import Inline, Struct

__all__ = [
    "ActorSpec",
    "EnvironmentSpec",
    "Packages",
    "TaskSpec",
    "share_parts",
]


class TaskSpec(Struct, frozen=True):
    """A task, a method call or an actor's creation. The scheduler hands it to a worker unchanged, in `RunTask`."""

    #: Id of the task and of its first return object; return object i has the id `task_id + i`.
    task_id: TaskId
    #: Digest of the function, or of the class for a method call or a creation, as announced by `Define`.
    digest: bytes
    #: Name of the function or method, or the name given by `options(name=...)`.
    name: str
    #: Number that distinguishes tasks of one name and one submitter, such as "3"; task 3 counts "3.1", "3.2" ...
    number: str
    #: Pickle of `(args, kwargs)`, with `Slot(i)` in the place of the top-level ref `deps[i]`; empty when there are no
    #: arguments, or when `packed`.
    args: Inline
    #: Ids of objects whose values the task needs before it can start. The task holds these objects until it has ended.
    deps: tuple[ObjectId, ...] = ()
    #: Ids of objects and actors referred to inside `args`. The task holds these, too, until it has ended.
    refs: tuple[ObjectId, ...] = ()
    #: Whether the arguments are the value of the last of `deps` instead of `args`, because they are large.
    packed: bool = False
    #: Number of return objects; with 0 the result is thrown away.
    returns: int = 1
    #: Resources that the task takes while it runs. Ignored for a method call: the actor has resources of its own.
    resources: Resources = (("CPU", RESOURCE_UNIT),)
    #: Number of further attempts after a crash of the worker or an exception that is retried; -1 for any number.
    max_retries: int = 0
    #: Exceptions of user code that are retried: b"" for none, b"*" for any, else the pickle of a tuple of types.
    retry_on: bytes = b""
    #: Actor of a method call; 0 for other tasks.
    actor_id: ActorId = NOBODY
    #: Name of the method; empty for other tasks.
    method: str = ""
    #: The task that submitted this one; 0 for a driver's own code.
    parent: TaskId = NOBODY
    #: The driver that shows the task's output.
    driver: ClientId = DRIVER
    #: Token of that driver for the notebook cell that submitted the task.
    cell: int = 0
    #: Concurrency group of a method call; empty for the default group.
    group: str = ""
    #: Limit of a task that yields: the number of items that may wait to be consumed; ENDLESS, DYNAMIC, or 0 for none.
    stream: int = 0
    #: Where the task may run, or where the actor of a creation may live; None for anywhere.
    place: Place | None = None
    #: Options that most tasks do not have, as they were checked; None for such a task.
    rare: RareOptions | None = None
    #: Key of the environment of the task; empty for the session's own processes. Ignored for a method call.
    environment: str = ""

    @property
    def label(self) -> str:
        """Return `name#number`, for people."""
        return f"{self.name}#{self.number}"


def share_parts(spec: TaskSpec, resources: Resources, digest: bytes) -> None:
    """Replace two parts of a decoded spec, a quarter of its size, by equal objects that many specs share."""
    msgspec.structs.force_setattr(spec, "resources", resources)
    msgspec.structs.force_setattr(spec, "digest", digest)


class ActorSpec(Struct, frozen=True):
    """An actor, as far as the `TaskSpec` of its creation does not say. The `task_id` of that spec is the actor's id."""

    class_name: str
    #: Resources that the actor holds while it lives. The creation itself takes `TaskSpec.resources`.
    resources: Resources = ()
    #: Number of restarts after crashes of the worker; -1 for any number.
    max_restarts: int = 0
    #: Retries of a method call that says nothing else. Clients put this number into `TaskSpec.max_retries`.
    max_task_retries: int = 0
    #: Number of calls that run at a time (with `groups`: of the default group). With 1 calls run in order.
    max_concurrency: int = 1
    #: Whether a call that waits for objects lets later calls of its caller pass.
    unordered: bool = False
    #: Pairs of (name, calls at a time): the concurrency groups beside the default group.
    groups: tuple[tuple[str, int], ...] = ()
    #: Name by which `get_actor` finds the actor; empty for most actors.
    name: str = ""
    #: Namespace of the name; empty for the namespace of the actor's driver.
    namespace: str = ""
    #: Whether the actor lives on without handles and without its owner.
    detached: bool = False
    #: Pickle of an `actor.ActorRecord`, from which handles of an actor with a name are made.
    record: bytes = b""
    #: Number of calls of one handle that may be pending; 0 for any number.
    max_pending_calls: int = 0


class Packages(Struct, frozen=True):
    """The packages to install for an environment."""

    #: "pip" or "uv"
    installer: str
    #: Requirements, as the lines of a requirements file.
    requirements: tuple[str, ...]
    #: Further arguments for the installer.
    options: tuple[str, ...] = ()
    #: Whether to run `pip check` afterwards.
    check: bool = False
    #: Version of the installer, such as "==24.0"; empty for any.
    version: str = ""
    #: Digests that change when files named in the requirements change.
    fingerprints: tuple[str, ...] = ()


class EnvironmentSpec(Struct, frozen=True):
    """A `RuntimeEnv` as it is set up on this machine. Paths are bytes, since a path may contain any."""

    #: Hex digits that are equal for equal environments; empty for the session's own processes.
    key: str = ""
    #: Description in a few words.
    title: str = ""
    #: The whole `RuntimeEnv` as JSON, with that of the submitting task merged in.
    text: str = "{}"
    #: Environment variables; `${NAME}` in a value stands for the former value of NAME.
    variables: tuple[tuple[str, str], ...] = ()
    #: Working directory; empty for the driver's.
    directory: bytes = b""
    #: Directories at the front of the search path for modules.
    modules: tuple[bytes, ...] = ()
    packages: Packages | None = None
    #: Pickle of a function that each worker calls first; empty for none.
    hook: bytes = b""
    #: Time limit of the set-up in seconds; below 0 for none.
    seconds: float = 600.0
