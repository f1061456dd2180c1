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
from ipyremote.ids import ObjectId
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
    """Return the value of a ref, or the values of a list of refs in order, and wait until the values are there.

    Parameters
    ----------
    object_refs : ObjectRef, list of ObjectRef, or ObjectRefGenerator
        What to wait for. An `ObjectRefGenerator` is returned unchanged, as in Ray.
    timeout : float, optional
        Seconds to wait at most; 0 means now or never. By default there is no limit.

    Returns
    -------
    object
        The value of a single ref; of a list of refs, the list of their values. Arrays are read-only views of shared
        memory.

    Raises
    ------
    TaskError
        The task raised. The error is an instance of the task's own exception, too. When several tasks of the list have
        failed, the error is an ExceptionGroup that is the first of their errors as well.
    GetTimeoutError
        The values were not there in time. The tasks go on.
    IPyRemoteError
        A process, an actor or a value was lost; see `ipyremote.exceptions`.
    ValueError
        `object_refs` is neither a ref nor a list.
    TypeError
        The list has anything but refs.

    Examples
    --------
    >>> @ray.remote
    ... def square(x):
    ...     return x * x
    >>> ray.get(square.remote(3))
    9
    >>> ray.get([square.remote(i) for i in range(4)], timeout=60)
    [0, 1, 4, 9]
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
    object_refs: list[ObjectRef[Any]], backend: Backend, ids: list[ObjectId], timeout: float | None
) -> list[Any]:
    """Return the values, while the notebook shows what is waited for."""
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
    """Store a value once, and return a ref of the value, which every task that gets the ref shares.

    Parameters
    ----------
    value : object
        Anything that can be pickled. Buffers of arrays are stored without a copy per reader.

    Returns
    -------
    ObjectRef
        The ref of the stored value, ready at once.

    Raises
    ------
    TypeError
        `value` is a ref, which names a stored value already, or cannot be pickled.
    ObjectStoreFullError
        The value does not fit into the memory for objects, nor on the disk.

    Examples
    --------
    >>> table = ray.put({"one": 1, "two": 2})
    >>> @ray.remote
    ... def look_up(table, word):
    ...     return table[word]
    >>> ray.get(look_up.remote(table, "two"))
    2
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
    """Drop the values of refs at once, without waiting until the last ref has died. As `ray.internal.free`.

    For values that are large and certainly not needed any more; dropping the refs is the usual way. A value that a
    submitted task still needs, or that is not there yet, goes as soon as that is over. Arrays that were fetched stay
    valid.

    Parameters
    ----------
    object_refs : ObjectRef or list of ObjectRef
        Refs of the values to drop. A later `get` of one raises ObjectFreedError.
    local_only : bool, default False
        Changes nothing on one machine.

    Raises
    ------
    TypeError
        `object_refs` is anything else.

    Examples
    --------
    >>> ref = ray.put("a large value")
    >>> ray.free(ref)
    >>> try:
    ...     ray.get(ref)
    ... except ray.exceptions.ObjectFreedError:
    ...     print("gone")
    gone
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
    """Wait until some of these refs have a value or a failure, and return the ready refs and the others.

    An `ObjectRefGenerator` is ready when `next` need not wait, which includes its end. A failed task is ready; `wait`
    does not raise its error.

    Parameters
    ----------
    object_refs : list of ObjectRef or ObjectRefGenerator
        Refs to wait for, each once.
    num_returns : int, default 1
        Number of refs to wait for. No more refs than that are returned as ready, even if more are.
    timeout : float, optional
        Seconds to wait at most. By default there is no limit.
    fetch_local : bool, default True
        Changes nothing on one machine.

    Returns
    -------
    ready : list
        Up to `num_returns` refs, in the order given.
    rest : list
        The other refs, in the order given.

    Raises
    ------
    TypeError
        `object_refs` is not a list of refs.
    ValueError
        A ref is there twice, or `num_returns` is not between 1 and the number of refs.

    Examples
    --------
    >>> @ray.remote
    ... def double(x):
    ...     return 2 * x
    >>> refs = [double.remote(i) for i in range(3)]
    >>> total = 0
    >>> while refs:
    ...     ready, refs = ray.wait(refs)
    ...     total += ray.get(ready[0])
    >>> total
    6
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
    """Return the int of a whole number of another kind, such as numpy's. Raises TypeError."""
    try:
        return operator.index(number)
    except TypeError:
        raise TypeError(f"num_returns is a whole number, not {number!r}") from None


def _places(ids: list[ObjectId], chosen: list[ObjectId]) -> list[int]:
    """Return the positions of the chosen ids, which have the order of `ids`."""
    places = []
    place = -1
    for object_id in chosen:
        place = ids.index(object_id, place + 1)
        places.append(place)
    return places


def cancel(
    object_ref: ObjectRef[Any] | ObjectRefGenerator[Any], *, force: bool = False, recursive: bool = True
) -> None:
    """Cancel the task behind a ref: a waiting task never starts, and a running task gets a KeyboardInterrupt.

    Nothing happens when the task has ended. `get` of a cancelled task's ref raises TaskCancelledError.

    Parameters
    ----------
    object_ref : ObjectRef or ObjectRefGenerator
        A result of the task. An `ObjectRefGenerator` stands for the task that yields.
    force : bool, default False
        Kill the worker that runs the task.
    recursive : bool, default True
        Cancel the tasks that the task has submitted, too.

    Raises
    ------
    TypeError
        `object_ref` is anything else.
    ValueError
        `force` is given for a method of an actor, which would die; use `kill` for that.

    Examples
    --------
    >>> import time
    >>> nap = ray.remote(time.sleep).remote(600)
    >>> ray.cancel(nap)
    >>> try:
    ...     ray.get(nap)
    ... except ray.exceptions.TaskCancelledError:
    ...     print("cancelled")
    cancelled
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
    """Kill an actor's process at once, without waiting for the calls that run there.

    Parameters
    ----------
    actor : ActorHandle
        A handle of the actor.
    no_restart : bool, default True
        Whether the actor stays dead. False lets the actor start again if its `max_restarts` allows.

    Raises
    ------
    ValueError
        `actor` is not a handle, or is one of an earlier session.

    Examples
    --------
    >>> @ray.remote
    ... class Echo:
    ...     def say(self, word):
    ...         return word
    >>> echo = Echo.remote()
    >>> ray.get(echo.say.remote("hello"))
    'hello'
    >>> ray.kill(echo)
    >>> try:
    ...     ray.get(echo.say.remote("hello"))
    ... except ray.exceptions.ActorDiedError:
    ...     print("the actor is dead")
    the actor is dead
    """
    if not isinstance(actor, ActorHandle):
        hint = ": use cancel() for tasks" if isinstance(actor, ObjectRef) else ""
        raise ValueError(f"kill() takes the handle of an actor, not {_described(actor)}{hint}")
    actors.owner(actor).kill(actor._id, no_restart=no_restart)


def get_actor(name: str, namespace: str | None = None) -> ActorHandle[Any]:
    """Return a handle of the living actor that has this name. Waits for the scheduler's answer.

    As in Ray, the handle does not keep the actor alive.

    Parameters
    ----------
    name : str
        The name that `.options(name=...)` gave to the actor.
    namespace : str, optional
        The namespace to look in. By default the one of `init`.

    Returns
    -------
    ActorHandle
        A handle of the actor.

    Raises
    ------
    ValueError
        No living actor has the name there, or the name is empty.
    TypeError
        An argument is not a string.

    Examples
    --------
    >>> @ray.remote
    ... class Greeter:
    ...     def greet(self):
    ...         return "hello"
    >>> greeter = Greeter.options(name="greeter").remote()
    >>> ray.get(ray.get_actor("greeter").greet.remote())
    'hello'
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
    """Return the total amounts of the session's resources by name, with those that placement groups have reserved.

    Returns
    -------
    dict of str to float
        Amounts by name: `CPU` and `GPU` in devices, `memory` and `object_store_memory` in bytes, and resources of
        `init`.

    Raises
    ------
    IPyRemoteSystemError
        No session is running.

    Examples
    --------
    >>> ray.cluster_resources()["CPU"]
    4.0
    """
    return _running_backend("cluster_resources").resources()[0]


def available_resources() -> dict[str, float]:
    """Return the amounts of resources that nobody uses, by name.

    What is used up is absent, and what placement groups have reserved is not free.

    Returns
    -------
    dict of str to float
        Amounts by name, in the units of `cluster_resources`.

    Raises
    ------
    IPyRemoteSystemError
        No session is running.

    Examples
    --------
    >>> set(ray.available_resources()) <= set(ray.cluster_resources())
    True
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
    """Return the machines of the session: this one, with the keys that Ray's have. Waits for the scheduler's answer.

    Ports are -1, since nothing here listens to the network, and there are no sockets but those of the session itself.

    Returns
    -------
    list of dict
        One dictionary, with `NodeID`, `Alive`, `Resources`, `Labels` and others.

    Raises
    ------
    IPyRemoteSystemError
        No session is running.

    Examples
    --------
    >>> [(node["Alive"], node["Resources"]["CPU"]) for node in ray.nodes()]
    [(True, 4.0)]
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
    """Return the indices of the GPUs that the running task or actor may use.

    Returns
    -------
    list of int
        Indices as CUDA counts them; empty outside of tasks and for tasks without GPUs.

    Examples
    --------
    >>> ray.get_gpu_ids()
    []
    """
    backend = current.backend()
    return list(backend.identity().gpus)


def get_runtime_context() -> RuntimeContext:
    """Return what the calling code can know of where it runs: ids of its task, actor and session, resources, namespace.

    Returns
    -------
    RuntimeContext
        An object whose methods answer for the code that calls them.

    Examples
    --------
    >>> @ray.remote
    ... def who_am_i():
    ...     return ray.get_runtime_context().get_task_name()
    >>> ray.get(who_am_i.remote())
    'who_am_i'
    """
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
    """Return a description of a wrong argument for an error."""
    if isinstance(value, ActorHandle):
        return f"{value!r}, the handle of an actor: call a method of it"
    return f"{type(value).__name__}: {value!r:.80}" if not isinstance(value, type) else repr(value)
