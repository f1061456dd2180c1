"""What an engine can be made of, apart from the engine itself: the parts that are the same in all of them.

An engine implements `backend.Backend`. What runs where, and how values travel, is the engine's own; these parts make a
call mean the same on each of them. No part knows an engine, a wire or a store.

call_context      on whose behalf code runs; the labels of what the code submits
call_arguments    the arguments of a call, into a pickle with slots and out of it
failures          exceptions to failures and back
console_listener  what a plain program shows of its tasks
"""

from __future__ import annotations
