"""Cores with a bug, for tests that the loop around the core survives the bug."""

from __future__ import annotations

from collections.abc import Sequence

from ipyremote.core import Command, Core, Event, Received
from ipyremote.messages import Explain, Status


class StumblingCore(Core):
    """A core that fails once at each `Explain`."""

    def handle(self, events: Sequence[Event], now: float) -> list[Command]:
        if any(isinstance(event, Received) and isinstance(event.message, Explain) for event in events):
            raise RuntimeError("stumbled")
        return super().handle(events, now)


class HopelessCore(Core):
    """A core that fails at all events after the first `Status`."""

    hopeless = False

    def handle(self, events: Sequence[Event], now: float) -> list[Command]:
        for event in events:
            if isinstance(event, Received) and isinstance(event.message, Status):
                self.hopeless = True
        if self.hopeless:
            raise RuntimeError("hopeless")
        return super().handle(events, now)

    def deadline(self) -> float | None:
        return 0.0 if self.hopeless else super().deadline()
