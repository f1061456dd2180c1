"""The functions of the public API on objects, actors and the session's resources: each checks its arguments, then asks
the current backend. (`init` and `shutdown` are in `lifecycle.py`.)

Rules. What is wrong with a call is said here, in the caller's words, and nothing is sent. A ref or handle is used in
the session that it belongs to, which must be the running one; only what needs no ref or handle starts a session.
"""

from __future__ import annotations

import math
import operator
from typing import Any, Final, TypeVar, overload

from ipyremote import actor as actors
from ipyremote import refs
from ipyremote.actor import ActorHandle
from ipyremote.backend import Backend, current, required
from ipyremote.declare import exports
from ipyremote.exceptions import IPyRemoteSystemError
from ipyremote.refs import ObjectRef
from ipyremote.runtime_context import RuntimeContext
from ipyremote.session.lifecycle import init, init_tentatively, is_initialized, shutdown
from ipyremote.session.recovery import recover
from ipyremote.streams import ObjectRefGenerator

__all__ = [
    "available_resources",
    "cancel",
    "cluster_resources",
    "free",
    "get",
    "get_actor",
    "get_gpu_ids",
    "get_runtime_context",
    "init",
    "init_tentatively",
    "is_initialized",
    "kill",
    "nodes",
    "put",
    "recover",
    "shutdown",
    "wait",
]


T = TypeVar("T")
StreamT = TypeVar("StreamT", bound=ObjectRefGenerator[Any])


# ------------------------------------------------------------------------------------------------------ objects


@overload
def get(object_refs: ObjectRef[T], *, timeout: float | None = None) -> T: ...
@overload
def get(object_refs: list[ObjectRef[T]], *, timeout: float | None = None) -> list[T]: ...
@overload
def get(object_refs: StreamT, *, timeout: float | None = None) -> StreamT: ...
def get(object_refs: Any, *, timeout: float | None = None) -> Any:
    """The value of a ref, or the values of a list of refs in order. Waits until they are there.

    `timeout`: seconds, 0 means now or never. Raises GetTimeoutError after that; `TaskError` (also an instance of the
    task's own exception) and other errors of the tree as soon as one task has failed: an ExceptionGroup that is the
    first of these errors as well, when several of the list have failed by then. ValueError for anything that is neither
    a ref nor a list, and TypeError for a list with anything but refs, as in Ray. An `ObjectRefGenerator` is returned
    unchanged, as in Ray.
    """
    if timeout is not None:
        _check_timeout(timeout)
    if isinstance(object_refs, ObjectRef):
        owner = refs.owner(object_refs)
        if current.waiting() is not None and not owner.is_ready(object_refs._id):
            return _get([object_refs], owner, [object_refs._id], timeout)[0]
        return owner.get((object_refs._id,), timeout)[0]
    if isinstance(object_refs, ObjectRefGenerator):
        return object_refs
    if not isinstance(object_refs, list):
        raise ValueError(
            f"get() takes an ObjectRef or a list of ObjectRefs, not {_described(object_refs)}"
            + (": write get(list(...))" if isinstance(object_refs, tuple | set | frozenset) else "")
        )
    for ref in object_refs:
        if not isinstance(ref, ObjectRef):
            raise TypeError(f"get() takes a list of ObjectRefs, but the list has {_described(ref)}")
    if not object_refs:
        return []
    backend = refs.owner(object_refs[0])
    ids = [refs.id_for(ref, backend) for ref in object_refs]
    if current.waiting() is None:
        return backend.get(ids, timeout)
    return _get(object_refs, backend, ids, timeout)


def _get(
    object_refs: list[ObjectRef[Any]], backend: Backend, ids: list[int], timeout: float | None
) -> list[Any]:
    """The values, with somebody looking on who shows what is waited for."""
    waiting = current.waiting()
    assert waiting is not None, "asked before"
    wait = waiting.begin(object_refs)
    try:
        return backend.get(ids, timeout)
    except KeyboardInterrupt as error:
        waiting.interrupted(error, "get", object_refs)
        raise
    finally:
        waiting.end(wait)


def put(value: T, *, _owner: Any = None) -> ObjectRef[T]:
    """Store a value once and for all; every task that gets the ref shares it.

    Raises TypeError for a ref, which names a value already, and ObjectStoreFullError.
    """
    if _owner is not None:
        raise ValueError("put() has no _owner any more: objects belong to the session")
    if isinstance(value, ObjectRef):
        raise TypeError(f"put() does not take {value!r}: it names a stored value already")
    backend = current.backend()
    any_id, label = backend.put(value)
    exports.mark_used(backend)
    return ObjectRef(any_id, backend, label)


def free(object_refs: ObjectRef[Any] | list[ObjectRef[Any]], local_only: bool = False) -> None:
    """Drop the values of these refs (one, or a list) at once, without waiting until the last ref has died.

    Later, `get` raises ObjectFreedError. A value that a submitted task still needs, or that is not there yet, goes when
    that is over; arrays that were fetched stay valid. For values that are large and certainly not needed any more:
    dropping the refs is the usual way. `local_only` changes nothing on one machine. As `ray.internal.free`. Raises
    TypeError for anything else.
    """
    if isinstance(object_refs, ObjectRef):
        object_refs = [object_refs]
    if not isinstance(object_refs, list):
        raise TypeError(f"free() takes an ObjectRef or a list of ObjectRefs, not {_described(object_refs)}")
    for ref in object_refs:
        if not isinstance(ref, ObjectRef):
            raise TypeError(f"free() takes a list of ObjectRefs, but the list has {_described(ref)}")
    if object_refs:
        backend = refs.owner(object_refs[0])
        backend.free(refs.ids_for(object_refs, backend))


_REF_TYPES: Final = frozenset({ObjectRef, ObjectRefGenerator})


@overload
def wait(
    object_refs: list[ObjectRef[T]],
    *,
    num_returns: int = 1,
    timeout: float | None = None,
    fetch_local: bool = True,
) -> tuple[list[ObjectRef[T]], list[ObjectRef[T]]]: ...
@overload
def wait(
    object_refs: list[ObjectRefGenerator[T]],
    *,
    num_returns: int = 1,
    timeout: float | None = None,
    fetch_local: bool = True,
) -> tuple[list[ObjectRefGenerator[T]], list[ObjectRefGenerator[T]]]: ...
@overload
def wait(
    object_refs: list[ObjectRef[Any] | ObjectRefGenerator[Any]],
    *,
    num_returns: int = 1,
    timeout: float | None = None,
    fetch_local: bool = True,
) -> tuple[
    list[ObjectRef[Any] | ObjectRefGenerator[Any]], list[ObjectRef[Any] | ObjectRefGenerator[Any]]
]: ...
def wait(
    object_refs: list[Any],
    *,
    num_returns: int = 1,
    timeout: float | None = None,
    fetch_local: bool = True,
) -> tuple[list[Any], list[Any]]:
    """(ready, rest), both in the order given: waits until `num_returns` have a value or a failure, or for `timeout`.

    An `ObjectRefGenerator` among them is ready when `next` need not wait, at its end too. Never raises for a failed
    task. At most `num_returns` are ready even if more have values. `fetch_local` changes
    nothing on one machine. Raises TypeError and ValueError for unfit arguments.
    """
    if isinstance(object_refs, ObjectRef | ObjectRefGenerator):
        kind = type(object_refs).__name__
        raise TypeError(f"wait() takes a list of ObjectRefs, not a single {kind}: write wait([ref])")
    if not isinstance(object_refs, list):
        raise TypeError(f"wait() takes a list of ObjectRefs, not {_described(object_refs)}")
    if timeout is not None:
        _check_timeout(timeout)
    # `wait` is called again and again with nearly the same long list, so what looks at each ref is kept in C.
    if not set(map(type, object_refs)) <= _REF_TYPES:
        odd = next(ref for ref in object_refs if type(ref) not in _REF_TYPES)
        raise TypeError(f"wait() takes a list of ObjectRefs, but the list has {_described(odd)}")
    if not object_refs:
        return [], []
    if not isinstance(num_returns, int):
        num_returns = _index(num_returns)
    if not 0 < num_returns <= len(object_refs):
        raise ValueError(
            f"num_returns is from 1 to the number of refs ({len(object_refs)}), not {num_returns}"
        )
    backend = refs.owner(object_refs[0])
    ids = refs.ids_for(object_refs, backend)
    if len(set(ids)) < len(ids):
        raise ValueError("wait() takes each ref once; the list has the same ref twice")
    try:
        places = _places(ids, backend.wait(ids, num_returns, timeout))
    except KeyboardInterrupt as error:
        if (waiting := current.waiting()) is not None:
            waiting.interrupted(error, "wait", object_refs)
        raise
    rest = object_refs.copy()
    for place in reversed(places):
        del rest[place]
    return [object_refs[place] for place in places], rest


def _index(number: Any) -> int:
    """The int of a whole number of another kind, such as numpy's. Raises TypeError."""
    try:
        return operator.index(number)
    except TypeError:
        raise TypeError(f"num_returns is a whole number, not {number!r}") from None


def _places(ids: list[int], chosen: list[int]) -> list[int]:
    """Where the chosen ids are, which have the order of `ids`."""
    places = []
    place = -1
    for object_id in chosen:
        place = ids.index(object_id, place + 1)
        places.append(place)
    return places


def cancel(
    object_ref: ObjectRef[Any] | ObjectRefGenerator[Any], *, force: bool = False, recursive: bool = True
) -> None:
    """Cancel the task behind a ref: it never starts, or gets a KeyboardInterrupt; nothing happens when it has ended.

    An `ObjectRefGenerator` stands for its task. `force` kills the worker; `recursive` cancels the tasks that it
    submitted too. Raises TypeError for anything but a ref or generator, ValueError for `force` with an actor's method.
    """
    if not isinstance(object_ref, ObjectRef | ObjectRefGenerator):
        raise TypeError(f"cancel() takes an ObjectRef, not {_described(object_ref)}")
    if force and object_ref._actor:
        raise ValueError(
            f"cancel(force=True) does not apply to {object_ref!r}, a method of an actor: the actor would die with it. "
            "Use kill(handle) for that."
        )
    # A generator's own id is that of the stream.
    object_id = object_ref._task if isinstance(object_ref, ObjectRefGenerator) else object_ref._id
    refs.owner(object_ref).cancel(object_id, force=force, recursive=recursive)


# ------------------------------------------------------------------------------------------------------- actors


def kill(actor: ActorHandle[Any], *, no_restart: bool = True) -> None:
    """Kill an actor's process at once; `no_restart=False` lets it start again if `max_restarts` allows.

    Raises ValueError for anything but a handle, and for a handle of an earlier session.
    """
    if not isinstance(actor, ActorHandle):
        hint = ": use cancel() for tasks" if isinstance(actor, ObjectRef) else ""
        raise ValueError(f"kill() takes the handle of an actor, not {_described(actor)}{hint}")
    actors.owner(actor).kill(actor._id, no_restart=no_restart)


def get_actor(name: str, namespace: str | None = None) -> ActorHandle[Any]:
    """A handle of the living actor with this name, in this namespace (default: the one of `init`).

    As in Ray, the handle does not keep the actor alive. Waits for the scheduler's answer. Raises ValueError when there
    is no such actor, and for an empty name; TypeError for anything but texts.
    """
    for what, text in (("name", name), ("namespace", "-" if namespace is None else namespace)):
        if not isinstance(text, str):
            raise TypeError(f"get_actor() takes a text as {what}, not {type(text).__name__}: {text!r}")
        if not text:
            raise ValueError(f"get_actor() takes a {what} that is not empty")
    backend = current.backend()
    named_actors = required(backend.named_actors, backend.capabilities.named_actors)
    named = named_actors.find(name, namespace or "")
    if named is None:
        where = f"namespace {namespace!r}" if namespace else "the namespace of this session"
        raise ValueError(
            f"Failed to look up actor with name {name!r}: there is none in {where}. It has died, was never created, or "
            "is in another namespace; ipyremote.util.list_named_actors(all_namespaces=True) shows what there is."
        )
    return actors.weak_handle(named, backend)


# ------------------------------------------------------------------------------------------------- observation


def cluster_resources() -> dict[str, float]:
    """Total amounts by name, with what placement groups have reserved of them.

    Raises IPyRemoteSystemError when no session is running.
    """
    return _running_backend("cluster_resources").resources()[0]


def available_resources() -> dict[str, float]:
    """Free amounts by name; what is used up is absent, and what placement groups have reserved is not free.

    Raises IPyRemoteSystemError when no session is running.
    """
    return _running_backend("available_resources").resources()[1]


#: Keys of `nodes()` that programs written for Ray may look at.
_PORTS: Final = (
    "NodeManagerPort",
    "ObjectManagerPort",
    "MetricsExportPort",
    "MetricsAgentPort",
    "DashboardAgentListenPort",
    "RuntimeEnvAgentPort",
)


def nodes() -> list[dict[str, Any]]:
    """The machines of the session: this one, with the keys that Ray's have. Waits for the scheduler's answer.

    There are no ports (-1), since nothing here listens to the network, and no sockets but those of the session itself.
    Raises IPyRemoteSystemError when no session is running.
    """
    backend = _running_backend("nodes")
    return [
        {
            "NodeID": node.node_id,
            "Alive": True,
            "NodeManagerAddress": node.ip,
            "NodeManagerHostname": node.hostname,
            **dict.fromkeys(_PORTS, -1),
            "ObjectStoreSocketName": "",
            "RayletSocketName": "",
            "NodeName": node.hostname,
            "DeathReason": 0,
            "DeathReasonMessage": "",
            "alive": True,
            "Resources": node.resources,
            "Labels": node.labels,
        }
        for node in backend.nodes()
    ]


def get_gpu_ids() -> list[int]:
    """Indices of the GPUs that the running task may use; empty outside of tasks."""
    backend = current.backend()
    return list(backend.identity().gpus)


def get_runtime_context() -> RuntimeContext:
    """What the calling code can know of where it runs: ids of its task, actor and session, resources, namespace."""
    return RuntimeContext(current.backend())


def _running_backend(what: str) -> Backend:
    backend = current.peek()
    if backend is None:
        raise IPyRemoteSystemError(f"{what}() needs a running session: call ipyremote.init() first.")
    return backend


def _check_timeout(timeout: Any) -> None:
    if not isinstance(timeout, int | float) or isinstance(timeout, bool):
        raise TypeError(f"timeout is a number of seconds, not {timeout!r}")
    if not timeout >= 0 or timeout == math.inf:
        raise ValueError(
            f"timeout is a number of seconds from 0 up, or None to wait without end, not {timeout!r}"
        )


def _described(value: Any) -> str:
    """A wrong argument in words that say what it is."""
    if isinstance(value, ActorHandle):
        return f"{value!r}, the handle of an actor: call a method of it"
    return f"{type(value).__name__}: {value!r:.80}" if not isinstance(value, type) else repr(value)
