"""Modules that were edited: a worker that has imported one imports it again before it runs code that uses it."""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Mapping

__all__ = ["refresh"]

log = logging.getLogger(__name__)

#: By module, the time of its file, in nanoseconds, with which it was last imported again here.
_refreshed: dict[str, int] = {}


def refresh(times: Mapping[str, int]) -> None:
    """Import each of these modules again whose file is of a later time than before, if it is imported here at all.

    One that fails, since it was saved half finished, say, stays as it is, as with `%autoreload`.
    """
    for name, time in times.items():
        module = sys.modules.get(name)
        if module is None or _refreshed.get(name, 0) >= time:
            continue
        _refreshed[name] = time
        try:
            importlib.reload(module)
        except Exception:  # it is the user's code
            log.warning("could not import %s again", name, exc_info=True)
