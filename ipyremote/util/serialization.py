"""Custom serializers for classes, and the parts of a value that cannot be pickled, as in `ray.util`."""

from __future__ import annotations

from collections.abc import Callable
from typing import IO, Any, Final

from ipyremote.serialization import diagnosis, pickling

__all__ = ["FailureTuple", "deregister_serializer", "inspect_serializability", "register_serializer"]

_WIDTH: Final = 80


def register_serializer(
    cls: type, *, serializer: Callable[[Any], Any], deserializer: Callable[[Any], Any]
) -> None:
    """Pickle instances of a class by a function of the user's. As `ray.util.register_serializer`.

    It applies to what this process sends: arguments, `put`, and in a worker results. The deserializer travels with the
    instance, so the process that receives the instance needs no registration.

    Parameters
    ----------
    cls : type
        The class; instances of its subclasses are pickled as usual.
    serializer : callable
        Takes an instance and returns something that can be pickled.
    deserializer : callable
        Takes what `serializer` returned and returns an instance.

    Raises
    ------
    TypeError
        `cls` is not a class, or a function is not callable.

    Examples
    --------
    >>> import threading
    >>> from ipyremote.util import deregister_serializer, register_serializer
    >>> class Guarded:
    ...     def __init__(self, value):
    ...         self.value, self.lock = value, threading.Lock()
    >>> register_serializer(Guarded, serializer=lambda guarded: guarded.value, deserializer=Guarded)
    >>> ray.get(ray.put(Guarded(3))).value
    3
    >>> deregister_serializer(Guarded)
    """
    if not isinstance(cls, type):
        raise TypeError(f"register_serializer() takes a class, not {cls!r}")
    for name, given in (("serializer", serializer), ("deserializer", deserializer)):
        if not callable(given):
            raise TypeError(f"{name} is a function of one argument, not {given!r}")
    pickling.register(cls, serializer, deserializer)


def deregister_serializer(cls: type) -> None:
    """Undo `register_serializer`. Values that were pickled before can still be read.

    Parameters
    ----------
    cls : type
        The class. Nothing happens if it has no serializer.

    Examples
    --------
    >>> from ipyremote.util import deregister_serializer
    >>> deregister_serializer(complex)
    """
    pickling.deregister(cls)


class FailureTuple:
    """A part of a value that cannot be pickled."""

    def __init__(self, obj: Any, name: str, parent: Any) -> None:
        self.obj = obj
        #: What its parent calls it.
        self.name = name
        #: What it is a part of; None for the value itself.
        self.parent = parent

    def __repr__(self) -> str:
        return f"FailTuple({self.name} [obj={self.obj!r}, parent={self.parent!r}])"


def inspect_serializability(
    base_obj: Any, name: str | None = None, depth: int = 3, print_file: IO[str] | None = None
) -> tuple[bool, set[FailureTuple]]:
    """Print which parts of a value cannot be pickled. As `ray.util.inspect_serializability`.

    It looks at items, attributes, and the closure and globals of functions.

    Parameters
    ----------
    base_obj : object
        The value.
    name : str, optional
        The value's name in the report.
    depth : int, default 3
        Levels of parts to look at. ValueError for a negative number.
    print_file : file, optional
        Where the report is printed; by default stdout.

    Returns
    -------
    serializable : bool
        Whether the value can be pickled.
    failures : set of FailureTuple
        The innermost parts that cannot, each with `obj`, `name` and `parent`.

    Examples
    --------
    >>> import io, threading
    >>> from ipyremote.util import inspect_serializability
    >>> good, failures = inspect_serializability({"lock": threading.Lock()}, print_file=io.StringIO())
    >>> good, [type(failure.obj).__name__ for failure in failures]
    (False, ['lock'])
    """
    if depth < 0:
        raise ValueError(f"depth is a number of levels from 0 up, not {depth}")
    title = f"Checking Serializability of {base_obj!r:.200}"
    rule = "=" * min(len(title), _WIDTH)
    failures: set[FailureTuple] = set()

    def say(text: str, level: int = 0) -> None:
        print("    " * level + text, file=print_file)

    say(f"{rule}\n{title}\n{rule}")
    for part in diagnosis.explore(base_obj, name or str(base_obj), depth, pickling.why_not):
        if part.level:
            say(f"Serializing {part.name!r} {part.value!r:.200}...", part.level)
        say(f"!!! FAIL serialization: {part.reason}", part.level)
        if part.is_innermost:
            failures.add(FailureTuple(part.value, part.name, part.parent))
    if failures:
        listed = "\n".join(f"\t{failure!r}" for failure in failures)
        say(
            f"{rule}\nVariable:\n{listed}\nwas found to be non-serializable, and there may be others behind it."
        )
        say(f"Make it inside of the function or class that uses it, or leave it out (__reduce__).\n{rule}")
    return not failures, failures
