"""The arguments of a call: into a pickle with slots for the top-level refs, and back.

A ref at the top of the arguments arrives as the value of its object, so the pickle has a `Slot` in the ref's place, and
the process that runs the call fills the slots. A ref inside another argument arrives as a ref.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from ipyremote.ids import ObjectId
from ipyremote.refs import ObjectRef
from ipyremote.serialization.pickling import Pickled, Slot, dumps, joined, loads_inline

__all__ = ["PickledCall", "fill_slots", "pack_arguments", "pickled_call"]

#: Names of the two parts of the arguments in error messages.
_NAMES: Final = ("args", "kwargs")


def pack_arguments(
    args: tuple[Any, ...], kwargs: Mapping[str, Any], check: Callable[[ObjectRef[Any]], ObjectId]
) -> tuple[Pickled | None, tuple[ObjectId, ...]]:
    """Pickle arguments: (the pickle, None for a call without arguments; ids of the top-level refs by their `Slot`).

    `check` gives a ref's id, or raises when the ref belongs elsewhere. Raises TypeError naming what cannot be pickled.
    """
    if not args and not kwargs:
        return None, ()
    deps: list[ObjectId] = []
    for arg in args:
        if isinstance(arg, ObjectRef):
            args = tuple(_slotted(args, check, deps))
            break
    slotted = dict(zip(kwargs, _slotted(kwargs.values(), check, deps), strict=True)) if kwargs else {}
    return dumps((args, slotted), _NAMES), tuple(deps)


def _slotted(
    values: Iterable[Any], check: Callable[[ObjectRef[Any]], ObjectId], deps: list[ObjectId]
) -> list[Any]:
    """Return the values with a slot in the place of each ref, whose id is appended to `deps`."""
    slotted = list(values)
    # A loop without a call for each value: a call may have ten thousand refs.
    for place, value in enumerate(slotted):
        if isinstance(value, ObjectRef):
            object_id = check(value)
            slotted[place] = Slot(len(deps))
            deps.append(object_id)
    return slotted


def fill_slots(
    arguments: tuple[tuple[Any, ...], dict[str, Any]], values: Sequence[Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments with each top-level `Slot` replaced by the value of its dependency."""
    args, kwargs = arguments
    if not values:
        return args, kwargs
    filled = tuple(values[arg.index] if type(arg) is Slot else arg for arg in args)
    return filled, {name: values[arg.index] if type(arg) is Slot else arg for name, arg in kwargs.items()}


class PickledCall(NamedTuple):
    """The arguments of one call in one piece, which can be unpickled any number of times."""

    data: bytes = b""
    #: Sizes of the pickle and its buffers in `data`, in bytes; empty if `data` is one pickle. See `messages.values`.
    sizes: tuple[int, ...] = ()
    #: Ids of the objects whose values go into the slots.
    deps: tuple[ObjectId, ...] = ()
    #: Ids of all objects and actors that the arguments refer to, which the keeper of the call must hold.
    refs: tuple[ObjectId, ...] = ()

    def open(self, values: Sequence[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return fresh copies of the arguments. `values` has the values of `deps`, in order."""
        return fill_slots(loads_inline(self), values) if self.data else ((), {})


def pickled_call(
    args: tuple[Any, ...], kwargs: Mapping[str, Any], check: Callable[[ObjectRef[Any]], ObjectId]
) -> PickledCall:
    """Pickle arguments into one piece; see `pack_arguments`."""
    pickled, deps = pack_arguments(args, kwargs, check)
    return PickledCall() if pickled is None else PickledCall(*joined(pickled), deps, (*pickled.refs, *deps))
