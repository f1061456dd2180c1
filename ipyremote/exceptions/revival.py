"""Exceptions of user code through pickle, also those whose `__init__` wants other arguments than `Exception` got.

Pickle would make such an exception by calling its class with `args`, which fails, or gives another exception. Here the
instance is made by the interpreter's own class beneath and gets its state, and no `__init__` of user code runs again. A
class that says itself how it is pickled is left alone.
"""

from __future__ import annotations

import types
from typing import Any, Final

__all__ = ["native_class", "portable", "revived"]

_HEAP_TYPE: Final = 1 << 9


def portable(error: BaseException | None) -> Any:
    """What stands for an exception in a pickle: itself, or the arguments of `revived` as a tuple."""
    kind: Any = type(error)
    if error is None or not isinstance(kind.__init__, types.FunctionType):
        return error
    says_itself = isinstance(kind.__reduce__, types.FunctionType)
    if says_itself or kind.__reduce_ex__ is not object.__reduce_ex__:
        return error
    reduced = error.__reduce__()
    return reduced if isinstance(reduced, tuple) and reduced[0] is kind else error


def revived(kind: type[BaseException], args: tuple[Any, ...], state: Any = None) -> BaseException:
    """The exception with these `args` and attributes."""
    native: Any = native_class(kind)
    error: BaseException = native.__new__(kind, *args)
    native.__init__(error, *args)
    if state is not None:
        error.__setstate__(state)
    return error


def native_class(kind: type[BaseException]) -> type[BaseException]:
    """The class of the interpreter that this one is built on."""
    return next(base for base in kind.__mro__ if not base.__flags__ & _HEAP_TYPE)
