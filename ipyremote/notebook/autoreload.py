"""Fresh code at each cell: functions are pickled anew, and what `%autoreload` reloads is reloaded in the workers, too.

Rules. Nothing is reloaded unless autoreload is on. A module counts as edited when its file is of another time than when
it was first seen in this kernel; what was edited travels with the functions that are sent from then on.
"""

from __future__ import annotations

import os
import sys
from functools import partial
from typing import Any

from ipyremote.declare.exports import bump_epoch
from ipyremote.remote_cells.reloading import refresh
from ipyremote.serialization import pickling

__all__ = ["Autoreload"]

_KEY = "autoreload"


class Autoreload:
    """Looks for edited modules at the beginning of each cell."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        #: Times of files, in nanoseconds, when they were first seen.
        self._first: dict[str, int] = {}
        #: Of the edited ones, the latest.
        self._edited: dict[str, int] = {}

    def look(self) -> None:
        """A cell begins."""
        bump_epoch()
        reloader = getattr(self._shell.magics_manager.registry.get("AutoreloadMagics"), "_reloader", None)
        if reloader is None or not getattr(reloader, "enabled", False):
            return
        for name in tuple(getattr(reloader, "modules_mtimes", ())):
            time = _time_of(name)
            if time and time != self._first.setdefault(name, time):
                self._edited[name] = time
        if self._edited:
            pickling.before_loading(_KEY, partial(refresh, dict(self._edited)))

    def close(self) -> None:
        """What is sent from now on tells nothing of edited modules."""
        pickling.before_loading(_KEY, None)


def _time_of(name: str) -> int:
    file = getattr(sys.modules.get(name), "__file__", None)
    try:
        return os.stat(file).st_mtime_ns if file else 0
    except OSError:  # it was removed
        return 0
