"""Records of parameters: small signatures that every `.remote()` checks its arguments against, pickled with handles.

They are not `inspect.Signature`, whose `bind` takes tens of microseconds and whose pickle is large. Rules. A call that
Python would accept is never refused: a function whose signature cannot be read has no record. Error texts are those of
Python. The signature is that of the function itself and not of a wrapped one, because a decorator may add arguments.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Parameters", "parameters_of", "parameters_of_class"]

#: Number of positional arguments that no call reaches.
_UNBOUNDED = 1 << 30


@dataclass(frozen=True, slots=True)
class Parameters:
    """The parameters of one function. `check` is needed unless there are no keywords and low <= count <= high."""

    #: Name of the function in error texts.
    name: str
    #: Names of the parameters that can be given by position, in order.
    positional: tuple[str, ...]
    #: Number of the first parameters in `positional` that cannot be given by name.
    positional_only: int
    #: Number of the first parameters in `positional` that have no default.
    required: int
    keyword_only: tuple[str, ...]
    required_keywords: frozenset[str]
    takes_any_keyword: bool
    #: Smallest and largest number of arguments of a call without keywords.
    low: int
    high: int
    #: Number of parameters that the call fills in; 1 for a method, because Python counts `self` in error texts.
    bound: int = 0

    @property
    def takes_any_number(self) -> bool:
        """Whether there is a `*args`."""
        return self.high == _UNBOUNDED

    def check(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Raise the TypeError that Python would raise for this call, if any."""
        count = len(args)
        by_position = self.positional[:count]
        by_name = self.positional[self.positional_only :]
        stray = [name for name in kwargs if name not in by_name and name not in self.keyword_only]
        if stray and not self.takes_any_keyword:
            self._refuse_stray(stray)
        for name in by_position[self.positional_only :]:
            if name in kwargs:
                raise TypeError(f"{self.name}() got multiple values for argument {name!r}")
        if count > len(self.positional) and self.high < _UNBOUNDED:
            raise TypeError(f"{self.name}() takes {self._accepted()} but {_were(count + self.bound)} given")
        wanted = self.positional[count : self.required]
        missing = [
            name for i, name in enumerate(wanted, count) if i < self.positional_only or name not in kwargs
        ]
        if missing:
            raise TypeError(f"{self.name}() missing {_listed(missing, 'positional')}")
        missing = [
            name for name in self.keyword_only if name in self.required_keywords and name not in kwargs
        ]
        if missing:
            raise TypeError(f"{self.name}() missing {_listed(missing, 'keyword-only')}")

    def _refuse_stray(self, stray: list[str]) -> None:
        misnamed = [name for name in stray if name in self.positional[: self.positional_only]]
        if misnamed:
            raise TypeError(
                f"{self.name}() got some positional-only arguments passed as keyword arguments: "
                f"{', '.join(misnamed)!r}"
            )
        raise TypeError(f"{self.name}() got an unexpected keyword argument {stray[0]!r}")

    def _accepted(self) -> str:
        most = len(self.positional) + self.bound
        least = self.required + self.bound
        words = f"{most}" if most == least else f"from {least} to {most}"
        return f"{words} positional argument{'' if most == 1 else 's'}"


def parameters_of(fn: Callable[..., Any], *, bound: int = 0) -> Parameters | None:
    """Return the record of a function without its first `bound` parameters; None if its signature cannot be read."""
    try:
        found = list(inspect.signature(fn, follow_wrapped=False).parameters.values())
    except (TypeError, ValueError):
        return None
    filled_by_position = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    positional = [p for p in found if p.kind in filled_by_position]
    takes_rest = any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in found)
    if len(positional) < bound:
        if not takes_rest:
            return None
        # `self` is the first item of *args.
        bound = len(positional)
    positional = positional[bound:]
    keyword_only = [p for p in found if p.kind is inspect.Parameter.KEYWORD_ONLY]
    required = sum(1 for p in positional if p.default is p.empty)
    required_keywords = frozenset(p.name for p in keyword_only if p.default is p.empty)
    return Parameters(
        name=getattr(fn, "__qualname__", type(fn).__name__).rpartition("<locals>.")[2],
        positional=tuple(p.name for p in positional),
        positional_only=sum(1 for p in positional if p.kind is inspect.Parameter.POSITIONAL_ONLY),
        required=required,
        keyword_only=tuple(p.name for p in keyword_only),
        required_keywords=required_keywords,
        takes_any_keyword=any(p.kind is inspect.Parameter.VAR_KEYWORD for p in found),
        # A required keyword excludes every call without keywords.
        low=_UNBOUNDED if required_keywords else required,
        high=_UNBOUNDED if takes_rest else len(positional),
        bound=bound,
    )


def parameters_of_class(cls: type) -> Parameters | None:
    """Return the record of a class; None if not `__init__`, but a metaclass or `__new__` takes the arguments."""
    if inspect.getattr_static(type(cls), "__call__") is not inspect.getattr_static(type, "__call__"):
        return None
    initialise = inspect.getattr_static(cls, "__init__")
    if initialise is not inspect.getattr_static(object, "__init__"):
        return parameters_of(initialise, bound=1)
    if inspect.getattr_static(cls, "__new__") is not inspect.getattr_static(object, "__new__"):
        return None
    return Parameters(
        name=cls.__name__,
        positional=(),
        positional_only=0,
        required=0,
        keyword_only=(),
        required_keywords=frozenset(),
        takes_any_keyword=False,
        low=0,
        high=0,
    )


def _were(count: int) -> str:
    return f"{count} was" if count == 1 else f"{count} were"


def _listed(names: list[str], kind: str) -> str:
    quoted = [repr(name) for name in names]
    text = f"{', '.join(quoted[:-1])}, and {quoted[-1]}" if len(quoted) > 2 else " and ".join(quoted)
    return f"{len(names)} required {kind} argument{'' if len(names) == 1 else 's'}: {text}"
