"""Custom serializers for classes, and what of a value cannot be pickled. Names and behaviour as in `ray.util`."""

from __future__ import annotations

from collections.abc import Callable
from typing import IO, Any, Final

from ipyremote.serialization import diagnosis, pickling

__all__ = ["FailureTuple", "deregister_serializer", "inspect_serializability", "register_serializer"]

_WIDTH: Final = 80


def register_serializer(
    cls: type, *, serializer: Callable[[Any], Any], deserializer: Callable[[Any], Any]
) -> None:
    """Pickle instances of exactly this class as `serializer(instance)`, and make them anew with `deserializer` of that.

    It applies to what this process sends: arguments, `put`, and in a worker results. The deserializer travels with the
    instance, so the process that receives it needs no registration. Raises TypeError for anything but a class and two
    callables.
    """
    if not isinstance(cls, type):
        raise TypeError(f"register_serializer() takes a class, not {cls!r}")
    for name, given in (("serializer", serializer), ("deserializer", deserializer)):
        if not callable(given):
            raise TypeError(f"{name} is a function of one argument, not {given!r}")
    pickling.register(cls, serializer, deserializer)


def deregister_serializer(cls: type) -> None:
    """Undo `register_serializer`; nothing happens if there was none. What was pickled before can still be read."""
    pickling.deregister(cls)


class FailureTuple:
    """A part that cannot be pickled."""

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
    """(whether the object can be pickled, the innermost parts to blame), and a report to `print_file` or stdout.

    It looks at items, attributes, and the closure and globals of functions, `depth` levels deep. Raises ValueError for
    a negative `depth`.
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
