"""The runtime of a notebook's code in a worker of any engine.

The package needs only a `Reporter` of the engine (`backend/reporter.py`), to which `install` sends the output of user
code: text, displays and progress bars. The package knows no scheduler, client, wire or message.

installation    `install`: the adaptation of a process, and its undoing
output display figures progress_bars keyboard      the parts of the adaptation
rate_limit changes import_hooks                    tools of the parts
cell shell sessions    a `%%remote` cell, its `get_ipython()`, its lasting namespace
preview         a summary of a value, for the display of a ref
reloading       the repeated import of edited modules
"""

from __future__ import annotations

from ipyremote.remote_cells.installation import Installation, install

__all__ = ["Installation", "install"]
