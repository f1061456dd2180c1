"""Sends displays to the front ends: what changed while they live, and the static output at the end.

A display that can still be clicked when it is final *lasts*: its output is static, and its widget stays open for the
pages that show it in the place of that (see `pages`). Only a page that has shown a widget can keep it, and a task may
fail sooner than that: then the output becomes static when a page has said that it shows the widget, `PAGE_SECONDS`
after the display at the latest. Used on the updater's thread.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from ipyremote.backend import Backend
from ipyremote.notebook.display.displays import ScreenDisplay, Sender
from ipyremote.notebook.display.html import numbered
from ipyremote.notebook.display.models import BoardModel
from ipyremote.notebook.display.updater import UpdateScheduler
from ipyremote.notebook.display.widget_pool import LASTING_SECONDS, WidgetPool
from ipyremote.notebook.output.frontend import Bundle, Frontend, Parent

if TYPE_CHECKING:
    from ipyremote.notebook.display.widgets import LiveWidget

__all__ = ["FALLBACK_INTERVAL", "PAGE_SECONDS", "Publisher", "bundle_of"]

#: Seconds that a page has to show a widget whose display is final already. None is waited for until some page has shown
#: some widget: there may be none, as in nbconvert.
PAGE_SECONDS: Final = 2.0
#: Seconds between HTML updates beside a widget, as long as no front end has answered any widget.
FALLBACK_INTERVAL: Final = 1.0


def bundle_of(plain: str, html: str) -> Bundle:
    """An output in its two static forms."""
    return {"text/plain": plain, "text/html": html}


class Publisher:
    """See the module docstring. `forget` is called when a display has been sent for the last time."""

    def __init__(
        self,
        frontend: Frontend,
        parent: Callable[[], Parent],
        pages: WidgetPool,
        updater: UpdateScheduler,
        clock: Callable[[], float],
        forget: Callable[[ScreenDisplay], None],
    ) -> None:
        self._frontend = frontend
        self._parent = parent
        self._widgets = pages
        self._updater = updater
        self._clock = clock
        self._forget = forget
        self._sender = Sender(updater, self._send, clock)
        #: Displays that are not final.
        self.live: dict[ScreenDisplay, None] = {}
        #: Widget to its display, of those that last.
        self._lasting: dict[LiveWidget, ScreenDisplay] = {}

    def mark(self, display: ScreenDisplay) -> None:
        """It has something new to show."""
        if display.placed and (display in self.live or display.widget in self._lasting):
            self._sender.mark(display)

    def drop(self, display: ScreenDisplay) -> None:
        """It has nothing to say any more."""
        self._sender.drop(display)

    def send_all(self) -> None:
        """Send everything at once: nothing comes after it."""
        self._hurry(tuple(self.live))
        self._sender.send_all()
        self._lasting.clear()

    def update_output(self, display: ScreenDisplay, html: str) -> None:
        """Replace its output by static HTML."""
        bundle = bundle_of(display.plain, html)
        self._frontend.display_under(self._parent(), bundle, display.display_id, update=True)

    def send_data(self, display: ScreenDisplay, content: dict[str, Any]) -> None:
        """Send something that is not HTML to the pages that show it."""
        if display.widget is not None:
            display.widget.send_data(content)
            self._sender.spend(display, len(json.dumps(content)))

    def revive(self, widget: LiveWidget) -> None:
        """A display that lasted is live again."""
        if self._lasting.pop(widget, None) is not None:
            self._widgets.revive(widget)

    def end_lasting(self, backend: Backend) -> None:
        """A session ended: nothing of it can be clicked any more."""
        self._hurry([display for display in self.live if display.backend is backend])
        for widget, display in tuple(self._lasting.items()):
            if display.backend is backend:
                self._drop_lasting(widget)

    def _hurry(self, displays: Iterable[ScreenDisplay]) -> None:
        """Wait for no page."""
        for display in displays:
            if display.final.is_set() and display.former:
                display.former = ()
                self.mark(display)

    def _awaits_page(self, display: ScreenDisplay, now: float) -> bool:
        """Whether a page may be about to show what can still be clicked, though it is final."""
        widget = display.widget
        return (
            widget is not None
            and self._widgets.answered
            and not self._widgets.views(widget)
            and display.model.clickable
            and bool(display.former)
            and now < display.placed_at + PAGE_SECONDS
        )

    def _send(self, display: ScreenDisplay, now: float) -> int:
        """Send what changed; how many bytes it was."""
        html = display.model.html(now, timed=True)
        card = "" if display.opened is None else display.opened.model.html(now, timed=True)
        if display.final.is_set() and display.widget not in self._lasting:
            if not self._awaits_page(display, now):
                self._send_final(display, html, card, now)
                return 0
            self._updater.call_later(display.placed_at + PAGE_SECONDS - now, self.mark, display)
        changed = (html, card) != display.sent
        display.sent = html, card
        if display.widget is None:
            if changed:
                self.update_output(display, html)
            return len(html) if changed else 0
        size = self._send_cells(display, display.widget)
        if changed:
            display.widget.update(html, display.model.state, card, display.widget in self._lasting)
            size += len(html) + len(card)
        if changed and not self._widgets.answered and now >= display.fallback_due:
            # Perhaps this front end has no widgets: then it shows the HTML of the same output.
            display.fallback_due = now + FALLBACK_INTERVAL
            bundle = display.widget.bundle(bundle_of(display.plain, html))
            self._frontend.display_under(self._parent(), bundle, display.display_id, update=True)
            size += len(html)
        return size

    @staticmethod
    def _send_cells(display: ScreenDisplay, widget: LiveWidget) -> int:
        if not isinstance(display.model, BoardModel) or (cells := display.model.grid.take()) is None:
            return 0
        widget.send_grid(*cells)
        return len(cells[1])

    def _send_final(self, display: ScreenDisplay, html: str, card: str, now: float) -> None:
        """The output becomes static; the widget ends, unless there is something left to click."""
        widget, model = display.widget, display.model
        lasts = False
        try:
            if widget is not None and self._widgets.views(widget) > 0:
                lasts = model.clickable and bool(display.former)
                if lasts:
                    self._make_lasting(display, widget, html, card, now)
                elif self._widgets.keep(widget, html, model.state):
                    display.widget = None
            self.update_output(display, numbered(html, display.number) if lasts else html)
        finally:
            if lasts:
                self.live.pop(display, None)
            else:
                self._forget(display)

    def _make_lasting(
        self, display: ScreenDisplay, widget: LiveWidget, html: str, card: str, now: float
    ) -> None:
        self._send_cells(display, widget)
        widget.update(html, display.model.state, card, True)
        display.sent = html, card
        self._lasting[widget] = display
        for other in self._widgets.last(widget, now):
            self._drop_lasting(other)
        self._updater.call_later(LASTING_SECONDS + 1.0, self._end_old)

    def _end_old(self) -> None:
        for widget in self._widgets.over(self._clock()):
            self._drop_lasting(widget)

    def _drop_lasting(self, widget: LiveWidget) -> None:
        display = self._lasting.pop(widget, None)
        if display is not None:
            self._forget(display)
