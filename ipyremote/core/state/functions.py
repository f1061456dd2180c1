"""The record of a function: its definition, and the average duration of its runs. Data only."""

from __future__ import annotations

from ipyremote.messages import Define

__all__ = ["Function"]


class Function:
    """An exported function or class."""

    __slots__ = ("define", "digest", "micros")

    def __init__(self, digest: bytes) -> None:
        self.digest = digest
        #: The definition, sent to each worker before the first task that needs it; None until a client has sent it.
        self.define: Define | None = None
        #: Average duration of a run in microseconds; below 0 until a run has ended.
        self.micros: float = -1.0
