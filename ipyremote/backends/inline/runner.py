"""The runner of user code on the calling thread: arguments in, outcomes out.

The inline backend, its streams and its actors share one runner. The runner starts and restarts nothing by itself.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from ipyremote.backend import Identity
from ipyremote.backends.inline.call_stack import InlineStack
from ipyremote.backends.inline.objects import InlineActor, InlineObjects, InlineOutcome
from ipyremote.engine_kit.call_arguments import PickledCall, pickled_call
from ipyremote.engine_kit.call_context import Label
from ipyremote.engine_kit.failures import PickledFailure, together
from ipyremote.engine_kit.outcomes import drawn, failure_from, split, value_of
from ipyremote.exceptions import ObjectLostError
from ipyremote.ids import ObjectId
from ipyremote.refs import ObjectRef
from ipyremote.serialization import pickling

__all__ = ["InlineRunner", "process_ended"]


class InlineRunner:
    """See the module docstring."""

    def __init__(
        self,
        objects: InlineObjects,
        stack: InlineStack,
        id_of: Callable[[ObjectRef[Any]], ObjectId],
        notice: Callable[[str], None],
    ) -> None:
        """`id_of` gives the id of a ref, or raises for a ref of another session. `notice` shows the user a sentence."""
        self._objects = objects
        self._stack = stack
        self._id_of = id_of
        self._notice = notice

    # ----------------------------------------------------------------------------------------------------- arguments

    def pack(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> PickledCall:
        """Pickle arguments, with slots for the top-level refs. Raises TypeError naming what cannot be pickled."""
        return pickled_call(args, kwargs, self._id_of)

    def open(self, packed: PickledCall) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Make fresh copies of the arguments. Raises the failures of the dependencies."""
        return packed.open(self.values(packed.deps))

    def values(self, ids: Sequence[ObjectId]) -> list[Any]:
        """Unpickle the values of objects. Raises their failures, or ObjectLostError."""
        outcomes = [self._outcome_of(any_id) for any_id in ids]
        if failures := [outcome for outcome in outcomes if isinstance(outcome, PickledFailure)]:
            raise together(failures)
        return [pickling.loads_inline(outcome) for outcome in outcomes]

    def _outcome_of(self, any_id: ObjectId) -> Any:
        """Return the outcome of an object. Raises ObjectLostError."""
        found = self._objects.find(any_id)
        if found is None:
            raise ObjectLostError(f"The object {any_id:x} is not in this session.")
        return found.outcome

    def failed_dependency(self, packed: PickledCall) -> PickledFailure | None:
        """Return the first failure among the dependencies."""
        for any_id in packed.deps:
            found = self._objects.find(any_id)
            if found is not None and isinstance(found.outcome, PickledFailure):
                return found.outcome
        return None

    # ------------------------------------------------------------------------------------------------------- the call

    def call(
        self,
        label: Label,
        target: Callable[[], Callable[..., Any]],
        packed: PickledCall,
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

    def outcomes(self, result: Any, returns: int) -> list[InlineOutcome]:
        """Make the outcomes of a call's returns. Raises ValueError when the result has another number of items."""
        if returns == 1:
            return [self.outcome(result)]
        return [self.outcome(item) for item in split(result, returns)]

    def outcome(self, value: Any) -> InlineOutcome:
        """Make the outcome of a call that returned `value`."""
        if isinstance(value, ObjectRef) and value._deferred:
            # A deferred ref stands for the value of another object, which inline is known already.
            found = self._objects.find(self._id_of(value))
            assert found is not None
            return found.outcome
        # The caller holds the ids in the outcome while the task's own refs inside the value are still alive.
        return value_of(value)

    def failure(self, error: BaseException, label: Label) -> PickledFailure:
        """Make the failure of a call that raised `error`."""
        return failure_from(error, str(label))

    def crash(self, reason: str, actor: InlineActor | None) -> PickledFailure:
        """Make the failure of a call whose code asked for the end of its process. The actor, if any, ends with it."""
        if actor is None:
            return PickledFailure("worker_crashed", reason)
        actor.end(reason)
        return PickledFailure("actor_died", reason)


def process_ended(label: Label, error: BaseException) -> str:
    """Return the reason of the end of a task or actor whose code asked for the end of its process."""
    return f"{label} ended the process that it ran in: {type(error).__name__}: {error}"
