"""The record of one display, and the rate of its messages: at most 10 a second for each display, within two budgets.

A display that sends much waits longer for its next turn (`_BYTES` a second). All displays together share `_RATE`
messages a second. The last change is never dropped. The end of a display does not wait for a turn: users wait for the
end, and there are at most two messages of it, first the state and then the value. Used on the updater's thread.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from ipyremote.backend import Backend
from ipyremote.ids import ObjectId
from ipyremote.notebook.display.models import Model, RefModel
from ipyremote.notebook.display.updater import TokenBucket, UpdateScheduler
from ipyremote.refs import ObjectRef

if TYPE_CHECKING:
    from ipyremote.notebook.display.widgets import LiveWidget

__all__ = ["ClusterCard", "OpenedRef", "ScreenDisplay", "Sender", "plain_of"]

_PLAIN_REFS: Final = 20
#: Seconds between two messages for one display: eight in a second, which leaves two for its end.
_INTERVAL: Final = 0.125
#: Rate at which one display may send in the long run, in bytes a second.
_BYTES: Final = 100_000
#: Messages of all displays together: number that may be sent at once, and number a second after that.
_BURST: Final = 100
_RATE: Final = 200
#: Number of messages that end a display: the final output, and the closing of two comms.
_FINAL_COST: Final = 3


@dataclass(slots=True, eq=False)
class OpenedRef:
    """The ref of a board whose card is shown below the board."""

    place: int
    object_id: ObjectId
    model: RefModel
    #: Whether a preview was requested.
    preview_requested: bool = False


@dataclass(slots=True, eq=False)
class ScreenDisplay:
    """One display, until it is final, and longer if some page may still act on it."""

    model: Model
    #: Text for readers that show no HTML.
    plain: str
    display_id: str
    #: Number of the display in this kernel. A page finds the static output that replaced a widget by this number.
    number: int
    #: Backend of the refs; None for the cluster card.
    backend: Backend | None = None
    #: Refs on the display, held so that the values exist until their previews are made. Empty once all have ended.
    refs: tuple[ObjectRef[Any], ...] = ()
    #: Weak references to all refs in order, once all have ended.
    former: tuple[weakref.ref[ObjectRef[Any]], ...] = ()
    widget: LiveWidget | None = None
    opened: OpenedRef | None = None
    #: Whether a preview of the value is made. A `get` that waits for the value makes a preview pointless.
    wants_preview: bool = True
    #: Whether the output exists, so that changes can be sent.
    placed: bool = False
    #: Time when the output was made, by the updater's clock.
    placed_at: float = 0.0
    #: Set once the display cannot change any more, after the model's last change.
    final: threading.Event = field(default_factory=threading.Event)
    #: Whether the model has settled. Until `final` is set, only the preview is missing.
    ending: bool = False
    #: HTML of the display and of the opened ref as they were sent last.
    sent: tuple[str, str] = ("", "")
    #: Time from which on the display may send again.
    due: float = 0.0
    #: Time from which on HTML may be sent beside the widget again.
    fallback_due: float = 0.0

    def ref_at(self, place: int) -> ObjectRef[Any] | None:
        """Return the ref at this place, or None if the ref exists no more."""
        if self.former:
            return self.former[place]() if 0 <= place < len(self.former) else None
        return self.refs[place] if 0 <= place < len(self.refs) else None


def plain_of(refs: Sequence[ObjectRef[Any]]) -> str:
    """Return the text of a group of refs for readers that show no HTML."""
    plain = ", ".join(repr(ref) for ref in refs[:_PLAIN_REFS])
    more = f", and {len(refs) - _PLAIN_REFS} more" if len(refs) > _PLAIN_REFS else ""
    return f"[{plain}{more}]"


@dataclass(frozen=True, slots=True)
class ClusterCard:
    """The display of a cluster, as the extension holds it."""

    display: ScreenDisplay


class Sender:
    """Sends changed displays when their turns come. `send` sends one display and returns the number of bytes."""

    def __init__(
        self,
        updater: UpdateScheduler,
        send: Callable[[ScreenDisplay, float], int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._updater = updater
        self._send = send
        self._clock = clock
        #: Displays with something to send, the one that has waited longest first.
        self.dirty: dict[ScreenDisplay, None] = {}
        self._flush_at: float | None = None
        self._budget = TokenBucket(_BURST, _RATE)

    def mark(self, display: ScreenDisplay) -> None:
        """Note that a display has something new to show."""
        now = self._clock()
        self.dirty.setdefault(display)
        self._flush_soon(now, max(_turn(display, now), now + self._budget.wait(now)))

    def spend(self, display: ScreenDisplay, size: int) -> None:
        """Count bytes that were sent for a display in another way."""
        display.due = max(display.due, self._clock()) + size / _BYTES

    def drop(self, display: ScreenDisplay) -> None:
        """Send nothing more for a display."""
        self.dirty.pop(display, None)

    def send_all(self) -> None:
        """Send everything at once, whatever the budgets; used at the end."""
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
            # A little late rather than a little early: an early flush would find nothing due.
            self._flush_soon(now, following + 0.001)

    def _send_one(self, display: ScreenDisplay, now: float) -> None:
        del self.dirty[display]
        display.due = now + _INTERVAL
        size = self._send(display, now)
        # A display that sent nothing keeps its turn.
        display.due = now + max(_INTERVAL, size / _BYTES) if size else now


def _turn(display: ScreenDisplay, now: float) -> float:
    """Return the time when a display may send."""
    return now if display.ending else display.due
