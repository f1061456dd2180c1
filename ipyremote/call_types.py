"""What type checkers know of `.remote(...)`: a call of a function gives a ref of what the function returns.

`RemoteCall[F, Out]` is a call of `F` that gives `Out` (a ref, a list of refs, a generator of refs). Its first overload
takes exactly what `F` takes, keywords included. The others take a value or a ref for each of the first one to eight
positional arguments, and for the rest what `F` takes. So mypy and pyright know the type of `get(f.remote(1))`, let a
ref stand for an argument, and refuse `f.remote("x")`.

Limits, all of the type system:

- A ref as a keyword argument is refused: pass refs by position.
- What a decorated class becomes is known to pyright; mypy ignores decorators of classes, so `A = remote(PlainA)` is the
  form that mypy understands.
- The attributes of a handle are methods of any signature. `add: ActorMethod[[int], int] = handle.add` gives one a type.
- mypy cannot solve the type variables of a generic function behind `.remote`; pyright can.

Nothing here runs: `remote.py` and `actor.py` name these types in annotations only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, overload

if TYPE_CHECKING:
    from ipyremote.refs import ObjectRef

__all__ = ["Gives", "GivesList", "RemoteCall"]

P = ParamSpec("P")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
E = TypeVar("E")
F = TypeVar("F")
G = TypeVar("G")
H = TypeVar("H")
Fn_co = TypeVar("Fn_co", covariant=True)
Out_co = TypeVar("Out_co", covariant=True)


class Gives(Generic[Out_co]):
    """A mark in the place of a function's result: `num_returns` of `@remote` says that `.remote()` gives `Out_co`."""


class GivesList:
    """A mark in the place of a function's result: `.remote()` gives a list of refs.

    Not `Gives[list[ObjectRef[Any]]]`: with an Any inside, pyright finds several overloads equally good.
    """


class RemoteCall(Generic[Fn_co, Out_co]):
    """A call of a function of type `Fn_co` in another process, which gives `Out_co` at once.

    Not a `Protocol`: mypy would match the `self` of each overload against all overloads again, and so need minutes
    wherever it compares such a call with a callable.
    """

    #: The function itself.
    __wrapped__: Fn_co

    @overload
    def __call__(
        self: RemoteCall[Callable[P, Any], Out_co], /, *args: P.args, **kwargs: P.kwargs
    ) -> Out_co: ...
    @overload
    def __call__(
        self: RemoteCall[Callable[Concatenate[A, P], Any], Out_co],
        a: A | ObjectRef[A],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Out_co: ...
    @overload
    def __call__(
        self: RemoteCall[Callable[Concatenate[A, B, P], Any], Out_co],
        a: A | ObjectRef[A],
        b: B | ObjectRef[B],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Out_co: ...
    @overload
    def __call__(
        self: RemoteCall[Callable[Concatenate[A, B, C, P], Any], Out_co],
        a: A | ObjectRef[A],
        b: B | ObjectRef[B],
        c: C | ObjectRef[C],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Out_co: ...
    @overload
    def __call__(
        self: RemoteCall[Callable[Concatenate[A, B, C, D, P], Any], Out_co],
        a: A | ObjectRef[A],
        b: B | ObjectRef[B],
        c: C | ObjectRef[C],
        d: D | ObjectRef[D],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Out_co: ...
    @overload
    def __call__(
        self: RemoteCall[Callable[Concatenate[A, B, C, D, E, P], Any], Out_co],
        a: A | ObjectRef[A],
        b: B | ObjectRef[B],
        c: C | ObjectRef[C],
        d: D | ObjectRef[D],
        e: E | ObjectRef[E],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Out_co: ...
    @overload
    def __call__(
        self: RemoteCall[Callable[Concatenate[A, B, C, D, E, F, P], Any], Out_co],
        a: A | ObjectRef[A],
        b: B | ObjectRef[B],
        c: C | ObjectRef[C],
        d: D | ObjectRef[D],
        e: E | ObjectRef[E],
        f: F | ObjectRef[F],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Out_co: ...
    @overload
    def __call__(
        self: RemoteCall[Callable[Concatenate[A, B, C, D, E, F, G, P], Any], Out_co],
        a: A | ObjectRef[A],
        b: B | ObjectRef[B],
        c: C | ObjectRef[C],
        d: D | ObjectRef[D],
        e: E | ObjectRef[E],
        f: F | ObjectRef[F],
        g: G | ObjectRef[G],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Out_co: ...
    @overload
    def __call__(
        self: RemoteCall[Callable[Concatenate[A, B, C, D, E, F, G, H, P], Any], Out_co],
        a: A | ObjectRef[A],
        b: B | ObjectRef[B],
        c: C | ObjectRef[C],
        d: D | ObjectRef[D],
        e: E | ObjectRef[E],
        f: F | ObjectRef[F],
        g: G | ObjectRef[G],
        h: H | ObjectRef[H],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Out_co: ...
    def __call__(self, /, *args: Any, **kwargs: Any) -> Any: ...
