"""The progress page of a worker, which tells after the worker's death what the worker had started and finished.

The page answers two questions about the tasks that were sent ahead to a worker: which of them had started when the
worker died, and what were the reports of those that had finished? Messages cannot answer these questions, because
messages that were not sent yet are lost with the worker. The page is no heartbeat: nobody reads it while the worker
lives.

The page is the file `progress-<worker id>` of the session directory. The worker maps it, and its words are native
64-bit integers:

    | number of the last run started | number of the last run finished | padding to 64 bytes | slot 0 | ... | slot 127 |

    slot = | number of the run, 0 while it is being written | length of the report | the report | padding to 1 KiB |

The report of run n is in slot n modulo 128 until that slot is used again. A report that is longer than a slot is not
kept. The worker never removes the page; the scheduler reads and removes the page when the worker has ended.
"""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path
from typing import Final

from ipyremote.ids import ClientId

__all__ = ["ProgressPage", "read_progress", "read_reports", "remove_progress"]

_WORDS: Final = struct.Struct("=QQ")
_SLOTS_START: Final = 64
_SLOT_BYTES: Final = 1024
_SLOTS: Final = 128
_PAGE_BYTES: Final = _SLOTS_START + _SLOTS * _SLOT_BYTES
#: Length of the longest report that is kept, in bytes.
_MOST_BYTES: Final = _SLOT_BYTES - _WORDS.size


def _path(directory: Path, worker_id: ClientId) -> Path:
    return directory / f"progress-{worker_id}"


class ProgressPage:
    """The worker's side of the page. A note is a store of one word, and costs about a tenth of a microsecond."""

    __slots__ = ("_map", "_words")

    def __init__(self, page: mmap.mmap) -> None:
        self._map = page
        self._words = memoryview(page)[:_SLOTS_START].cast("Q")

    @classmethod
    def create(cls, directory: Path, worker_id: ClientId) -> ProgressPage:
        """Make the page of a worker, with both words zero. Raises OSError when there is no room for the page."""
        fd = os.open(_path(directory, worker_id), os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            # After ftruncate alone, the first store into the mapping would end the process by SIGBUS on a full tmpfs.
            os.posix_fallocate(fd, 0, _PAGE_BYTES)
            page = mmap.mmap(fd, _PAGE_BYTES)
        finally:
            os.close(fd)
        return cls(page)

    def started(self, run: int) -> None:
        """Note that a run begins. From now on this run is blamed if the worker dies."""
        self._words[0] = run

    def finished(self, run: int) -> None:
        """Note that the user code of a run has ended. Its report may not have been sent yet."""
        self._words[1] = run

    def keep(self, run: int, report: bytes) -> None:
        """Keep the report of a run in case that the report cannot be sent any more. Call this before `finished`."""
        if len(report) > _MOST_BYTES:
            return
        start = _SLOTS_START + run % _SLOTS * _SLOT_BYTES
        page = self._map
        # The number is written last, so that a slot with a number is complete.
        _WORDS.pack_into(page, start, 0, len(report))
        start_of_report = start + _WORDS.size
        page[start_of_report : start_of_report + len(report)] = report
        _WORDS.pack_into(page, start, run, len(report))

    def close(self) -> None:
        """Unmap the page. The file stays. Idempotent."""
        self._words.release()
        self._map.close()


def read_progress(directory: Path, worker_id: ClientId) -> tuple[int, int]:
    """Return (last run started, last run finished); (0, 0) for a worker that never made its page."""
    data = _read(directory, worker_id)
    if len(data) < _WORDS.size:
        return 0, 0
    started, finished = _WORDS.unpack_from(data)
    return started, finished


def read_reports(directory: Path, worker_id: ClientId) -> list[tuple[int, bytes]]:
    """Return (number of the run, report) of the last runs of a dead worker, in the order of the runs."""
    data = _read(directory, worker_id)
    found = []
    for start in range(_SLOTS_START, len(data) - _SLOT_BYTES + 1, _SLOT_BYTES):
        run, length = _WORDS.unpack_from(data, start)
        if run and length <= _MOST_BYTES:
            begin = start + _WORDS.size
            found.append((run, data[begin : begin + length]))
    return sorted(found)


def _read(directory: Path, worker_id: ClientId) -> bytes:
    try:
        return _path(directory, worker_id).read_bytes()
    except OSError:
        return b""


def remove_progress(directory: Path, worker_id: ClientId) -> None:
    """Remove the page of a worker that has ended. Harmless for a worker without a page."""
    _path(directory, worker_id).unlink(missing_ok=True)
