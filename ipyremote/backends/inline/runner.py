"""The runner of user code on the calling thread: arguments in, outcomes out.

The inline backend, its streams and its actors share one runner. The runner starts and restarts nothing by itself.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from ipyremote.backend import Identity
from ipyremote.backends.inline.call_stack import InlineStack
from ipyremote.backends.inline.objects import InlineActor, InlineObjects, Outcome
from ipyremote.client.value_packing import NO_ARGUMENTS, inline
from ipyremote.engine_kit.call_arguments import fill_slots, pack_arguments
from ipyremote.engine_kit.call_context import Label
from ipyremote.engine_kit.failures import together
from ipyremote.engine_kit.outcomes import drawn, failure_from, split
from ipyremote.exceptions import ObjectLostError
from ipyremote.messages import Failure, Inline
from ipyremote.refs import ObjectRef
from ipyremote.serialization import pickling

__all__ = ["InlineArguments", "InlineRunner", "process_ended"]


@dataclass(frozen=True, slots=True)
class InlineArguments:
    """Pickled arguments of one call."""

    data: Inline
    #: Ids of the objects whose values go into the slots.
    deps: tuple[int, ...]
    #: Ids of all objects and actors that the arguments refer to.
    refs: tuple[int, ...]


class InlineRunner:
    """See the module docstring."""

    def __init__(
        self,
        objects: InlineObjects,
        stack: InlineStack,
        id_of: Callable[[ObjectRef[Any]], int],
        notice: Callable[[str], None],
    ) -> None:
        """`id_of` gives the id of a ref, or raises for a ref of another session. `notice` shows the user a sentence."""
        self._objects = objects
        self._stack = stack
        self._id_of = id_of
        self._notice = notice

    # ----------------------------------------------------------------------------------------------------- arguments

    def pack(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> InlineArguments:
        """Pickle arguments, with slots for the top-level refs. Raises TypeError naming what cannot be pickled."""
        pickled, deps = pack_arguments(args, kwargs, self._id_of)
        if pickled is None:
            return InlineArguments(NO_ARGUMENTS, (), ())
        return InlineArguments(inline(pickled), deps, (*pickled.refs, *deps))

    def open(self, packed: InlineArguments) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Make fresh copies of the arguments. Raises the failures of the dependencies."""
        values = self.values(packed.deps)
        arguments = pickling.loads_inline(packed.data) if packed.data.data else ((), {})
        return fill_slots(arguments, values)

    def values(self, ids: Sequence[int]) -> list[Any]:
        """Unpickle the values of objects. Raises their failures, or ObjectLostError."""
        values = [self._value(any_id) for any_id in ids]
        if failures := [value for value in values if isinstance(value, Failure)]:
            raise together(failures)
        return [pickling.loads_inline(value) for value in values]

    def _value(self, any_id: int) -> Any:
        """Return the pickled value, or the failure, of an object."""
        found = self._objects.find(any_id)
        if found is None:
            raise ObjectLostError(f"The object {any_id:x} is not in this session.")
        return found.outcome.value

    def failed_dependency(self, packed: InlineArguments) -> Outcome | None:
        """Return the first failure among the dependencies."""
        for any_id in packed.deps:
            found = self._objects.find(any_id)
            if found is not None and type(found.outcome.value) is Failure:
                return found.outcome
        return None

    # ------------------------------------------------------------------------------------------------------- the call

    def call(
        self,
        label: Label,
        target: Callable[[], Callable[..., Any]],
        packed: InlineArguments,
        returns: int,
        actor: InlineActor | None,
        identity: Identity,
    ) -> Any:
        """Call `target()` with fresh copies of its arguments, and return the result of the call."""
        args, kwargs = self.open(packed)
        with self._stack.inside(label, actor, identity):
            result = target()(*args, **kwargs)
            if actor is not None and inspect.iscoroutine(result):
                result = self.run_coroutine(actor, result, label)
            # A generator's body is user code too, so the block ends after it.
            if returns != 1 and isinstance(result, Iterator):
                result = drawn(result, returns, str(label), self._notice)
        return result

    def run_coroutine(self, actor: InlineActor, awaitable: Awaitable[Any], label: Label) -> Any:
        """Run a coroutine of an async actor to its end, and return its result."""
        return actor.wait_for(awaitable, partial(self._stack.inside, label, actor, self._stack.identity))

    # ------------------------------------------------------------------------------------------------------- outcomes

    def outcomes(self, result: Any, returns: int) -> list[Outcome]:
        """Make the outcomes of a call's returns. Raises ValueError when the result has another number of items."""
        if returns == 1:
            return [self.outcome(result)]
        return [self.outcome(item) for item in split(result, returns)]

    def outcome(self, value: Any) -> Outcome:
        """Make the outcome of a call that returned `value`."""
        if isinstance(value, ObjectRef) and value._deferred:
            # A deferred ref stands for the value of another object, which inline is known already.
            found = self._objects.find(self._id_of(value))
            assert found is not None
            return found.outcome
        pickled = pickling.dumps(value)
        # The caller holds the ids in the outcome while the task's own refs inside the value are still alive.
        return Outcome(inline(pickled), pickled.refs)

    def failure(self, error: BaseException, label: Label) -> Failure:
        """Make the failure of a call that raised `error`."""
        return Failure(*failure_from(error, str(label)))

    def crash(self, reason: str, actor: InlineActor | None) -> Failure:
        """Make the failure of a call whose code asked for the end of its process. The actor, if any, ends with it."""
        if actor is None:
            return Failure("worker_crashed", reason)
        actor.end(reason)
        return Failure("actor_died", reason)


def process_ended(label: Label, error: BaseException) -> str:
    """Return the reason of the end of a task or actor whose code asked for the end of its process."""
    return f"{label} ended the process that it ran in: {type(error).__name__}: {error}"
