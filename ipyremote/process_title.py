"""The title of a process: the command line that `ps`, `top` and `htop` show for it.

A title replaces the bytes of the process's own command line, and no more than those: the memory of the environment
lies behind them, and tools find the processes of a session by the variables in it.
"""

from __future__ import annotations

import contextlib
import os
from typing import Final

__all__ = ["set_title"]

#: Tells the library to leave the memory of the environment alone.
_KEEP_ENVIRONMENT: Final = "SPT_NOENV"
#: Length of the name that the kernel keeps for each thread, in bytes.
_NAME_BYTES: Final = 15


def set_title(text: str) -> None:
    """Give this process the title "ipyremote: <text>".

    The call takes some ten microseconds. The first call must come while this process, or the one that it was forked
    from, has a single thread; later calls may come from any thread.
    """
    # Imported here, because only processes that have a title need the library.
    import setproctitle

    _prepare()
    title = f"ipyremote: {text}"
    if not title.isprintable():
        # A task has any name that its user has chosen.
        title = "".join(character if character.isprintable() else " " for character in title)
    thread = setproctitle.getthreadtitle()
    setproctitle.setproctitle(title)
    # The library names the calling thread after the process, but `top` shows the name of the main thread.
    setproctitle.setthreadtitle(thread)
    with contextlib.suppress(OSError), open("/proc/self/comm", "wb") as name:
        name.write(title.encode("utf-8", "replace")[:_NAME_BYTES])


#: Whether the library has found the command line of this process. Forked processes inherit what the library knows.
_prepared = False


def _prepare() -> None:
    """Have the library find the command line without moving the environment, once."""
    global _prepared
    if _prepared:
        return
    import setproctitle

    # The library looks at the variable in its first call only. Programs that tasks start must not inherit it.
    before = os.environ.get(_KEEP_ENVIRONMENT)
    os.environ[_KEEP_ENVIRONMENT] = "1"
    try:
        setproctitle.getproctitle()
    finally:
        if before is None:
            del os.environ[_KEEP_ENVIRONMENT]
        else:
            os.environ[_KEEP_ENVIRONMENT] = before
    _prepared = True
