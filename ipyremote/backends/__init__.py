"""Implementations of `backend.Backend`.

local      processes on this machine under a scheduler
inline     everything in this process, synchronously, for debugging and teaching
starting   which of them `init` starts, and with what
"""
