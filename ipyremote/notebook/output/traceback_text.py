"""The text of a traceback without the frames of libraries. `tracebacks.py` describes the format of the text.

Frames of installed packages and of the standard library are replaced by a line that counts them, provided that frames
of the user's own code remain.
"""

from __future__ import annotations

import re
from typing import Final

from ipyremote.exceptions.tracebacks import is_library

__all__ = ["own_frames"]

_FRAME: Final = re.compile(r'^(\s*)(?:File "(?P<path>[^"]+)"|In \[\d+\]|%%\w[^\n]*), line \d+')


def own_frames(text: str) -> str:
    """Return the traceback without library frames, or "" if no frame, or every frame, is of a library."""
    kept: list[str] = []
    folded, own, indentation, library = 0, 0, -1, False
    counted = 0
    for line in text.split("\n"):
        frame = _FRAME.match(line)
        if frame is not None:
            indentation = len(frame[1])
            library = bool(frame["path"] and is_library(frame["path"]))
            own += not library
            if library:
                folded, counted = folded + 1, counted + 1
                continue
        elif library and len(line) - len(line.lstrip()) > indentation:
            continue
        else:
            library = False if frame is None else library
        if counted:
            kept.append(f"  … {counted} frame{'' if counted == 1 else 's'} of libraries …")
            counted = 0
        kept.append(line)
    if counted:
        kept.append(f"  … {counted} frame{'' if counted == 1 else 's'} of libraries …")
    return "\n".join(kept) if folded and own else ""
