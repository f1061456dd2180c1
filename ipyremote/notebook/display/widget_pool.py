"""The widgets that pages may show, from their making to their end. Used by one thread at a time, as widgets are.

A page that was reloaded cannot replace an output: the page knows the widget in the output, but not the id of the
display. A widget that some page shows is therefore closed only when the page says that it shows the widget no longer. A
page that is closed says nothing; when the page is opened again, it finds the widget with the final state. Up to
`_MAX_KEPT` widgets are kept for such pages.

A few final widgets last longer (`lasting`): those of failures, which can be retried, and those of boards, whose refs
can be opened. The page shows a lasting widget instead of the static output that is in the notebook's file. There are at
most `_MAX_LASTING` such widgets, and each ends after `LASTING_SECONDS`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ipyremote.notebook.display.widgets import LiveWidget

__all__ = ["LASTING_SECONDS", "WidgetPool"]

log = logging.getLogger(__name__)

#: Largest number of live widgets. Further displays are plain HTML, which costs one message instead of three.
_MAX_LIVE: Final = 50
#: Largest number of final widgets that are kept because some page may show them.
_MAX_KEPT: Final = 200
#: Largest number of final widgets that can still be clicked.
_MAX_LASTING: Final = 20
#: Time after which such a widget ends, in seconds.
LASTING_SECONDS: Final = 600.0


class WidgetPool:
    """All widgets that are not closed, with the number of views of each that pages have told of."""

    def __init__(self, make_widget: Callable[..., LiveWidget] | None) -> None:
        #: Makes a widget; None where displays are plain HTML.
        self._make_widget = make_widget
        #: Whether any page has shown one of these widgets.
        self.answered = False
        #: Number of views of each live widget.
        self._live: dict[LiveWidget, int] = {}
        #: Number of views of each final widget, oldest widget first.
        self._kept: dict[LiveWidget, int] = {}
        #: Time of the end of each lasting widget, oldest widget first.
        self._lasting: dict[LiveWidget, float] = {}

    @property
    def count(self) -> int:
        """Return the number of widgets that are not closed."""
        return len(self._live) + len(self._kept) + len(self._lasting)

    def new_widget(
        self, html: str, state: str, on_message: Callable[[LiveWidget, str, int], None], number: int = 0
    ) -> LiveWidget | None:
        """Return a new widget, or None for a display of plain HTML. Messages of pages go to `on_message`."""
        if self._make_widget is None or len(self._live) >= _MAX_LIVE:
            return None
        try:
            widget: LiveWidget = self._make_widget(
                html, state, lambda kind, place=-1: on_message(widget, kind, place), number
            )
        except Exception:  # this kernel has no comms, which plain HTML does not need
            log.debug("no widgets", exc_info=True)
            self._make_widget = None
            return None
        self._live[widget] = 0
        return widget

    def on_message(self, widget: LiveWidget, kind: str) -> None:
        """Take a page's message: the page shows the widget, or no longer, or a button was clicked."""
        self.answered = True
        group = self._kept if widget in self._kept else self._live
        if kind not in ("shown", "gone") or widget not in group:
            return
        group[widget] += 1 if kind == "shown" else -1
        if group is self._kept and group[widget] <= 0:
            self.discard(widget)

    def views(self, widget: LiveWidget) -> int:
        """Return the number of views of a live widget that pages have told of."""
        return self._live.get(widget, 0)

    def keep(self, widget: LiveWidget, html: str, state: str) -> bool:
        """Give the final state to the pages that show the widget. Returns False if no page shows it."""
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
        """Keep a final widget for clicks. Returns the widgets whose time is over, for the caller to discard."""
        self._live.pop(widget, None)
        self._lasting[widget] = now + LASTING_SECONDS
        over = [other for other, end in self._lasting.items() if end <= now]
        if not over and len(self._lasting) > _MAX_LASTING:
            over = [next(iter(self._lasting))]
        return over

    def over(self, now: float) -> list[LiveWidget]:
        """Return the lasting widgets whose time is over."""
        return [widget for widget, end in self._lasting.items() if end <= now]

    def revive(self, widget: LiveWidget) -> None:
        """Make a lasting widget live again."""
        del self._lasting[widget]
        self._live[widget] = 1

    def discard(self, widget: LiveWidget) -> None:
        """Close a widget."""
        for group in (self._live, self._kept, self._lasting):
            group.pop(widget, None)
        widget.discard()

    def clear(self) -> None:
        """Close the widgets that were kept, and the lasting ones."""
        for widget in (*self._kept, *self._lasting):
            self.discard(widget)
