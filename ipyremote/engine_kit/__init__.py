"""Parts that engines have in common.

An engine implements `backend.Backend`. Each engine decides where code runs and how values travel; these parts make a
call mean the same on all engines. No part knows an engine, a wire or a store.

call_context       the run that code belongs to, and the labels of the calls that the code submits
call_arguments     the arguments of a call, into a pickle with slots and back
outcomes           calls of user code, with a value or a failure as their outcome
failures           exceptions to failures and back
submitted_calls    ids, labels and arguments of the calls that a process submits, and the call that runs
object_table       the objects of a session that this process keeps: holders, waiting, watching
call_runner        calls and actors in threads of this process
listener_reporter  reports of tasks, handed to a listener of this process
console_listener   the text of tasks, printed by a plain program
"""

from __future__ import annotations
