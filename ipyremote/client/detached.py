"""A driver's part in a session that outlives the driver: telling which names stand for which objects and actors.

A name counts when its value is an `ObjectRef`, an `ActorHandle`, or a list, tuple or dict (also nested) that holds
nothing else. Names that begin with an underscore do not count, nor do a notebook's `In` and `Out`.

Rules. A driver may be killed at any moment, so a thread looks through the names at intervals, and not only when the
program says that names have changed. A look holds no value of the program except containers of refs: if a look dropped
the last reference to another value, the value's finalizer would run in the wrong thread.
"""

from __future__ import annotations

import contextvars
import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Final

from ipyremote.actor import ActorHandle
from ipyremote.backend import Backend, KeptName, KeptNames
from ipyremote.client.channel import Channel
from ipyremote.client.requests import SchedulerRequests
from ipyremote.ids import ObjectId
from ipyremote.messages import Bind, Bound, KeptReply, Taken
from ipyremote.refs import ObjectRef
from ipyremote.serialization import pickling

__all__ = ["DetachedDriver", "contents", "kept_names"]

log = logging.getLogger(__name__)

#: Shortest pause between two looks through the names, in seconds.
LOOK_SECONDS: Final = 1.0
#: Largest share of the time that looks may take; slow looks make the pause longer.
LOOK_SHARE: Final = 0.01
#: Largest depth of containers inside containers.
MAX_DEPTH: Final = 4

#: Types of refs and handles.
_LEAVES: Final = frozenset({ObjectRef, ActorHandle})
#: Types of values that may count.
_KINDS: Final = frozenset({*_LEAVES, list, tuple, dict})
#: Types of dict keys that are compared and pickled without any code of the user's.
_KEYS: Final = frozenset({str, int, float, bool, bytes, type(None)})
#: Names that never count.
_IGNORED_NAMES: Final = frozenset({"In", "Out"})

#: (ids in order, types, lengths and keys that tell two containers apart)
Contents = tuple[tuple[int, ...], tuple[Any, ...]]


class DetachedDriver:
    """The follower of one program's names in one session. Thread-safe."""

    def __init__(self, backend: Backend, channel: Channel, requests: SchedulerRequests) -> None:
        self._backend = backend
        self._channel = channel
        self._requests = requests
        self._lock = threading.Lock()
        #: Contents that the scheduler was told, by name.
        self._told: dict[str, Contents] = {}
        #: Mappings from names to values.
        self._names: Sequence[Mapping[str, Any]] = ()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def watch(self, names: Sequence[Mapping[str, Any]]) -> None:
        """Look through the names in these mappings now, and at intervals from now on."""
        with self._lock:
            self._names = names
            if self._thread is None and not self._stopping.is_set():
                run = contextvars.Context().run
                self._thread = threading.Thread(
                    target=run, args=(self._run,), name="ipyremote-names", daemon=True
                )
                self._thread.start()
        self.look()

    def look(self) -> None:
        """Tell the scheduler which names have changed. Does nothing when the session has ended."""
        with self._lock:
            if self._channel.ended:
                return
            told: dict[str, Contents] = {}
            bound: list[Bound] = []
            for name, value in chain.from_iterable(map(_candidates, self._names)):
                found = contents(value, self._backend)
                if found is None:
                    continue
                if self._told.get(name) != found:
                    record = _bound(name, value)
                    if record is None:
                        continue
                    bound.append(record)
                told[name] = found
            unbound = tuple(name for name in self._told if name not in told)
            if bound or unbound:
                self._channel.send(Bind(tuple(bound), unbound), now=True)
            self._told = told

    def close(self) -> None:
        """End the thread that looks. Idempotent."""
        self._stopping.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def at_exit(self) -> None:
        """Look a last time, and leave the session running, because this process is about to exit."""
        self.close()
        try:
            self.look()
        finally:
            self.leave()

    def kept_names(self) -> KeptNames:
        """Make this process the session's driver, in place of one that has ended; return the names that it left."""
        return kept_names(self._requests.claim())

    def take(self, names: Sequence[str]) -> None:
        """Tell the scheduler that this process holds the objects and actors of these names."""
        self._channel.send(Taken(tuple(names)), now=True)

    def has_refs(self, ids: Sequence[ObjectId]) -> bool:
        """Return whether this process has a ref or handle for each of these ids."""
        counts = self._channel.objects.counts
        return all(any_id in counts for any_id in ids)

    def leave(self) -> None:
        """Leave the session without ending it."""
        self._channel.leave()

    def _run(self) -> None:
        pause = LOOK_SECONDS
        while not self._stopping.wait(pause):
            began = time.perf_counter()
            try:
                self.look()
            except Exception:  # such as names that changed during the look: the next look repeats it
                log.debug("looking through the names failed", exc_info=True)
            pause = max(LOOK_SECONDS, (time.perf_counter() - began) / LOOK_SHARE)


def kept_names(reply: KeptReply) -> KeptNames:
    """Return the names in a scheduler's reply about the names that it keeps."""
    names = (
        KeptName(saved.bound.name, saved.bound.ids, saved.bound.payload, saved.label, saved.state)
        for saved in reply.saved
    )
    return KeptNames(tuple(names), reply.seconds, reply.is_taken)


def _candidates(names: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the names whose values may count, with these values, one at a time."""
    # This line runs in C, and keeps no value (see the module's docstring). A mapping that changes meanwhile raises.
    kinds = list(zip(names, map(type, names.values()), strict=True))
    for name, kind in kinds:
        if kind in _KINDS and not name.startswith("_") and name not in _IGNORED_NAMES:
            yield name, names.get(name)


def _bound(name: str, value: Any) -> Bound | None:
    """Return the record of a name for the scheduler; None if the name's value cannot be pickled."""
    try:
        pickled = pickling.dumps_whole(value)
    except Exception:  # such as an error of the user's class of an actor
        log.debug("%s cannot be kept", name, exc_info=True)
        return None
    return Bound(name, pickled.refs, pickled.head)


def contents(value: Any, backend: Backend) -> Contents | None:
    """Return the contents of a value that is made of refs and handles of this backend only; None for other values."""
    ids: list[ObjectId] = []
    shape: list[Any] = []
    return (tuple(ids), tuple(shape)) if _gather(value, backend, ids, shape, MAX_DEPTH) and ids else None


def _gather(value: Any, backend: Backend, ids: list[ObjectId], shape: list[Any], depth: int) -> bool:
    kind = type(value)
    if kind in _LEAVES:
        ids.append(value._id)
        return value._backend is backend
    if kind not in _KINDS or not depth:
        return False
    parts = value
    if kind is dict:
        if not all(map(_is_plain, value)):
            return False
        shape.append(tuple(value))
        parts = value.values()
    # The first item of a long list of other values is enough to reject the list.
    if type(next(iter(parts), None)) not in _KINDS:
        return not value and depth < MAX_DEPTH
    parts = tuple(parts)
    shape.append((kind, len(parts)))
    return all(_gather(part, backend, ids, shape, depth - 1) for part in parts)


def _is_plain(key: Any) -> bool:
    return type(key) in _KEYS or (type(key) is tuple and all(map(_is_plain, key)))
