"""The progress page of a worker: what it had started and finished, and its last reports, readable after its death.

It answers two questions: which of the tasks sent ahead to a worker had started when the worker died, and what did those
give that it had finished? Messages cannot answer that, because those not sent yet die with their sender. It is not a
heartbeat, and nobody reads it while the worker lives.

The page is a file `progress-<worker id>` of the session directory, mapped by the worker, in native 64-bit words:

    | number of the last run started | number of the last run finished | padding to 64 bytes | slot 0 | ... | slot 127 |

    slot = | number of the run, 0 while it is being written | length of the report | the report | padding to 1 KiB |

Run n's report is in slot n modulo 128 until that is used again; a longer report than a slot holds is not kept.

The worker writes it and never removes it; the scheduler reads it once and removes it when the worker has ended.
"""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path
from typing import Final

__all__ = ["ProgressPage", "read_progress", "read_reports", "remove_progress"]

_WORDS: Final = struct.Struct("=QQ")
_SLOTS_START: Final = 64
_SLOT_BYTES: Final = 1024
_SLOTS: Final = 128
_PAGE_BYTES: Final = _SLOTS_START + _SLOTS * _SLOT_BYTES
#: The longest report that is kept.
_MOST_BYTES: Final = _SLOT_BYTES - _WORDS.size


def _path(directory: Path, worker_id: int) -> Path:
    return directory / f"progress-{worker_id}"


class ProgressPage:
    """The worker's side. A store of one word, so it costs about a tenth of a microsecond."""

    __slots__ = ("_map", "_words")

    def __init__(self, page: mmap.mmap) -> None:
        self._map = page
        self._words = memoryview(page)[:_SLOTS_START].cast("Q")

    @classmethod
    def create(cls, directory: Path, worker_id: int) -> ProgressPage:
        """Make the page, with both words zero. Raises OSError when there is no room for it."""
        fd = os.open(_path(directory, worker_id), os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            # Not ftruncate: on a full tmpfs the first store into the mapping would then end the process by SIGBUS.
            os.posix_fallocate(fd, 0, _PAGE_BYTES)
            page = mmap.mmap(fd, _PAGE_BYTES)
        finally:
            os.close(fd)
        return cls(page)

    def started(self, run: int) -> None:
        """The run begins: from now on it is charged with the worker's death."""
        self._words[0] = run

    def finished(self, run: int) -> None:
        """User code has ended; its result may not have been sent yet."""
        self._words[1] = run

    def keep(self, run: int, report: bytes) -> None:
        """What the run gave, in case that it cannot be sent any more. To be called before `finished`."""
        if len(report) > _MOST_BYTES:
            return
        start = _SLOTS_START + run % _SLOTS * _SLOT_BYTES
        page = self._map
        # The number comes last: a slot with a number is complete.
        _WORDS.pack_into(page, start, 0, len(report))
        start_of_report = start + _WORDS.size
        page[start_of_report : start_of_report + len(report)] = report
        _WORDS.pack_into(page, start, run, len(report))

    def close(self) -> None:
        """Unmap; the file stays. Idempotent."""
        self._words.release()
        self._map.close()


def read_progress(directory: Path, worker_id: int) -> tuple[int, int]:
    """(last run started, last run finished); (0, 0) when the worker never made its page."""
    data = _read(directory, worker_id)
    if len(data) < _WORDS.size:
        return 0, 0
    started, finished = _WORDS.unpack_from(data)
    return started, finished


def read_reports(directory: Path, worker_id: int) -> list[tuple[int, bytes]]:
    """(number of the run, its report) of the last runs of a dead worker, in the order of the runs."""
    data = _read(directory, worker_id)
    found = []
    for start in range(_SLOTS_START, len(data) - _SLOT_BYTES + 1, _SLOT_BYTES):
        run, length = _WORDS.unpack_from(data, start)
        if run and length <= _MOST_BYTES:
            begin = start + _WORDS.size
            found.append((run, data[begin : begin + length]))
    return sorted(found)


def _read(directory: Path, worker_id: int) -> bytes:
    try:
        return _path(directory, worker_id).read_bytes()
    except OSError:
        return b""


def remove_progress(directory: Path, worker_id: int) -> None:
    """Remove the page of a worker that has ended. Harmless when there is none."""
    _path(directory, worker_id).unlink(missing_ok=True)
