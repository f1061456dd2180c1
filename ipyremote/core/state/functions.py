"""The record of a function: what workers are sent of it, and how long it takes."""

from __future__ import annotations

from ipyremote.messages import Define

__all__ = ["Function"]


class Function:
    """An exported function or class."""

    __slots__ = ("define", "digest", "micros")

    def __init__(self, digest: bytes) -> None:
        self.digest = digest
        #: Sent to each worker before the first task that needs it; None until it was announced.
        self.define: Define | None = None
        #: Average duration of a run in microseconds; below 0 until one has ended.
        self.micros: float = -1.0
