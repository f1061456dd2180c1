"""Fresh code at each cell: functions are pickled again, and workers reload the modules that `%autoreload` reloads.

Nothing is reloaded unless autoreload is on. A module counts as edited when the time of its file has changed since the
module was first seen in this kernel. The list of edited modules is sent with every function from then on.
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
        #: Time of each module's file when the module was first seen, in nanoseconds.
        self._first: dict[str, int] = {}
        #: Latest time of the file of each edited module, in nanoseconds.
        self._edited: dict[str, int] = {}

    def look(self) -> None:
        """Look for edited modules, at the beginning of a cell."""
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
        """Send no list of edited modules from now on."""
        pickling.before_loading(_KEY, None)


def _time_of(name: str) -> int:
    file = getattr(sys.modules.get(name), "__file__", None)
    try:
        return os.stat(file).st_mtime_ns if file else 0
    except OSError:  # the file was removed
        return 0
