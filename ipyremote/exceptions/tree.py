"""The tree of exceptions, sorted by who must act.

    you called it wrong         ValueError, TypeError, and classes of the tree that inherit from ValueError or TypeError
    your code raised            TaskError (also an instance of the class of the exception that your code raised)
    you asked for it            TaskCancelledError, GetTimeoutError
    a process or machine failed WorkerCrashedError, ActorError, ObjectLostError, OutOfMemoryError, ...
    the session is gone or ill  IPyRemoteSystemError, ClusterLostError

The names are the names of Ray 2.60 without the word Ray; Ray's own names are aliases at the end of this module. Classes
that only a cluster of machines would raise exist so that `except` clauses written for Ray work.

Rules. Every exception of the tree can be pickled. Tracebacks that IPython shows leave out the frames of ipyremote. Of
ipyremote, this module imports only `tracebacks` and `revival`, which import nothing of ipyremote.
"""

from __future__ import annotations

import contextlib
import sys
import traceback
import types
import warnings
import weakref
from collections.abc import Mapping
from typing import Any, Final

from ipyremote.exceptions import tracebacks
from ipyremote.exceptions.revival import native_class, portable, revived
from ipyremote.exceptions.tracebacks import Frame


class IPyRemoteError(Exception):
    """Base class of all errors that ipyremote itself raises: catch this class to catch any of them.

    Examples
    --------
    >>> import time
    >>> try:
    ...     ray.get(ray.remote(time.sleep).remote(600), timeout=0)
    ... except ray.exceptions.IPyRemoteError as error:
    ...     print(type(error).__name__)
    GetTimeoutError
    """

    def _render_traceback_(self) -> list[str]:
        """Return the lines that IPython shows: the user's own frames, then the error."""
        kind = type(self).__name__
        return [*self._local_part(kind), "", *"".join(traceback.format_exception_only(self)).splitlines()]

    def _local_part(self, kind: str) -> list[str]:
        """Return the header and the frames of this process, after the text of the error's cause or context."""
        before = self.__cause__ or (None if self.__suppress_context__ else self.__context__)
        chain = []
        if before is not None:
            text, _ = tracebacks.describe(before)
            link = (
                "The error above caused this error:"
                if before is self.__cause__
                else "This error was raised while the error above was handled:"
            )
            chain = [*text.splitlines(), "", link, ""]
        title = f"{kind:<42}Traceback (most recent call last)"
        return [*chain, "-" * 75, title, *tracebacks.local_lines(self.__traceback__)]


# ------------------------------------------------------------------------------------------------- your code raised


class TaskError(IPyRemoteError):
    """Raised by `get` when a task, or a method of an actor, raised an exception: fix the code in the traceback.

    The error is also an instance of the cause's own class (`as_instanceof_cause`), so `except ValueError` works as it
    does for a local call. Attributes of the cause are found on the error as well. `str()` is the cause's own message,
    followed by the traceback in the task. As Ray's RayTaskError.

    Attributes
    ----------
    label : str
        `name#number` of the task.
    cause : BaseException or None
        The exception itself; None when it could not be pickled.
    traceback_text : str
        The traceback in the task with all its causes.
    pid : int
        Process in which the task ran.
    frames : tuple of Frame
        The user's frames, outermost first.

    Examples
    --------
    >>> @ray.remote
    ... def invert(x):
    ...     return 1 / x
    >>> try:
    ...     ray.get(invert.remote(0))
    ... except ZeroDivisionError as error:
    ...     print(isinstance(error, ray.exceptions.TaskError), error.label, repr(error.cause))
    True invert#1 ZeroDivisionError('division by zero')
    """

    label: str
    cause: BaseException | None
    traceback_text: str
    # The process id is never part of a text, because the text would differ from run to run.
    pid: int
    frames: tuple[Frame, ...]

    def __init__(
        self,
        label: str = "",
        cause: BaseException | None = None,
        traceback_text: str = "",
        pid: int = 0,
        frames: tuple[Frame, ...] = (),
    ) -> None:
        # Not super().__init__: in a combined class the next class is the cause's, whose arguments are different.
        self.args = (cause,) if cause is not None else (traceback_text,)
        self.label = label
        self.cause = cause
        self.traceback_text = traceback_text
        self.pid = pid
        self.frames = frames

    @classmethod
    def capture(
        cls,
        error: BaseException,
        label: str,
        pid: int,
        *,
        hide: str = tracebacks.PACKAGE,
        display_names: Mapping[str, str] | None = None,
    ) -> TaskError:
        """Return a TaskError for the exception that ended a task, in the process that ran the task.

        Frames whose file name begins with `hide` are left out. `display_names` maps file names of code from another
        process, whose source is in `linecache`, to shown names.
        """
        if not isinstance(error, TaskError):
            text, frames = tracebacks.describe(error, task=label, hide=hide, names=display_names)
            return cls(label, error, text, pid, frames)
        # A nested `get` raised the error: make one error with the frames of both tasks, as after a local inner call.
        own, frames = tracebacks.describe_stack(error, task=label, hide=hide, names=display_names)
        inner = error.traceback_text
        if inner.startswith(tracebacks.HEADER):
            inner = tracebacks.body_of(inner)
        text = f"{tracebacks.HEADER}{own}  in task {error.label}:\n{inner}" if own else error.traceback_text
        return cls(label, error.cause, text, pid, (*frames, *error.frames))

    def without_cause(self) -> TaskError:
        """Return the same error without its cause, for a cause that cannot be pickled."""
        return TaskError(self.label, None, self.traceback_text, self.pid, self.frames)

    def as_instanceof_cause(self) -> TaskError:
        """Return an error that is also an instance of the cause's class, or this error where that is impossible."""
        cause = self.cause
        if (
            type(self) is not TaskError
            or cause is None
            or _is_control(cause)
            or isinstance(self, type(cause))
        ):
            return self
        try:
            dual = _dual_class(type(cause))(self.label, cause, self.traceback_text, self.pid, self.frames)
            _copy_native_attributes(cause, dual)
        except Exception as reason:  # The construction of a user's class may raise anything.
            warnings.warn(
                f"{type(cause).__name__} cannot be combined with TaskError ({reason}): "
                f"`except TaskError` catches the error, and `except {type(cause).__name__}` does not.",
                RuntimeWarning,
                stacklevel=2,
            )
            return self
        return dual

    def __getattr__(self, name: str) -> Any:
        cause = self.__dict__.get("cause")
        if cause is None or name.startswith("__"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(cause, name)

    def __str__(self) -> str:
        text = self.traceback_text.rstrip("\n")
        if self.cause is None:
            return f"{self.label} raised:\n{text}" if self.label else text
        return f"{_message(self.cause)}\n\n{self.label or 'The task'} raised:\n{text}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.label!r}, {self.cause!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        parts = (self.label, portable(self.cause), self.traceback_text, self.pid, self.frames)
        return (_restored if type(self) is TaskError else _combined, parts)

    def _render_traceback_(self) -> list[str]:
        """Return the lines that IPython shows: a traceback as of a local call, continued inside the task."""
        remote = tracebacks.body_of(self.traceback_text).rstrip("\n").splitlines()
        kind = type(self if self.cause is None else self.cause).__name__
        notes = [line for note in getattr(self, "__notes__", ()) for line in str(note).splitlines()]
        return [*self._local_part(kind), f"  in task {self.label}:", *remote, *notes]


def _is_control(error: BaseException) -> bool:
    """Return whether an exception ends a program, a generator or an asyncio task instead of reporting a failure."""
    asyncio = sys.modules.get("asyncio")
    if isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit):
        return True
    return asyncio is not None and isinstance(error, asyncio.CancelledError)


def _message(error: BaseException) -> str:
    try:
        return str(error) or type(error).__name__
    except Exception:  # `__str__` of a user's class may raise anything.
        return type(error).__name__


def _restored(label: str, cause: Any, *rest: Any) -> TaskError:
    """Return the unpickled TaskError."""
    return TaskError(label, revived(*cause) if isinstance(cause, tuple) else cause, *rest)


def _combined(*parts: Any) -> TaskError:
    """Return the unpickled instance of a combined class."""
    return _restored(*parts).as_instanceof_cause()


#: Combined class of each class of a cause. Keys and values are weak, because notebooks redefine classes often.
_duals: weakref.WeakKeyDictionary[type, weakref.ReferenceType[type[TaskError]]] = weakref.WeakKeyDictionary()


def _dual_class(kind: type[BaseException]) -> type[TaskError]:
    known = _duals.get(kind)
    dual = known() if known is not None else None
    if dual is not None:
        return dual
    # The built-in base class fits the memory layout, and its `__new__` needs no arguments of a user's class.
    native: Any = native_class(kind)
    if native is MemoryError:
        # `MemoryError.__new__` returns instances made in advance, which are instances of MemoryError only.
        native = Exception
    grouped = issubclass(kind, BaseExceptionGroup)

    def make(cls: type[TaskError], label: str, cause: Any, *rest: Any) -> Any:
        return native.__new__(cls, cause.message, cause.exceptions) if grouped else native.__new__(cls)

    namespace = {"__new__": make, "__module__": TaskError.__module__, "__doc__": TaskError.__doc__}
    dual = types.new_class(
        f"TaskError({kind.__name__})", (TaskError, kind), {}, lambda body: body.update(namespace)
    )
    _duals[kind] = weakref.ref(dual)
    return dual


def _copy_native_attributes(cause: BaseException, dual: BaseException) -> None:
    """Copy the fields that C code or `__slots__` keep outside the instance dictionary, such as `OSError.errno`.

    These fields exist, empty, on the combined instance, so `__getattr__` is never called for them.
    """
    ours = {*vars(BaseException), *vars(TaskError)}
    for base in type(cause).__mro__:
        for name, field in vars(base).items():
            native = isinstance(field, types.MemberDescriptorType | types.GetSetDescriptorType)
            if native and name not in ours and not name.startswith("__"):
                # Read-only and unset fields are skipped.
                with contextlib.suppress(AttributeError, TypeError):
                    setattr(dual, name, getattr(cause, name))


class UserCodeException(IPyRemoteError):
    """Raised when user code failed in another way than by raising from a task: fix that code."""


class UnserializableException(IPyRemoteError):
    """Raised when a task's exception cannot be unpickled here: read its traceback in the error's text."""


# ------------------------------------------------------------------------------------------------ you asked for it


class TaskCancelledError(IPyRemoteError):
    """Raised by `get` for a task that was cancelled: submit the task again if its value is needed.

    Examples
    --------
    >>> import time
    >>> ref = ray.remote(time.sleep).remote(600)
    >>> ray.cancel(ref)
    >>> try:
    ...     ray.get(ref)
    ... except ray.exceptions.TaskCancelledError:
    ...     print("cancelled")
    cancelled
    """


class GetTimeoutError(IPyRemoteError, TimeoutError):
    """Raised by `get` when its `timeout` has passed: call `get` again, or `cancel` the task, which goes on until then.

    Examples
    --------
    >>> import time
    >>> ref = ray.remote(time.sleep).remote(600)
    >>> try:
    ...     ray.get(ref, timeout=0.1)
    ... except TimeoutError as error:
    ...     print(type(error).__name__)
    GetTimeoutError
    >>> ray.cancel(ref)
    """


# --------------------------------------------------------------------------------------------- you called it wrong


class ActorAlreadyExistsError(ValueError, IPyRemoteError):
    """Raised when an actor of that name exists already: use another name, or `get_actor`."""


class ActorHandleNotFoundError(ValueError, IPyRemoteError):
    """Raised for an actor handle of an ended session or of another session: start the actor again."""


class ActorClassInheritanceException(TypeError):
    """Raised when an actor class is a base class: inherit from the plain class, then decorate."""


class OufOfBandObjectRefSerializationException(IPyRemoteError):
    """Raised when a ref is pickled outside of ipyremote, where nothing would keep its object alive: pickle its value.

    The spelling is Ray's.
    """


class PendingCallsLimitExceeded(IPyRemoteError):
    """Raised when an actor has as many unfinished calls as `max_pending_calls` allows: wait for some of them."""


class TaskUnschedulableError(IPyRemoteError):
    """Raised when a task asks for more than the session has: ask for less, or start a larger session."""


class ActorUnschedulableError(IPyRemoteError):
    """Raised when an actor asks for more than the session has: ask for less, or start a larger session."""


class RuntimeEnvSetupError(IPyRemoteError):
    """Raised when a `runtime_env` could not be set up: fix what the text names, such as a package."""


# ------------------------------------------------------------------------------------ a process or machine failed


class WorkerCrashedError(IPyRemoteError):
    """Raised when the process that ran a task ended without a result: the text says how; fix or retry the task.

    Examples
    --------
    >>> import os
    >>> try:
    ...     ray.get(ray.remote(max_retries=0)(os._exit).remote(1))
    ... except ray.exceptions.WorkerCrashedError:
    ...     print("the process is gone")
    the process is gone
    """


class ActorError(IPyRemoteError):
    """Base of the errors of an actor that could not answer: see the text for what happened to the actor.

    Attributes
    ----------
    actor_init_failed : bool
        Whether `__init__` of the actor raised.
    cause : BaseException or None
        The exception of `__init__`; None where nothing is known.
    """

    actor_init_failed: bool = False
    cause: BaseException | None = None


class ActorDiedError(ActorError):
    """Raised when the actor is dead and will not be restarted: the text says why; start a new actor.

    Examples
    --------
    >>> @ray.remote
    ... class Broken:
    ...     def __init__(self):
    ...         raise ValueError("no such file")
    ...     def read(self):
    ...         return 1
    >>> try:
    ...     ray.get(Broken.remote().read.remote())
    ... except ray.exceptions.ActorDiedError as error:
    ...     print(error.actor_init_failed, repr(error.cause))
    True ValueError('no such file')
    """


class ActorUnavailableError(ActorError):
    """Raised when the actor was restarting while this call ran: call again later."""


class ObjectLostError(IPyRemoteError):
    """Raised when a value or its session is gone: submit the task again."""


class ObjectFetchTimedOutError(ObjectLostError):
    """Raised when a value could not be fetched from its store: submit the task again."""


class ReferenceCountingAssertionError(ObjectLostError, AssertionError):
    """Raised when a value was dropped although a ref to it still exists: report this bug of ipyremote."""


class ObjectFreedError(ObjectLostError):
    """Raised when a value was freed by hand: make the value again, or call `free` later.

    Examples
    --------
    >>> ref = ray.put("a word")
    >>> ray.free(ref)
    >>> try:
    ...     ray.get(ref)
    ... except ray.exceptions.ObjectFreedError:
    ...     print("freed")
    freed
    """


class OwnerDiedError(ObjectLostError):
    """Raised when the process that made a ref is gone together with the value: submit the task again."""


class ObjectReconstructionFailedError(ObjectLostError):
    """Raised when a value was lost and could not be computed again: submit the task again."""


class ObjectStoreFullError(IPyRemoteError):
    """Raised when the object store has no room: drop refs, or give `init` a larger `object_store_memory`."""


class OutOfDiskError(IPyRemoteError):
    """Raised when the disk is full: make room, or choose another `object_spilling_directory`."""


class OutOfMemoryError(IPyRemoteError):
    """Raised when a worker was killed because the memory was used up: run fewer tasks at once, or ask for `memory`."""


class NodeDiedError(IPyRemoteError):
    """Raised when a machine is gone. Only clusters of machines raise this error: submit the task again."""


class LocalRayletDiedError(IPyRemoteError):
    """Raised when the agent of this machine is gone. Nothing here raises this error, which is Ray's."""


class PlasmaObjectNotAvailable(IPyRemoteError):
    """Raised when a value is not in the store of this machine. Nothing here raises this error, which is Ray's."""


class AsyncioActorExit(IPyRemoteError):
    """Raised inside an async actor that leaves: let the exception pass."""


class TaskPlacementGroupRemoved(IPyRemoteError):
    """Raised when the placement group of a task was removed: reserve a group and submit the task again."""


class ActorPlacementGroupRemoved(IPyRemoteError):
    """Raised when the placement group of an actor was removed: reserve a group and start the actor again."""


class ObjectRefStreamEndOfStreamError(IPyRemoteError):
    """Raised when a stream of refs has no more refs: end the loop."""


class CrossLanguageError(IPyRemoteError):
    """Raised when code of another language failed. Nothing here raises this error, which is Ray's."""


# -------------------------------------------------------------------------------------- the session is gone or ill


class IPyRemoteSystemError(IPyRemoteError):
    """Raised when no session is started, or it was shut down or failed: call `init`, then submit again."""


class ClusterLostError(IPyRemoteSystemError):
    """Raised when the scheduler is gone: `init()` starts a new session; refs of the old one are lost."""


class RpcError(IPyRemoteError):
    """Raised when two processes could not talk to each other: call again, or start a new session."""


class AuthenticationError(IPyRemoteError):
    """Raised when a process without the session's secret tried to connect: start the process from the session."""


#: Exception class of each `messages.Failure.kind`.
FAILURES: Final[Mapping[str, type[IPyRemoteError]]] = types.MappingProxyType(
    {
        "task_error": TaskError,
        "worker_crashed": WorkerCrashedError,
        "task_cancelled": TaskCancelledError,
        "actor_died": ActorDiedError,
        "actor_unavailable": ActorUnavailableError,
        "object_lost": ObjectLostError,
        "object_freed": ObjectFreedError,
        "owner_died": OwnerDiedError,
        "out_of_memory": OutOfMemoryError,
        "system": IPyRemoteSystemError,
        "cluster_lost": ClusterLostError,
        "unserializable": UnserializableException,
        "store_full": ObjectStoreFullError,
        "out_of_disk": OutOfDiskError,
        "runtime_env_setup": RuntimeEnvSetupError,
        "task_unschedulable": TaskUnschedulableError,
        "actor_unschedulable": ActorUnschedulableError,
        "task_placement_group_removed": TaskPlacementGroupRemoved,
        "actor_placement_group_removed": ActorPlacementGroupRemoved,
    }
)


def from_failure(kind: str, text: str, cause: BaseException | None = None) -> IPyRemoteError:
    """Return the exception for a failure that came over the wire; an unknown kind becomes a system error.

    `cause` is the exception of an actor's `__init__`, where it is known.
    """
    if kind == "task_error":
        return TaskError(traceback_text=text)
    error = FAILURES.get(kind, IPyRemoteSystemError)(text)
    if isinstance(error, ActorError) and cause is not None:
        error.actor_init_failed = True
        error.cause = cause.cause if isinstance(cause, TaskError) else cause
    return error


# Ray's names for classes that have other names here.
IPyRemoteTaskError = TaskError
RayError = IPyRemoteError
RayTaskError = TaskError
RayActorError = ActorError
RaySystemError = IPyRemoteSystemError
