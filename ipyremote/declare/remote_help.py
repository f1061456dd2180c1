"""The help of `.remote`: the user's own signature and docstring, and what a remote call does with them.

`.remote` of a function, class or method is a bound method. Its function is a copy with a signature and a docstring of
its own; the code is the same, so a call costs the same.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import FunctionType
from typing import Any

from ipyremote.backend import DYNAMIC, TaskOptions
from ipyremote.declare.signatures import Parameters

__all__ = ["documented", "given_by", "signature_from", "signature_of"]

#: Name of the first parameter, which no user's parameter has.
_SELF = "__ipyremote_self"


def documented(
    function: Callable[..., Any], name: str, signature: inspect.Signature | None, given: Any, text: str
) -> Any:
    """Return a copy of the method `function` that shows the signature of the user's function `name`.

    `signature` is without `self`, or None if it cannot be read. `given` annotates the result; `text` is the docstring.
    """
    assert isinstance(function, FunctionType)
    copy = FunctionType(
        function.__code__,
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    copy.__qualname__ = f"{name}.{function.__name__}"
    copy.__module__ = function.__module__
    copy.__doc__ = text
    if signature is not None:
        first = inspect.Parameter(_SELF, inspect.Parameter.POSITIONAL_ONLY)
        parameters = [first, *signature.parameters.values()]
        vars(copy)["__signature__"] = inspect.Signature(parameters, return_annotation=given)
    return copy


def signature_of(fn: Any, *, bound: int = 0) -> inspect.Signature | None:
    """Return the signature of a function or class without its first `bound` parameters; None if it cannot be read."""
    try:
        signature = inspect.signature(fn)
    except (TypeError, ValueError):
        return None
    parameters = list(signature.parameters.values())
    kept = [p for p in parameters[:bound] if p.kind is inspect.Parameter.VAR_POSITIONAL]
    return signature.replace(parameters=[*kept, *parameters[bound:]])


def signature_from(parameters: Parameters | None) -> inspect.Signature | None:
    """Return a signature made of a record of parameters, for a function that is in another process."""
    if parameters is None:
        return None
    kind = inspect.Parameter
    found = []
    for index, name in enumerate(parameters.positional):
        by_name = kind.POSITIONAL_OR_KEYWORD if index >= parameters.positional_only else kind.POSITIONAL_ONLY
        default = kind.empty if index < parameters.required else ...
        found.append(kind(name, by_name, default=default))
    if parameters.takes_any_number:
        found.append(kind("args", kind.VAR_POSITIONAL))
    for name in parameters.keyword_only:
        default = kind.empty if name in parameters.required_keywords else ...
        found.append(kind(name, kind.KEYWORD_ONLY, default=default))
    if parameters.takes_any_keyword:
        found.append(kind("kwargs", kind.VAR_KEYWORD))
    return inspect.Signature(found)


def given_by(options: TaskOptions, signature: inspect.Signature | None, ref: Any) -> Any:
    """Return the annotation of the result of `.remote()`. `ref` is the class of refs."""
    if options.stream:
        return ref if options.stream == DYNAMIC else "ObjectRefGenerator"
    if options.returns == 0:
        return None
    if options.returns > 1:
        return list[ref]
    result = inspect.Signature.empty if signature is None else signature.return_annotation
    if result is inspect.Signature.empty:
        return ref
    if isinstance(result, str):
        return f"ObjectRef[{result}]"
    try:
        return ref[result]
    except TypeError:  # an annotation may be any object
        return ref
