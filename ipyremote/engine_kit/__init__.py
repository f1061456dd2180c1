"""What an engine can be made of, apart from the engine itself: the parts that are the same in all of them.

An engine implements `backend.Backend`. What runs where, and how values travel, is the engine's own; these parts make a
call mean the same on each of them. No part knows an engine, a wire or a store.

call_context       on whose behalf code runs; the labels of what the code submits
call_arguments     the arguments of a call, into a pickle with slots and out of it
outcomes           user code is called, and becomes values or a failure
failures           exceptions to failures and back
submitted_calls    ids, labels and arguments of the calls that a process submits, and which of them runs
object_table       the objects of a session that this process keeps: holders, waiting, watching
call_runner        calls and actors in threads of this process
listener_reporter  what tasks show, told to a listener of this process
console_listener   what a plain program shows of its tasks
"""

from __future__ import annotations
