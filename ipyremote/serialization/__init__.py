"""Conversion of Python objects to bytes and back.

pickling     values, arguments, functions and classes
nested_refs  the refs inside a pickle
diagnosis    the part of a value that cannot be pickled
"""

from __future__ import annotations

from ipyremote.serialization.pickling import Slot

__all__ = ["Slot"]

# Each top-level ref among the arguments of a call is pickled as a Slot, so the shorter name saves bytes on the wire.
Slot.__module__ = __name__
