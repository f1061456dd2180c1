"""Sends displays to the front ends: changes while a display is live, and the static output at its end.

A final display that can still be clicked *lasts*: its output becomes static, while its widget stays open for the pages
that show the widget instead of the output (see `widget_pool`). Only a page that has shown a widget can keep the widget,
but a task may fail before any page has. The output of such a display becomes static when a page says that it shows the
widget, at the latest `PAGE_SECONDS` after the display. Used on the updater's thread.
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

#: Time that a page has to show a widget whose display is already final, in seconds. There is no such wait before any
#: page has shown any widget: there may be no page, as in nbconvert.
PAGE_SECONDS: Final = 2.0
#: Time between HTML updates beside a widget while no front end has answered any widget, in seconds.
FALLBACK_INTERVAL: Final = 1.0


def bundle_of(plain: str, html: str) -> Bundle:
    """Return an output in its two static forms."""
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
        #: Displays that are not final, in the order in which they were made.
        self.live: dict[ScreenDisplay, None] = {}
        #: Lasting displays by their widgets.
        self._lasting: dict[LiveWidget, ScreenDisplay] = {}

    def mark(self, display: ScreenDisplay) -> None:
        """Note that a display has something new to show."""
        if display.placed and (display in self.live or display.widget in self._lasting):
            self._sender.mark(display)

    def drop(self, display: ScreenDisplay) -> None:
        """Send nothing more for a display."""
        self._sender.drop(display)

    def send_all(self) -> None:
        """Send everything at once, whatever the budgets; used at the end."""
        self._hurry(tuple(self.live))
        self._sender.send_all()
        self._lasting.clear()

    def update_output(self, display: ScreenDisplay, html: str) -> None:
        """Replace the output of a display by static HTML."""
        bundle = bundle_of(display.plain, html)
        self._frontend.display_under(self._parent(), bundle, display.display_id, update=True)

    def send_data(self, display: ScreenDisplay, content: dict[str, Any]) -> None:
        """Send data other than HTML to the pages that show a display."""
        if display.widget is not None:
            display.widget.send_data(content)
            self._sender.spend(display, len(json.dumps(content)))

    def revive(self, widget: LiveWidget) -> None:
        """Make a lasting display live again."""
        if self._lasting.pop(widget, None) is not None:
            self._widgets.revive(widget)

    def end_lasting(self, backend: Backend) -> None:
        """End the lasting displays of a session that has ended: nothing of them can be clicked any more."""
        self._hurry([display for display in self.live if display.backend is backend])
        for widget, display in tuple(self._lasting.items()):
            if display.backend is backend:
                self._drop_lasting(widget)

    def _hurry(self, displays: Iterable[ScreenDisplay]) -> None:
        """Make displays final without waiting for a page."""
        for display in displays:
            if display.final.is_set() and display.former:
                display.former = ()
                self.mark(display)

    def _awaits_page(self, display: ScreenDisplay, now: float) -> bool:
        """Return whether a page may be about to show the widget of a final display that can still be clicked."""
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
        """Send the changes of a display. Returns the number of bytes sent."""
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
            # A front end without widgets shows the HTML of the same output.
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
        """Make the output static, and close the widget unless there is something left to click."""
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
