"""Edited modules: a worker that has imported an edited module imports it again before code that uses it runs."""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Mapping

__all__ = ["refresh"]

log = logging.getLogger(__name__)

#: Modification time of a module's file, in nanoseconds, at the last repeated import, by the module's name.
_refreshed: dict[str, int] = {}


def refresh(times: Mapping[str, int]) -> None:
    """Import each of these modules again if its file is newer than at the last import; `times` are in nanoseconds.

    A module that this process has not imported is skipped. A module whose import fails, because the file was saved half
    finished, for example, stays as it is, as with `%autoreload`.
    """
    for name, time in times.items():
        module = sys.modules.get(name)
        if module is None or _refreshed.get(name, 0) >= time:
            continue
        _refreshed[name] = time
        try:
            importlib.reload(module)
        except Exception:  # the module is the user's code
            log.warning("could not import %s again", name, exc_info=True)
