"""The record of a client. Data only."""

from __future__ import annotations

from ipyremote.ids import DRIVER, ClientId, ObjectId

__all__ = ["Client"]


class Client:
    """A peer with a connection: a driver or a worker."""

    __slots__ = ("held", "id", "pid")

    def __init__(self, client_id: ClientId, pid: int = 0) -> None:
        self.id = client_id
        #: Process id of a driver; 0 for a worker (its record has it) and for a driver that did not say.
        self.pid = pid
        #: Ids of the objects that the client holds; None for the session's first driver, with which everything ends.
        self.held: set[ObjectId] | None = None if client_id == DRIVER else set()
