"""A client's connection to a session, which drivers and workers share.

session            the `Backend` that speaks to the scheduler: submit, get, wait, put
submitter          ids, labels, packed arguments and specs of submissions
channel            sending, receiving, waiting, and the end; io_thread reads while nobody waits, wakeup ends a wait
objects            the refs of this process, and the values that have arrived; streams, unretrieved, waiting
value_packing      arguments and results to wire values and back
definitions        functions and classes, sent or received; environments: `runtime_env`, with snapshots of files
requests           requests to the scheduler, with replies; insight, actor_names, placement_groups use these
history            submissions, and the failures that nobody has asked for; resubmission runs a task again
store_pressure     waiting for room in the store; spilling moves objects to disk
detached           names of refs and handles, told to a session that outlives its driver
listener_dispatch  calls of a driver's listener
"""

from __future__ import annotations

from typing import Final

from ipyremote.backend.capabilities import Capabilities

__all__ = ["CAPABILITIES"]

#: Capabilities of a session of processes on this machine: all.
CAPABILITIES: Final = Capabilities("local")
