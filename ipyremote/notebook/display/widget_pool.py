"""The widgets that pages may show, from their making to their end. Used by one thread at a time, as widgets are.

A page that was loaded anew cannot replace an output: it knows the widget in it, but not the id of the display. So a
widget that some page shows is closed only when the page says that it shows it no longer. A page that is closed says
nothing; when it is opened again, it finds the widget with its final state. `_KEPT` widgets are kept for such pages.

A few final widgets last longer (`lasting`): those of failures, which can be retried, and of boards, whose refs can be
opened. The page shows them in the place of the static output that is in the notebook's file. There are never more than
`_LASTING`, and none outlives its `_LASTING_SECONDS`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ipyremote.notebook.display.widgets import LiveWidget

__all__ = ["LASTING_SECONDS", "WidgetPool"]

log = logging.getLogger(__name__)

#: Live widgets at a time; further displays are plain HTML, which costs one message instead of three.
_MAX_LIVE: Final = 50
#: Widgets that are final, but may be on some page.
_MAX_KEPT: Final = 200
#: Widgets that can be clicked after the end.
_MAX_LASTING: Final = 20
LASTING_SECONDS: Final = 600.0


class WidgetPool:
    """All widgets that are not closed, and how many views of each the pages have told of."""

    def __init__(self, make_widget: Callable[..., LiveWidget] | None) -> None:
        #: None: no widgets, only HTML.
        self._make_widget = make_widget
        #: Some page has shown a widget of ours.
        self.answered = False
        #: Widget to the number of its views.
        self._live: dict[LiveWidget, int] = {}
        #: The same for final ones, oldest first.
        self._kept: dict[LiveWidget, int] = {}
        #: Widget to the time of its end, oldest first.
        self._lasting: dict[LiveWidget, float] = {}

    @property
    def count(self) -> int:
        """How many widgets are not closed."""
        return len(self._live) + len(self._kept) + len(self._lasting)

    def new_widget(
        self, html: str, state: str, on_message: Callable[[LiveWidget, str, int], None], number: int = 0
    ) -> LiveWidget | None:
        """A widget, or None where there should or can be none. What pages say of it goes to `on_message`."""
        if self._make_widget is None or len(self._live) >= _MAX_LIVE:
            return None
        try:
            widget: LiveWidget = self._make_widget(
                html, state, lambda kind, place=-1: on_message(widget, kind, place), number
            )
        except Exception:  # no comms here: HTML does without
            log.debug("no widgets", exc_info=True)
            self._make_widget = None
            return None
        self._live[widget] = 0
        return widget

    def on_message(self, widget: LiveWidget, kind: str) -> None:
        """A page said something: that it shows the widget, or no longer, or that a button was clicked."""
        self.answered = True
        group = self._kept if widget in self._kept else self._live
        if kind not in ("shown", "gone") or widget not in group:
            return
        group[widget] += 1 if kind == "shown" else -1
        if group is self._kept and group[widget] <= 0:
            self.discard(widget)

    def views(self, widget: LiveWidget) -> int:
        """How many views of a live one the pages have told of."""
        return self._live.get(widget, 0)

    def keep(self, widget: LiveWidget, html: str, state: str) -> bool:
        """Give the final state to the pages that show the widget; False: none does."""
        views = self.views(widget)
        if views <= 0:
            return False
        widget.update(html, state)
        del self._live[widget]
        self._kept[widget] = views
        if len(self._kept) > _MAX_KEPT:
            self.discard(next(iter(self._kept)))
        return True

    def last(self, widget: LiveWidget, now: float) -> list[LiveWidget]:
        """Keep it for clicks. Returns those whose time is over, for the caller to discard."""
        self._live.pop(widget, None)
        self._lasting[widget] = now + LASTING_SECONDS
        over = [other for other, end in self._lasting.items() if end <= now]
        if not over and len(self._lasting) > _MAX_LASTING:
            over = [next(iter(self._lasting))]
        return over

    def over(self, now: float) -> list[LiveWidget]:
        """Those whose time is over."""
        return [widget for widget, end in self._lasting.items() if end <= now]

    def revive(self, widget: LiveWidget) -> None:
        """It is live again."""
        del self._lasting[widget]
        self._live[widget] = 1

    def discard(self, widget: LiveWidget) -> None:
        """Close it."""
        for group in (self._live, self._kept, self._lasting):
            group.pop(widget, None)
        widget.discard()

    def clear(self) -> None:
        """Close those that were kept."""
        for widget in (*self._kept, *self._lasting):
            self.discard(widget)
