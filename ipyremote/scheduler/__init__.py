"""The scheduler's program: one per session, started by the driver by command line.

__main__   the program: start record, zygote, then the loop
process    the loop around the core, and the performing of its commands
zygote     the process that forks the workers
link       the scheduler's end of the socket to the zygote
environments, environment, packages
           processes that fork workers of another environment: the scheduler's view of them; their program; what they
           install
deaths     why a worker died, in words
journal    the log
"""

from __future__ import annotations

import sys
from pathlib import Path

__all__ = ["command"]

# Loads this very package, wherever it lies, and puts nothing in front of the standard library: neither the user's
# working directory nor the package's (a random.py there would be everybody's). Its parent comes last on the path, where
# dependencies that were installed beside it are found.
_BOOTSTRAP = """\
import sys
from importlib import import_module
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
sys.path.append(sys.argv[1])
spec = PathFinder.find_spec("ipyremote", [sys.argv[1]])
sys.modules["ipyremote"] = module_from_spec(spec)
spec.loader.exec_module(sys.modules["ipyremote"])
module, name = sys.argv[2].split(":")
getattr(import_module(module), name)(*map(int, sys.argv[3:]))
"""


def command(
    boot_fd: int, program: str = "ipyremote.scheduler.__main__:main", python: str = sys.executable
) -> list[str]:
    """The command line of a scheduler that reads its `Boot` from this inherited descriptor, to end of file.

    It works in any working directory and with any PYTHONPATH. The caller gives it a session of its own, no standard
    input, the log as standard error, and inherits to it the descriptors named in the `Boot` and the directory's lock.
    `program`: the function that is given the descriptor, where it is another program of a session.
    """
    package = Path(__file__).resolve().parent.parent
    return [python, "-P", "-c", _BOOTSTRAP, str(package.parent), program, str(boot_fd)]
