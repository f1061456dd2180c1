"""The record of one display, and when displays may send: at most 10 times a second each, and within two budgets.

A display that sends much waits longer for its next turn (`_BYTES` a second); all displays together share `_RATE`
messages a second. The last change is never dropped, and an end does not wait for a turn: it is what everybody looks
for, and there are two messages of it at most, first the state and then the value. Used on the updater's thread.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from ipyremote.backend import Backend
from ipyremote.notebook.display.models import Model, RefModel
from ipyremote.notebook.display.updater import TokenBucket, UpdateScheduler
from ipyremote.refs import ObjectRef

if TYPE_CHECKING:
    from ipyremote.notebook.display.widgets import LiveWidget

__all__ = ["ClusterCard", "OpenedRef", "ScreenDisplay", "Sender", "plain_of"]

_PLAIN_REFS: Final = 20
#: Seconds between two messages for one display: eight in a second, which leaves two for its end.
_INTERVAL: Final = 0.125
#: What one display may send in a second, in the long run.
_BYTES: Final = 100_000
#: Messages of all displays together: at once, and a second after that.
_BURST: Final = 100
_RATE: Final = 200
#: Messages that end a display: the final output, and two comms to close.
_FINAL_COST: Final = 3


@dataclass(slots=True, eq=False)
class OpenedRef:
    """The ref of a board that was clicked."""

    place: int
    object_id: int
    model: RefModel
    #: A look at its value or failure is under way, or was taken.
    looked: bool = False


@dataclass(slots=True, eq=False)
class ScreenDisplay:
    """One display, until it is final, and longer if some page may still act on it."""

    model: Model
    #: What a text-only reader sees.
    plain: str
    display_id: str
    #: Counted in this kernel; by this number a page finds the static output that took the widget's place.
    number: int
    #: Where its refs come from; None for the cluster card.
    backend: Backend | None = None
    #: Held, so that the values exist until they have been looked at.
    refs: tuple[ObjectRef[Any], ...] = ()
    #: All of them in order, from its first end on: then it holds none.
    former: tuple[weakref.ref[ObjectRef[Any]], ...] = ()
    widget: LiveWidget | None = None
    opened: OpenedRef | None = None
    #: Its value will be looked at by whoever waits for it: a preview would be for nothing.
    looks: bool = True
    #: Its output exists: changes may be sent.
    placed: bool = False
    #: Since when, in the updater's time.
    placed_at: float = 0.0
    #: Nothing can change any more. Set once, after the model's last change.
    final: threading.Event = field(default_factory=threading.Event)
    #: The end has been seen; what is missing for `final` is a look at the value.
    ending: bool = False
    #: What was sent last.
    sent: tuple[str, str] = ("", "")
    #: Not before this time may it send again.
    due: float = 0.0
    #: The same for HTML beside its widget.
    fallback_due: float = 0.0

    def ref_at(self, place: int) -> ObjectRef[Any] | None:
        """The ref at this place of the display, as long as somebody has it."""
        if self.former:
            return self.former[place]() if 0 <= place < len(self.former) else None
        return self.refs[place] if 0 <= place < len(self.refs) else None


def plain_of(refs: Sequence[ObjectRef[Any]]) -> str:
    """What a text-only reader sees of a group."""
    plain = ", ".join(repr(ref) for ref in refs[:_PLAIN_REFS])
    more = f", and {len(refs) - _PLAIN_REFS} more" if len(refs) > _PLAIN_REFS else ""
    return f"[{plain}{more}]"


@dataclass(frozen=True, slots=True)
class ClusterCard:
    """A name for the display of a cluster."""

    display: ScreenDisplay


class Sender:
    """Sends what changed when its time has come; `send` returns how many bytes it has sent."""

    def __init__(
        self,
        updater: UpdateScheduler,
        send: Callable[[ScreenDisplay, float], int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._updater = updater
        self._send = send
        self._clock = clock
        #: With something to send, oldest first.
        self.dirty: dict[ScreenDisplay, None] = {}
        self._flush_at: float | None = None
        self._budget = TokenBucket(_BURST, _RATE)

    def mark(self, display: ScreenDisplay) -> None:
        """It has something new to show."""
        now = self._clock()
        self.dirty.setdefault(display)
        self._flush_soon(now, max(_turn(display, now), now + self._budget.wait(now)))

    def spend(self, display: ScreenDisplay, size: int) -> None:
        """So many bytes were sent for it otherwise."""
        display.due = max(display.due, self._clock()) + size / _BYTES

    def drop(self, display: ScreenDisplay) -> None:
        """It has nothing to say any more."""
        self.dirty.pop(display, None)

    def send_all(self) -> None:
        """Send everything at once: nothing comes after it."""
        now = self._clock()
        for display in tuple(self.dirty):
            self._send_one(display, now)

    def _flush_soon(self, now: float, at: float) -> None:
        if self._flush_at is None or at < self._flush_at:
            self._flush_at = at
            self._updater.call_later(at - now, self._flush, at)

    def _flush(self, at: float) -> None:
        if at != self._flush_at:
            return
        self._flush_at = None
        now = self._clock()
        following: float | None = None
        for display in tuple(self.dirty):
            if (due := _turn(display, now)) > now:
                following = due if following is None else min(following, due)
                continue
            cost = _FINAL_COST if display.final.is_set() else 1
            if not self._budget.take(now, cost):
                following = now + self._budget.wait(now, cost)
                break
            self._send_one(display, now)
        if following is not None:
            # A little late rather than a little early: a flush that finds nothing due would be for nothing.
            self._flush_soon(now, following + 0.001)

    def _send_one(self, display: ScreenDisplay, now: float) -> None:
        del self.dirty[display]
        display.due = now + _INTERVAL
        size = self._send(display, now)
        # What had nothing to say has its turn still.
        display.due = now + max(_INTERVAL, size / _BYTES) if size else now


def _turn(display: ScreenDisplay, now: float) -> float:
    """When it may send."""
    return now if display.ending else display.due
