"""Processes for a library's pool: each runs an initializer, then calls, one after another.

`Process` is the owner's side, `PoolWorker` is the actor. Rules. A call that takes its process along fails with
ActorDiedError; the next call gets a new process. A `Process` belongs to one thread, except for `kill`.

Functions of a notebook travel by value, so the copy of a function has globals of its own. The globals that an
initializer sets (`global model; model = load()`) are nevertheless seen by the functions that come later, and changes
that a function makes to these globals are seen by the next functions, as in the processes of `multiprocessing`.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from multiprocessing import pool as standard
from types import FunctionType
from typing import Any

from ipyremote import api
from ipyremote.actor import ActorHandle
from ipyremote.exceptions import ActorDiedError, TaskCancelledError
from ipyremote.refs import ObjectRef
from ipyremote.remote import remote
from ipyremote.util.calls import value_of

__all__ = ["PoolWorker", "Process", "users_own"]

_AROUND = (vars(standard)["mapstar"], vars(standard)["starmapstar"])


class PoolWorker:
    """The actor behind a `Process`."""

    def __init__(self, initializer: Callable[..., Any] | None, initargs: Iterable[Any]) -> None:
        self._shared = _InitializedGlobals()
        if initializer is not None:
            self._shared.run(initializer, initargs)

    def run(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Run one call, and return its value."""
        with self._shared.lent(users_own(fn, args)):
            return fn(*args, **kwargs)


class _InitializedGlobals:
    """The globals that an initializer has set."""

    def __init__(self) -> None:
        self._module: dict[str, Any] = {}
        self._names: set[str] = set()

    def run(self, initializer: Callable[..., Any], initargs: Iterable[Any]) -> None:
        function = _function_in(initializer)
        self._module = {} if function is None else function.__globals__
        before = dict(self._module)
        initializer(*initargs)
        missing = object()
        self._names = {name for name, value in self._module.items() if before.get(name, missing) is not value}

    @contextlib.contextmanager
    def lent(self, fn: Callable[..., Any]) -> Any:
        """Give the globals of `fn` the values that the initializer has set, while this block runs."""
        function = _function_in(fn) if self._names else None
        if function is None or not self._is_copy(function):
            yield
            return
        function.__globals__.update((name, self._module[name]) for name in self._names)
        try:
            yield
        finally:
            self._module.update((name, function.__globals__[name]) for name in self._names)

    def _is_copy(self, function: FunctionType) -> bool:
        """Return whether a function is a copy from the initializer's module, not one that was imported."""
        there, here = function.__globals__, self._module
        return there is not here and there.get("__name__") == here.get("__name__")


def users_own(fn: Callable[..., Any], args: tuple[Any, ...]) -> Callable[..., Any]:
    """Return the user's function: the standard library's `map` sends a function of its own around it."""
    own: Callable[..., Any] = args[0][0] if fn in _AROUND else fn
    return own


def _function_in(fn: Any) -> FunctionType | None:
    while isinstance(fn, functools.partial):
        fn = fn.func
    fn = inspect.unwrap(getattr(fn, "__func__", fn))
    return fn if inspect.isfunction(fn) else None


_Actor = remote(PoolWorker)


class Process:
    """The owner's side of one process."""

    def __init__(
        self,
        initializer: Callable[..., Any] | None,
        initargs: Iterable[Any],
        options: Mapping[str, Any],
        max_calls: int | None = None,
    ) -> None:
        """Start the process. `options`: those of actors. `max_calls`: calls after which a new process takes over."""
        # An actor that holds no CPU can start wherever its owner runs, also inside a task that has the last one.
        self._class = _Actor.options(**{"num_cpus": 0, **options})
        self._arguments = (initializer, tuple(initargs))
        self._max_calls = max_calls
        self._calls = 0
        self._killed = False
        self._actor: ActorHandle[Any] | None = self._class.remote(*self._arguments)

    def ready(self) -> None:
        """Wait until the initializer has run. Raises the initializer's exception."""
        try:
            value_of(self._living().__ray_ready__.remote())
        except ActorDiedError as error:
            self._actor = None
            if error.cause is None:
                raise
            raise error.cause from error

    def start(self, name: str, fn: Callable[..., Any], args: Iterable[Any], kwargs: Mapping[str, Any]) -> Any:
        """Begin a call, and return its ref. Raises TypeError when something cannot be pickled."""
        actor = self._living()
        ref: ObjectRef[Any] = actor.run.options(name=name).remote(fn, *args, **kwargs)
        self._calls += 1
        if self._calls == self._max_calls:
            # It ends when this call has, since nobody has a handle any more.
            self._actor, self._calls = None, 0
        return ref

    def finish(self, ref: ObjectRef[Any]) -> Any:
        """Return the value of a call. Raises the call's exception; ActorDiedError when the process died of the call."""
        try:
            return value_of(ref)
        except ActorDiedError:
            self._actor, self._calls = None, 0
            if self._killed:
                raise TaskCancelledError("The pool was terminated before this call had ended.") from None
            raise

    def kill(self) -> None:
        """Kill the process now and for ever. Any thread."""
        self._killed = True
        actor = self._actor
        if actor is not None:
            with contextlib.suppress(Exception):  # the session has ended, and the process with it
                api.kill(actor)

    def end(self) -> None:
        """End the process when the calls that were made have ended."""
        self._actor = None

    def _living(self) -> ActorHandle[Any]:
        if self._actor is None:
            self._actor = self._class.remote(*self._arguments)
        if self._killed:
            self.kill()
            raise TaskCancelledError("The pool was terminated.")
        return self._actor
