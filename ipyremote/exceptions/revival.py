"""Pickling of user exceptions, including classes whose `__init__` takes other arguments than `Exception.__init__` got.

Pickle recreates an exception by calling its class with `args`. For such a class the call fails or makes a different
exception. This module creates the instance with its built-in base class and restores its state, so no `__init__` of
user code runs again. A class that defines its own pickling is left alone.
"""

from __future__ import annotations

import types
from typing import Any, Final

__all__ = ["native_class", "portable", "revived"]

#: Bit of `type.__flags__` of a class created at run time (`Py_TPFLAGS_HEAPTYPE`); built-in classes lack this bit.
_HEAP_TYPE: Final = 1 << 9


def portable(error: BaseException | None) -> Any:
    """Return the picklable form of an exception: the exception itself, or the arguments of `revived` as a tuple."""
    kind: Any = type(error)
    if error is None or not isinstance(kind.__init__, types.FunctionType):
        return error
    says_itself = isinstance(kind.__reduce__, types.FunctionType)
    if says_itself or kind.__reduce_ex__ is not object.__reduce_ex__:
        return error
    reduced = error.__reduce__()
    return reduced if isinstance(reduced, tuple) and reduced[0] is kind else error


def revived(kind: type[BaseException], args: tuple[Any, ...], state: Any = None) -> BaseException:
    """Return a new exception of class `kind` with these `args` and attributes, without calling its `__init__`."""
    native: Any = native_class(kind)
    error: BaseException = native.__new__(kind, *args)
    native.__init__(error, *args)
    if state is not None:
        error.__setstate__(state)
    return error


def native_class(kind: type[BaseException]) -> type[BaseException]:
    """Return the built-in exception class that `kind` inherits from."""
    return next(base for base in kind.__mro__ if not base.__flags__ & _HEAP_TYPE)
