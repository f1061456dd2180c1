"""The segments of a simulated session, in memory and on disk, and the clients' operations on them."""

from __future__ import annotations

from collections.abc import Iterable

from ipyremote import messages as m
from ipyremote.core import DropSegment
from ipyremote.ids import ClientId

__all__ = ["Files"]


class Files:
    """The segments of a session. Every removal must find its segment."""

    def __init__(self) -> None:
        #: Segments in memory, with the client that made each.
        self.memory: dict[str, int] = {}
        #: Segments on disk, with the client that made each copy.
        self.disk: dict[str, int] = {}
        #: Segments that were evicted or will be, with the client that made each.
        self.makers: dict[str, int] = {}

    def on_message(self, client_id: ClientId, message: m.ToClient) -> m.Spilled | None:
        """Perform a message about segments as a client does. Returns the client's answer, if any."""
        match message:
            case m.DropSegments(segments):
                self._drop(client_id, segments)
            case m.Evict(segments):
                for segment in segments:
                    assert client_id == self.memory.pop(segment), "a segment was evicted by another client"
                    self.makers[segment] = client_id
            case m.Spill(values):
                return self._spill(client_id, [value.segment for value in values])
            case _:
                pass
        return None

    def _drop(self, client_id: ClientId, segments: Iterable[str]) -> None:
        for segment in segments:
            place = self.memory if segment in self.memory else self.disk
            maker = self.makers.get(segment, place[segment])
            assert client_id == maker, "a segment went to another client"
            del place[segment]

    def _spill(self, client_id: ClientId, segments: list[str]) -> m.Spilled:
        """Move segments to disk; a third of them count as mapped, and stay."""
        done = tuple(segment for segment in segments if int(segment.rpartition("-")[2]) % 3)
        for segment in done:
            assert segment in self.memory, "a segment to be moved is not there"
            self.disk[segment] = client_id
            self.makers[segment] = self.memory[segment]
        return m.Spilled(done, tuple(segment for segment in segments if segment not in done))

    def on_lost(self, message: m.ToClient) -> None:
        """Remove, as the shell, the segments of a message that reaches a dead worker."""
        if isinstance(message, m.DropSegments):
            for segment in message.segments:
                del (self.memory if segment in self.memory else self.disk)[segment]
        elif isinstance(message, m.Evict):
            for segment in message.segments:
                del self.memory[segment]

    def on_command(self, command: DropSegment, living: Iterable[int]) -> None:
        """Remove segments as the shell does. `living`: ids of the clients that are alive."""
        for segment in command.segments:
            if command.where == "disk":
                # The copy may not have been made.
                self.disk.pop(segment, None)
                continue
            maker = self.makers.get(segment) or self.memory[segment]
            assert maker not in living, "the creator of a segment that the shell removes is alive"
            found = self.memory.pop(segment, None)
            if command.where == "everywhere":
                found = self.disk.pop(segment, found)
            assert found is not None, "a segment to be removed is not there"

    def check(self, stored: Iterable[str]) -> None:
        """Assert that every stored segment is in memory or on disk."""
        lost = [segment for segment in stored if segment not in self.memory and segment not in self.disk]
        assert [] == lost
