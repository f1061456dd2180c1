"""The engines by name: how an engine is found, and how sessions of the engine are started, joined and found again.

`init(backend="NAME")` and `init("NAME")` start a session of the engine NAME; `init("NAME://...")` joins one. Another
package adds an engine by an entry point of the group `ipyremote.engines`, whose name is NAME and whose object is an
`Engine`; a program adds one by `register`. An engine is imported when it is first asked for.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import cache
from typing import Any, Final, Protocol

from ipyremote.backend.capabilities import Capabilities
from ipyremote.backend.protocol import Backend
from ipyremote.backend.records import KeptNames, KeptSession

__all__ = [
    "DEFAULT",
    "GROUP",
    "Engine",
    "Keeper",
    "engine",
    "engine_of",
    "is_known",
    "names",
    "register",
    "unregister",
]

#: Name of the engine of a session for which nobody has chosen one.
DEFAULT: Final = "local"
#: Group of the entry points by which other packages add engines.
GROUP: Final = "ipyremote.engines"
#: Where the engines of this package are, as "module:object".
_OWN: Final[Mapping[str, str]] = {
    "local": "ipyremote.backends.local:ENGINE",
    "inline": "ipyremote.backends.inline.backend:ENGINE",
}
#: Addresses that mean the default engine.
_DEFAULT_ADDRESSES: Final = ("local", "auto")


class Engine(Protocol):
    """An engine, before any session of the engine runs in this process."""

    @property
    def capabilities(self) -> Capabilities:
        """What sessions of the engine can do."""

    @property
    def keeper(self) -> Keeper | None:
        """How sessions are found that have outlived their programs; None where none can."""

    def start(self, arguments: Mapping[str, Any]) -> Backend:
        """Start a session with the checked arguments of `init`, without waiting until the session is up.

        Arguments that were not given are missing. Raises IPyRemoteSystemError, and ValueError for what cannot be met.
        """

    def join(self, address: str, arguments: Mapping[str, Any]) -> tuple[Backend, Mapping[str, Any]]:
        """Join a session that runs already; return its backend, and the arguments that the session was started with.

        Raises ConnectionError where there is nothing to join.
        """


class Keeper(Protocol):
    """How sessions are found that may outlive their programs."""

    def find(self) -> list[KeptSession]:
        """Return the sessions of this user that may outlive their programs, the latest first. Takes nothing."""

    def look(self, session: KeptSession) -> KeptNames | None:
        """Return what is kept in a session; None when the session is gone or does not answer."""

    def take_over(self, session: KeptSession) -> Backend:
        """Be the program of a session that has none, with a `recovery`.

        Raises ClusterLostError when the session has ended meanwhile, RuntimeError when another process was faster.
        """


#: Engines that a program has registered, by name.
_registered: dict[str, Engine] = {}


def register(name: str, engine: Engine) -> None:
    """Let `init(backend=name)`, `init(name)` and `init(f"{name}://...")` mean this engine in this process.

    Raises ValueError for a name that cannot stand in an address or is one of this package's own, and TypeError for what
    is no engine.
    """
    letters = name.replace("-", "").replace("+", "")
    if not (letters.isascii() and letters.isalnum() and letters.islower()):
        raise ValueError(f"the name of an engine is lower-case letters, digits, '+' and '-', not {name!r}")
    if name in _OWN or name in _DEFAULT_ADDRESSES:
        raise ValueError(f"{name!r} means an engine of ipyremote itself; register yours by another name")
    _registered[name] = _checked(name, engine)


def unregister(name: str) -> None:
    """Undo `register`."""
    _registered.pop(name, None)


def names() -> tuple[str, ...]:
    """Return the names of all engines, those of this package first."""
    return tuple(dict.fromkeys((*_OWN, *_registered, *_entry_points())))


def is_known(name: str) -> bool:
    """Return whether an engine has this name. Installed packages are looked at last, for a name that is not here."""
    return name in _OWN or name in _registered or name in _entry_points()


def engine(name: str) -> Engine:
    """Return an engine by its name. Raises LookupError for an unknown name, ImportError where a package is missing."""
    found = _registered.get(name)
    return _loaded(name) if found is None else found


def engine_of(address: str) -> tuple[str, Engine] | None:
    """Return (name, engine) of an address such as "local", "/dev/shm/ipyremote-x", "auto", "NAME" or "NAME://host"."""
    if address in _DEFAULT_ADDRESSES or address.startswith("/"):
        return DEFAULT, engine(DEFAULT)
    name = address.partition("://")[0]
    return (name, engine(name)) if is_known(name) else None


@cache
def _loaded(name: str) -> Engine:
    if name in _OWN:
        module, _, attribute = _OWN[name].partition(":")
        found: Engine = getattr(importlib.import_module(module), attribute)
        return found
    point = _entry_points().get(name)
    if point is None:
        raise LookupError(f"there is no engine {name!r}; there are: {', '.join(names())}")
    package = f"the package {point.dist.name!r}" if point.dist is not None else "a package"
    try:
        found = point.load()
    except ImportError as error:
        raise ImportError(
            f"The engine {name!r} of {package} cannot be imported from {point.value!r}: {error}. "
            f"Install what is missing; these engines are there without it: {', '.join(_OWN)}."
        ) from error
    except AttributeError as error:
        raise ImportError(f"The engine {name!r} of {package} is not at {point.value!r}: {error}") from error
    return _checked(name, found)


def _checked(name: str, engine: Any) -> Engine:
    """Return the engine. Raises TypeError for an object that is none."""
    if not isinstance(getattr(engine, "capabilities", None), Capabilities):
        raise TypeError(f"the engine {name!r} is an `Engine` with `capabilities`, not {engine!r}")
    checked: Engine = engine
    return checked


@cache
def _entry_points() -> dict[str, Any]:
    # Not at the top: most programs need no engine of another package, and import and search take 30 milliseconds.
    from importlib.metadata import entry_points

    return {point.name: point for point in entry_points(group=GROUP)}
