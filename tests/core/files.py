"""The segments of a simulated session, in memory and on disk, and what its clients do to them."""

from __future__ import annotations

from collections.abc import Iterable

from ipyremote import messages as m
from ipyremote.core import DropSegment

__all__ = ["Files"]


class Files:
    """Every removal must find what it removes."""

    def __init__(self) -> None:
        #: Segments in memory, and who made them.
        self.memory: dict[str, int] = {}
        #: Segments on disk, and who made the copy.
        self.disk: dict[str, int] = {}
        #: Who made the segments that were evicted, or are to be.
        self.makers: dict[str, int] = {}

    def on_message(self, client_id: int, message: m.ToClient) -> m.Spilled | None:
        """A client acts on a message about segments; what it answers."""
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

    def _drop(self, client_id: int, segments: Iterable[str]) -> None:
        for segment in segments:
            place = self.memory if segment in self.memory else self.disk
            maker = self.makers.get(segment, place[segment])
            assert client_id == maker, "a segment went to another client"
            del place[segment]

    def _spill(self, client_id: int, segments: list[str]) -> m.Spilled:
        """Some of them are mapped."""
        done = tuple(segment for segment in segments if int(segment.rpartition("-")[2]) % 3)
        for segment in done:
            assert segment in self.memory, "what is not there is to be moved"
            self.disk[segment] = client_id
            self.makers[segment] = self.memory[segment]
        return m.Spilled(done, tuple(segment for segment in segments if segment not in done))

    def on_lost(self, message: m.ToClient) -> None:
        """A message reaches a worker that is dead: the shell removes what it would have removed."""
        if isinstance(message, m.DropSegments):
            for segment in message.segments:
                del (self.memory if segment in self.memory else self.disk)[segment]
        elif isinstance(message, m.Evict):
            for segment in message.segments:
                del self.memory[segment]

    def on_command(self, command: DropSegment, living: Iterable[int]) -> None:
        """The shell removes segments."""
        for segment in command.segments:
            if command.where == "disk":
                # Perhaps it never came to be.
                self.disk.pop(segment, None)
                continue
            maker = self.makers.get(segment) or self.memory[segment]
            assert maker not in living, "its creator is alive"
            found = self.memory.pop(segment, None)
            if command.where == "everywhere":
                found = self.disk.pop(segment, found)
            assert found is not None, "what is not there is to be removed"

    def check(self, stored: Iterable[str]) -> None:
        """No value is lost."""
        lost = [segment for segment in stored if segment not in self.memory and segment not in self.disk]
        assert [] == lost
