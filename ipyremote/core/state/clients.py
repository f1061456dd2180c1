"""The record of a client. Data only."""

from __future__ import annotations

from ipyremote.ids import DRIVER

__all__ = ["Client"]


class Client:
    """A peer with a connection: a driver or a worker."""

    __slots__ = ("held", "id", "pid")

    def __init__(self, client_id: int, pid: int = 0) -> None:
        self.id = client_id
        #: Of a driver; 0: not known.
        self.pid = pid
        #: Objects that it holds; None for the driver of the session, whose end is the end of everything.
        self.held: set[int] | None = None if client_id == DRIVER else set()
