"""The scheduler's program. The driver starts one for each session, by a command line.

__main__   the program: start record, zygote, then the loop
process    the loop around the core, and the performing of its commands
zygote     the process that forks the workers
link       the scheduler's end of the socket to the zygote
environments, environment, packages
           processes that fork the workers of an environment: the scheduler's view of these processes, their program,
           and the packages that they install
workers    the worker processes, from the request to fork one to the report of its end
worker_logs
           the logs of workers
deaths     how a worker ended, from all the evidence
journal    the scheduler's own log
"""

from __future__ import annotations

import sys
from pathlib import Path

__all__ = ["command"]

# The bootstrap loads this very package, wherever the package lies, and puts nothing in front of the standard library:
# neither the user's working directory nor the package's own directory (whose random.py would be imported by everyone).
# The package's parent directory comes last on the path, because dependencies may be installed beside the package.
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
    """Return the command line of a scheduler that reads its `Boot` from an inherited descriptor, to end of file.

    The command works in any working directory and with any PYTHONPATH. The caller gives the process a session of its
    own, no standard input, and the log as standard error; the process inherits the descriptors named in the `Boot` and
    the lock of the directory. `program`: the function to call with the descriptor, for another program of a session.
    """
    package = Path(__file__).resolve().parent.parent
    return [python, "-P", "-c", _BOOTSTRAP, str(package.parent), program, str(boot_fd)]
