"""The tree of exceptions, sorted by who must act.

    you called it wrong         ValueErrors and TypeErrors, and those of the tree that are one of these too
    your code raised            TaskError (which is also an instance of what your code raised)
    you asked for it            TaskCancelledError, GetTimeoutError
    a process or machine failed WorkerCrashedError, ActorError, ObjectLostError, OutOfMemoryError, ...
    the session is gone or ill  IPyRemoteSystemError, ClusterLostError

Names are those of Ray 2.60 without the word Ray; Ray's own names are aliases at the end. Classes that only a cluster of
machines raises are there so that `except` clauses written for Ray find them.

Rules. Every one of them can be pickled. Shown by IPython, their tracebacks leave out the frames of ipyremote. This
module imports nothing of ours but `tracebacks`, which imports nothing.
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
from ipyremote.exceptions.pickling import native_class, portable, revived
from ipyremote.exceptions.tracebacks import Frame


class IPyRemoteError(Exception):
    """Base of all errors that ipyremote itself raises."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows: the user's own frames, then the error."""
        kind = type(self).__name__
        return [*self._local_part(kind), "", *"".join(traceback.format_exception_only(self)).splitlines()]

    def _local_part(self, kind: str) -> list[str]:
        """Header and the frames of this process, after what came before this error."""
        before = self.__cause__ or (None if self.__suppress_context__ else self.__context__)
        chain = []
        if before is not None:
            text, _ = tracebacks.describe(before)
            link = (
                "That led to this:" if before is self.__cause__ else "While that was handled, this happened:"
            )
            chain = [*text.splitlines(), "", link, ""]
        title = f"{kind:<42}Traceback (most recent call last)"
        return [*chain, "-" * 75, title, *tracebacks.local_lines(self.__traceback__)]


# ------------------------------------------------------------------------------------------------- your code raised


class TaskError(IPyRemoteError):
    """A task, or a method of an actor, raised an exception: mend the code it points to.

    `get` raises an instance of a class that is both this and the class of the cause (`as_instanceof_cause`), so that
    `except ValueError` works as it does for a local call. Attributes of the cause are found on the error as well.
    `str()` is the cause's own message, followed by the traceback in the task.
    """

    #: `name#number` of the task.
    label: str
    #: The exception itself; None when it could not be pickled.
    cause: BaseException | None
    #: The traceback in the task with all its causes.
    traceback_text: str
    #: Process in which it ran. Never part of a text, which would differ from run to run.
    pid: int
    #: The user's frames, outermost first.
    frames: tuple[Frame, ...]

    def __init__(
        self,
        label: str = "",
        cause: BaseException | None = None,
        traceback_text: str = "",
        pid: int = 0,
        frames: tuple[Frame, ...] = (),
    ) -> None:
        # Not super().__init__: in a combined class the next one is the cause's, which wants other arguments.
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
        """Make one from the exception that ended a task, in the process where that happened.

        `hide` is the start of the file names to leave out; `display_names` maps file names of code that came from
        elsewhere (its source is in `linecache`) to what a reader calls them.
        """
        if not isinstance(error, TaskError):
            text, frames = tracebacks.describe(error, task=label, hide=hide, names=display_names)
            return cls(label, error, text, pid, frames)
        # What a nested `get` raised: one error with the frames of both, as if the inner call had been a local one.
        own, frames = tracebacks.describe_stack(error, task=label, hide=hide, names=display_names)
        inner = error.traceback_text
        if inner.startswith(tracebacks.HEADER):
            inner = tracebacks.body_of(inner)
        text = f"{tracebacks.HEADER}{own}  in task {error.label}:\n{inner}" if own else error.traceback_text
        return cls(label, error.cause, text, pid, (*frames, *error.frames))

    def without_cause(self) -> TaskError:
        """The same without the exception itself, for one that cannot be pickled."""
        return TaskError(self.label, None, self.traceback_text, self.pid, self.frames)

    def as_instanceof_cause(self) -> TaskError:
        """The same error as an instance of the cause's class too; itself where that is impossible."""
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
        except Exception as reason:  # The class is the user's: its construction may do and raise anything.
            warnings.warn(
                f"{type(cause).__name__} cannot be combined with TaskError ({reason}): "
                "`except TaskError` catches it, its own class does not.",
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
        """What IPython shows: like the traceback of a local call, going on inside the task."""
        remote = tracebacks.body_of(self.traceback_text).rstrip("\n").splitlines()
        kind = type(self if self.cause is None else self.cause).__name__
        notes = [line for note in getattr(self, "__notes__", ()) for line in str(note).splitlines()]
        return [*self._local_part(kind), f"  in task {self.label}:", *remote, *notes]


def _is_control(error: BaseException) -> bool:
    """Whether whoever raises it would not fail, but end a program, a generator or a task of asyncio."""
    asyncio = sys.modules.get("asyncio")
    if isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit):
        return True
    return asyncio is not None and isinstance(error, asyncio.CancelledError)


def _message(error: BaseException) -> str:
    try:
        return str(error) or type(error).__name__
    except Exception:  # The class is the user's.
        return type(error).__name__


def _restored(label: str, cause: Any, *rest: Any) -> TaskError:
    """Unpickles one."""
    return TaskError(label, revived(*cause) if isinstance(cause, tuple) else cause, *rest)


def _combined(*parts: Any) -> TaskError:
    """Unpickles an instance of a combined class."""
    return _restored(*parts).as_instanceof_cause()


#: Class of a cause -> its combined class. Weak at both ends: notebooks redefine classes all day.
_duals: weakref.WeakKeyDictionary[type, weakref.ReferenceType[type[TaskError]]] = weakref.WeakKeyDictionary()


def _dual_class(kind: type[BaseException]) -> type[TaskError]:
    known = _duals.get(kind)
    dual = known() if known is not None else None
    if dual is not None:
        return dual
    # The interpreter's own constructor that fits the memory layout: one written in Python may want arguments.
    native: Any = native_class(kind)
    if native is MemoryError:
        # Its constructor hands out instances that were made in advance, of its own class only.
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
    """Fields that C code or `__slots__` keep outside the dictionary, such as `OSError.errno`.

    They exist, empty, on the combined instance, so `__getattr__` is never asked for them.
    """
    ours = {*vars(BaseException), *vars(TaskError)}
    for base in type(cause).__mro__:
        for name, field in vars(base).items():
            native = isinstance(field, types.MemberDescriptorType | types.GetSetDescriptorType)
            if native and name not in ours and not name.startswith("__"):
                # Read-only and unset fields are passed over.
                with contextlib.suppress(AttributeError, TypeError):
                    setattr(dual, name, getattr(cause, name))


class UserCodeException(IPyRemoteError):
    """User code failed in another way than by raising from a task."""


class UnserializableException(IPyRemoteError):
    """A task raised an exception that cannot be unpickled here; the text has its traceback."""


# ------------------------------------------------------------------------------------------------ you asked for it


class TaskCancelledError(IPyRemoteError):
    """The task was cancelled."""


class GetTimeoutError(IPyRemoteError, TimeoutError):
    """`get` waited for as long as its `timeout` said. The task goes on."""


# --------------------------------------------------------------------------------------------- you called it wrong


class ActorAlreadyExistsError(ValueError, IPyRemoteError):
    """An actor of that name is there already. Please use a different name."""


class ActorHandleNotFoundError(ValueError, IPyRemoteError):
    """The handle belongs to a session that has ended, or to another one."""


class ActorClassInheritanceException(TypeError):
    """An actor class was used as a base class. Inherit from the plain class, then decorate."""


class OufOfBandObjectRefSerializationException(IPyRemoteError):
    """A ref was pickled outside of ipyremote, where nothing would keep its object alive. (Ray's spelling.)"""


class PendingCallsLimitExceeded(IPyRemoteError):
    """An actor has as many waiting calls as its `max_pending_calls` allows."""


class TaskUnschedulableError(IPyRemoteError):
    """The task asks for more than the session has."""


class ActorUnschedulableError(IPyRemoteError):
    """The actor asks for more than the session has."""


class RuntimeEnvSetupError(IPyRemoteError):
    """The environment that was asked for could not be made."""


# ------------------------------------------------------------------------------------ a process or machine failed


class WorkerCrashedError(IPyRemoteError):
    """The process that ran the task ended without a result; the text says how."""


class ActorError(IPyRemoteError):
    """An actor could not answer."""

    #: Whether its `__init__` raised.
    actor_init_failed: bool = False
    #: What its `__init__` raised; None where nothing is known.
    cause: BaseException | None = None


class ActorDiedError(ActorError):
    """The actor is dead and stays so; the text says why."""


class ActorUnavailableError(ActorError):
    """The actor was restarting while this call ran; later calls may work."""


class ObjectLostError(IPyRemoteError):
    """The value is gone, or its session is."""


class ObjectFetchTimedOutError(ObjectLostError):
    """The value could not be fetched from where it is."""


class ReferenceCountingAssertionError(ObjectLostError, AssertionError):
    """The value was dropped although a ref to it is left: a fault of ours."""


class ObjectFreedError(ObjectLostError):
    """The value was freed by hand."""


class OwnerDiedError(ObjectLostError):
    """The process that made the ref is gone, and the value with it."""


class ObjectReconstructionFailedError(ObjectLostError):
    """The value was lost and could not be computed again."""


class ObjectStoreFullError(IPyRemoteError):
    """The object store has no room. Drop refs, or start the session with a larger `object_store_memory`."""


class OutOfDiskError(IPyRemoteError):
    """The disk is full."""


class OutOfMemoryError(IPyRemoteError):
    """A worker was killed because the memory was used up."""


class NodeDiedError(IPyRemoteError):
    """A machine is gone."""


class LocalRayletDiedError(IPyRemoteError):
    """The agent of this machine is gone."""


class PlasmaObjectNotAvailable(IPyRemoteError):
    """The value is not in the store of this machine."""


class AsyncioActorExit(IPyRemoteError):
    """An async actor leaves."""


class TaskPlacementGroupRemoved(IPyRemoteError):
    """The placement group of the task was removed."""


class ActorPlacementGroupRemoved(IPyRemoteError):
    """The placement group of the actor was removed."""


class ObjectRefStreamEndOfStreamError(IPyRemoteError):
    """A stream of refs has no more."""


class CrossLanguageError(IPyRemoteError):
    """Code of another language failed."""


# -------------------------------------------------------------------------------------- the session is gone or ill


class IPyRemoteSystemError(IPyRemoteError):
    """The session is not started, was shut down, or failed inside."""


class ClusterLostError(IPyRemoteSystemError):
    """The scheduler is gone. `init()` starts a new session; refs of the old one are lost."""


class RpcError(IPyRemoteError):
    """Two processes could not talk."""


class AuthenticationError(IPyRemoteError):
    """A process without the session's secret tried to connect."""


#: What `messages.Failure.kind` stands for.
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
    """The exception for a failure that came over the wire; an unknown kind is a system error.

    `cause`: what an actor's `__init__` raised, where that is known.
    """
    if kind == "task_error":
        return TaskError(traceback_text=text)
    error = FAILURES.get(kind, IPyRemoteSystemError)(text)
    if isinstance(error, ActorError) and cause is not None:
        error.actor_init_failed = True
        error.cause = cause.cause if isinstance(cause, TaskError) else cause
    return error


# Ray's names for what is named otherwise here.
IPyRemoteTaskError = TaskError
RayError = IPyRemoteError
RayTaskError = TaskError
RayActorError = ActorError
RaySystemError = IPyRemoteSystemError
