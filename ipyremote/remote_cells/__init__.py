"""What runs user code for a notebook in a worker of any engine.

The package needs a `Reporter` of the engine (`backend/reporter.py`), which `install` puts behind all that user code
shows. It knows no scheduler, client, wire or message.

installation    `install`: the adaptation of a process, and the way back
output display figures progress_bars keyboard      what it adapts
rate_limit changes import_hooks                    what these are made of
cell shell sessions    a `%%remote` cell, its `get_ipython()`, its lasting namespace
preview         what a displayed ref shows of its value
reloading       modules that were edited are imported again
"""

from __future__ import annotations

from ipyremote.remote_cells.installation import Installation, install

__all__ = ["Installation", "install"]
