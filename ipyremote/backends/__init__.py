"""Implementations of `backend.Backend`.

local       processes on this machine under a scheduler
discovery   sessions on this machine that another process has started
inline      everything in this process, synchronously, for debugging and teaching
"""
