"""A client's connection to a session: what drivers and workers share.

session            the `Backend` that speaks to the scheduler: submit, get, wait, put
submitter          ids, labels, packed arguments and specs of what is submitted
channel            sending, receiving, waiting, and the end; io_thread reads while nobody waits, wakeup ends a wait
objects            the refs of this process, and the values that have arrived; streams, unretrieved, waiting
values             arguments and results to wire values and back; definitions, environments: functions and surroundings
requests           requests to the scheduler, with replies; insight, actor_names, placement_groups use these
history            what was submitted, and which failures nobody has asked for; resubmission runs a task again
store_pressure     waiting for room in the store; spilling moves objects to disk
detached           which names stand for what, told to a session that outlives its driver
listener_dispatch  what a driver's listener is told
"""

from __future__ import annotations

from typing import Final

from ipyremote.backend.capabilities import Capabilities

__all__ = ["CAPABILITIES"]

#: What a session of processes on this machine can do: everything.
CAPABILITIES: Final = Capabilities("local")
