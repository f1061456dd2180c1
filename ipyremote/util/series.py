"""The numbers behind metrics: one file per process in the session directory, mapped into the process that writes it.

    8 bytes          number of bytes of records that follow
    each record      4 bytes length of the head, 4 bytes count of numbers
                     the head, padded to a multiple of 8: JSON of [kind, name, description, tags, bounds]
                     8 bytes for each number

All in the machine's own byte order. Numbers by kind: counter [value]; gauge [value, time it was set]; histogram [sum,
count, count of each bucket].

Rules. A record is complete before the length counts it, and its number of numbers never changes, so a reader needs no
lock. A process writes under a lock of its own; a forked child begins a file of its own. Numbers that are recorded
without a session directory (before `init`, or inline) are in a buffer of this process instead.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ipyremote.backend import Backend, current

__all__ = ["Numbers", "SeriesRecord", "numbers", "read_all"]

_PREFIX = "metrics-"
#: Bytes by multiples of which a file grows.
_STEP = 16 << 10
_LENGTH = struct.Struct("=Q")
_SIZES = struct.Struct("=II")
_NUMBER = struct.Struct("=d")

_Head = tuple[str, str, str, tuple[tuple[str, str], ...], tuple[float, ...]]


@dataclass(frozen=True, slots=True)
class SeriesRecord:
    """A record as it was read."""

    kind: str
    name: str
    description: str
    tags: dict[str, str]
    bounds: tuple[float, ...]
    numbers: tuple[float, ...]

    def with_numbers(self, given: Iterable[float]) -> SeriesRecord:
        """Return the same record with other numbers."""
        return replace(self, numbers=tuple(given))


class _SeriesTable:
    """The records that this process writes."""

    def __init__(self, path: Path | None) -> None:
        """Begin a file at `path`; None: keep the records in this process."""
        self.pid = os.getpid()
        self.lock = threading.Lock()
        self._fd = (
            -1 if path is None else os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        )
        self.buffer: bytearray | mmap.mmap = bytearray()
        self._used = _LENGTH.size
        self._known: dict[_Head, int] = {}
        self._grow(self._used)

    def place(self, head: _Head) -> int:
        """Return the position of a record's numbers. The caller holds the lock."""
        place = self._known.get(head)
        if place is None:
            place = self._known[head] = self._append(head)
        return place

    def _append(self, head: _Head) -> int:
        kind, _, _, _, bounds = head
        count = {"counter": 1, "gauge": 2}.get(kind, 3 + len(bounds))
        text = json.dumps(head).encode()
        text += b" " * (-len(text) % 8)
        begin = self._used
        end = begin + _SIZES.size + len(text) + count * _NUMBER.size
        self._grow(end)
        _SIZES.pack_into(self.buffer, begin, len(text), count)
        place = begin + _SIZES.size + len(text)
        self.buffer[begin + _SIZES.size : place] = text
        self._used = end
        _LENGTH.pack_into(self.buffer, 0, end - _LENGTH.size)
        return place

    def _grow(self, size: int) -> None:
        missing = size - len(self.buffer)
        if missing <= 0:
            return
        grown = len(self.buffer) + missing + -size % _STEP
        if isinstance(self.buffer, bytearray) and self._fd < 0:
            self.buffer.extend(bytes(grown - len(self.buffer)))
            return
        # Before it is mapped: a full file system is then an error here, and no signal later.
        os.posix_fallocate(self._fd, 0, grown)
        self.buffer = mmap.mmap(self._fd, grown)

    def close(self) -> None:
        """Close the file: its session has ended."""
        with self.lock:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1


class Numbers:
    """The numbers of one metric and one combination of tags, in this process."""

    __slots__ = ("_head", "_table")

    def __init__(self, table: _SeriesTable, head: _Head) -> None:
        self._table = table
        self._head = head

    def add(self, changes: Mapping[int, float]) -> None:
        """Add to the numbers at these places."""
        self._change(changes, keep=1.0)

    def put(self, values: Mapping[int, float]) -> None:
        """Replace the numbers at these places."""
        self._change(values, keep=0.0)

    def _change(self, values: Mapping[int, float], keep: float) -> None:
        table = self._table
        with table.lock:
            begin = table.place(self._head)
            buffer = table.buffer
            for index, value in values.items():
                place = begin + index * _NUMBER.size
                (old,) = _NUMBER.unpack_from(buffer, place)
                _NUMBER.pack_into(buffer, place, old * keep + value if keep else value)


class _SeriesTables:
    """The tables of this process: one without a session, and one of the session that runs."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.alone: _SeriesTable | None = None
        #: Key of the session, and the session's table.
        self.session: tuple[str, _SeriesTable] | None = None
        self.observed = False


_tables = _SeriesTables()


def numbers(
    kind: str, name: str, description: str, tags: Mapping[str, str], bounds: tuple[float, ...]
) -> Numbers:
    """Return the numbers of a metric and its tags, to record in. Quick."""
    return Numbers(_table(), (kind, name, description, tuple(sorted(tags.items())), bounds))


def _table() -> _SeriesTable:
    backend = current.peek()
    session = _tables.session
    pid = os.getpid()
    directory = None if backend is None else backend.shared_directory
    if backend is None or directory is None:
        alone = _tables.alone
        return alone if alone is not None and alone.pid == pid else _new_table(None, "")
    if session is not None and session[0] == backend.key and session[1].pid == pid:
        return session[1]
    return _new_table(directory, backend.key)


def _new_table(directory: Path | None, key: str) -> _SeriesTable:
    with _tables.lock:
        # Another thread may have made it meanwhile.
        known = _tables.alone if directory is None else _tables.session[1] if _tables.session else None
        if known is not None and known.pid == os.getpid():
            return known
        if directory is None:
            _tables.alone = table = _SeriesTable(None)
            return table
        if not _tables.observed:
            _tables.observed = True
            current.observe(_on_backend)
        number = os.urandom(4).hex()
        try:
            table = _SeriesTable(directory / f"{_PREFIX}{os.getpid()}-{number}")
        except OSError:  # the session is ending, or its file system is full: a number is not worth an error
            table = _SeriesTable(None)
        _tables.session = (key, table)
        return table


def _on_backend(backend: Backend, begins: bool) -> None:
    """React to the beginning or end of a session in this process."""
    session = _tables.session
    if session is not None and not begins:
        _tables.session = None
        session[1].close()


def read_all() -> Iterator[SeriesRecord]:
    """Return every record of the session, and of this process before the session."""
    alone = _tables.alone
    if alone is not None:
        yield from _records(bytes(alone.buffer))
    backend = current.peek()
    directory = None if backend is None else backend.shared_directory
    if directory is None:
        return
    with suppress(OSError):  # the session is ending
        for path in sorted(directory.glob(f"{_PREFIX}*")):
            yield from _records(path.read_bytes())


def _records(data: bytes) -> Iterator[SeriesRecord]:
    if len(data) < _LENGTH.size:
        return
    (used,) = _LENGTH.unpack_from(data, 0)
    place = _LENGTH.size
    while place < _LENGTH.size + used:
        length, count = _SIZES.unpack_from(data, place)
        place += _SIZES.size
        kind, name, description, tags, bounds = json.loads(data[place : place + length])
        place += length
        values: tuple[Any, ...] = struct.unpack_from(f"={count}d", data, place)
        place += count * _NUMBER.size
        yield SeriesRecord(kind, name, description, dict(tags), tuple(bounds), values)
