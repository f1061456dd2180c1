"""A client's connection to a session: what drivers and workers share.

session     the `Backend` that speaks to the scheduler: submit, get, wait, put
channel     sending, receiving, waiting, and the end
background  the thread that reads the socket while nobody waits
objects     the refs of this process, and the values that have arrived
room        what to do when the store is full
waiting     one thread's wait
running     on whose behalf code runs: labels and origins of what it submits
keeping     which names stand for what, told to a session that outlives its driver
plain       what a plain program shows of its tasks
values      arguments and results to wire values and back, through `serialize` and `store`
failures    exceptions to wire failures and back
"""

from __future__ import annotations

from typing import Final

from ipyremote.backend.capabilities import Capabilities

__all__ = ["CAPABILITIES"]

#: What a session of processes on this machine can do: everything.
CAPABILITIES: Final = Capabilities("local")
