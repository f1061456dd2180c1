"""Cores with a bug, to see that the shell survives it."""

from __future__ import annotations

from collections.abc import Sequence

from ipyremote.core import Command, Core, Event, Received
from ipyremote.messages import Explain, Status


class StumblingCore(Core):
    """Fails at each `Explain`, once."""

    def handle(self, events: Sequence[Event], now: float) -> list[Command]:
        if any(isinstance(event, Received) and isinstance(event.message, Explain) for event in events):
            raise RuntimeError("stumbled")
        return super().handle(events, now)


class HopelessCore(Core):
    """Fails always, once a `Status` was asked for."""

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
