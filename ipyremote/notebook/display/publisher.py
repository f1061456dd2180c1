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
from ipyremote.notebook.display.displays import Sender, Shown
from ipyremote.notebook.display.html import numbered
from ipyremote.notebook.display.models import BoardModel
from ipyremote.notebook.display.updater import Scheduler
from ipyremote.notebook.display.widget_pool import LASTING_SECONDS, Pages
from ipyremote.notebook.output.frontend import Bundle, Outlet, Parent

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
        outlet: Outlet,
        parent: Callable[[], Parent],
        pages: Pages,
        updater: Scheduler,
        clock: Callable[[], float],
        forget: Callable[[Shown], None],
    ) -> None:
        self._outlet = outlet
        self._parent = parent
        self._pages = pages
        self._updater = updater
        self._clock = clock
        self._forget = forget
        self._sender = Sender(updater, self._send, clock)
        #: Displays that are not final.
        self.shown: dict[Shown, None] = {}
        #: Widget to its display, of those that last.
        self._lasting: dict[LiveWidget, Shown] = {}

    def mark(self, shown: Shown) -> None:
        """It has something new to show."""
        if shown.placed and (shown in self.shown or shown.widget in self._lasting):
            self._sender.mark(shown)

    def drop(self, shown: Shown) -> None:
        """It has nothing to say any more."""
        self._sender.drop(shown)

    def send_all(self) -> None:
        """Send everything at once: nothing comes after it."""
        self._hurry(tuple(self.shown))
        self._sender.send_all()
        self._lasting.clear()

    def update_output(self, shown: Shown, html: str) -> None:
        """Replace its output by static HTML."""
        bundle = bundle_of(shown.plain, html)
        self._outlet.display_under(self._parent(), bundle, shown.display_id, update=True)

    def send_data(self, shown: Shown, content: dict[str, Any]) -> None:
        """Send something that is not HTML to the pages that show it."""
        if shown.widget is not None:
            shown.widget.send_data(content)
            self._sender.spend(shown, len(json.dumps(content)))

    def revive(self, widget: LiveWidget) -> None:
        """A display that lasted is live again."""
        if self._lasting.pop(widget, None) is not None:
            self._pages.revive(widget)

    def end_lasting(self, backend: Backend) -> None:
        """A session ended: nothing of it can be clicked any more."""
        self._hurry([shown for shown in self.shown if shown.backend is backend])
        for widget, shown in tuple(self._lasting.items()):
            if shown.backend is backend:
                self._drop_lasting(widget)

    def _hurry(self, displays: Iterable[Shown]) -> None:
        """Wait for no page."""
        for shown in displays:
            if shown.final.is_set() and shown.former:
                shown.former = ()
                self.mark(shown)

    def _awaits_page(self, shown: Shown, now: float) -> bool:
        """Whether a page may be about to show what can still be clicked, though it is final."""
        widget = shown.widget
        return (
            widget is not None
            and self._pages.answered
            and not self._pages.views(widget)
            and shown.model.clickable
            and bool(shown.former)
            and now < shown.placed_at + PAGE_SECONDS
        )

    def _send(self, shown: Shown, now: float) -> int:
        """Send what changed; how many bytes it was."""
        html = shown.model.html(now, timed=True)
        card = "" if shown.opened is None else shown.opened.model.html(now, timed=True)
        if shown.final.is_set() and shown.widget not in self._lasting:
            if not self._awaits_page(shown, now):
                self._send_final(shown, html, card, now)
                return 0
            self._updater.call_later(shown.placed_at + PAGE_SECONDS - now, self.mark, shown)
        changed = (html, card) != shown.sent
        shown.sent = html, card
        if shown.widget is None:
            if changed:
                self.update_output(shown, html)
            return len(html) if changed else 0
        size = self._send_cells(shown, shown.widget)
        if changed:
            shown.widget.update(html, shown.model.state, card, shown.widget in self._lasting)
            size += len(html) + len(card)
        if changed and not self._pages.answered and now >= shown.fallback_due:
            # Perhaps this front end has no widgets: then it shows the HTML of the same output.
            shown.fallback_due = now + FALLBACK_INTERVAL
            bundle = shown.widget.bundle(bundle_of(shown.plain, html))
            self._outlet.display_under(self._parent(), bundle, shown.display_id, update=True)
            size += len(html)
        return size

    @staticmethod
    def _send_cells(shown: Shown, widget: LiveWidget) -> int:
        if not isinstance(shown.model, BoardModel) or (cells := shown.model.grid.take()) is None:
            return 0
        widget.send_grid(*cells)
        return len(cells[1])

    def _send_final(self, shown: Shown, html: str, card: str, now: float) -> None:
        """The output becomes static; the widget ends, unless there is something left to click."""
        widget, model = shown.widget, shown.model
        lasts = False
        try:
            if widget is not None and self._pages.views(widget) > 0:
                lasts = model.clickable and bool(shown.former)
                if lasts:
                    self._make_lasting(shown, widget, html, card, now)
                elif self._pages.keep(widget, html, model.state):
                    shown.widget = None
            self.update_output(shown, numbered(html, shown.number) if lasts else html)
        finally:
            if lasts:
                self.shown.pop(shown, None)
            else:
                self._forget(shown)

    def _make_lasting(self, shown: Shown, widget: LiveWidget, html: str, card: str, now: float) -> None:
        self._send_cells(shown, widget)
        widget.update(html, shown.model.state, card, True)
        shown.sent = html, card
        self._lasting[widget] = shown
        for other in self._pages.last(widget, now):
            self._drop_lasting(other)
        self._updater.call_later(LASTING_SECONDS + 1.0, self._end_old)

    def _end_old(self) -> None:
        for widget in self._pages.over(self._clock()):
            self._drop_lasting(widget)

    def _drop_lasting(self, widget: LiveWidget) -> None:
        shown = self._lasting.pop(widget, None)
        if shown is not None:
            self._forget(shown)
