"""The live form of a display: one anywidget that carries HTML down and clicks up.

The front end keeps the clock: it adds the time since the latest state to `data-seconds`. One thread at a time uses a
widget: first the user's cell, which creates the widget, then the updater's thread. Callbacks run on a thread that
ipykernel chooses; they only hand messages on.

    down   state      html, state, card (of the ref of a board that was opened), lasting, number
           messages   {"kind": "grid", "form": "whole" or "changes"} with the bytes that `grid.py` draws
                      {"kind": "spans", "now": seconds, "lanes": [...], "spans": [...]} as `dashboard.py` draws them
    up     messages   {"kind": "shown" | "gone" | "cancel" | "retry" | "open" | "close", "place": of a ref in a board}
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from ipyremote.notebook.output.frontend import Bundle

__all__ = ["WIDGET_MIME", "LiveWidget"]

log = logging.getLogger(__name__)

#: The MIME type that refers to a widget; a saved notebook must not keep it.
WIDGET_MIME = "application/vnd.jupyter.widget-view+json"

_STATIC = Path(__file__).parents[1] / "static"


class LiveWidget(anywidget.AnyWidget):
    """The widget of a live display."""

    _esm = traitlets.Unicode((_STATIC / "remote.js").read_text(encoding="utf-8")).tag(sync=True)
    _css = traitlets.Unicode((_STATIC / "remote.css").read_text(encoding="utf-8")).tag(sync=True)

    html = traitlets.Unicode().tag(sync=True)
    #: State as in `data-state`. The front end offers "Cancel" for a state of pending or running.
    state = traitlets.Unicode("pending").tag(sync=True)
    #: HTML of the opened ref of a board; empty while none is open.
    card = traitlets.Unicode().tag(sync=True)
    #: Whether the output has become static while pages may still show the widget instead.
    lasting = traitlets.Bool(False).tag(sync=True)
    #: Number of the display. Static outputs have the number as `data-view`.
    number = traitlets.Int(0).tag(sync=True)

    def __init__(
        self, html: str, state: str, on_message: Callable[[str, int], None], number: int = 0
    ) -> None:
        super().__init__(html=html, state=state, number=number)
        self._on_message = on_message
        self.on_msg(self._hand_on)
        _listen_on_any_shell(self.comm)

    def __repr__(self) -> str:
        return "LiveWidget()"

    def update(self, html: str, state: str, card: str = "", lasting: bool = False) -> None:
        """Show this HTML and state; one message to the front end."""
        with self.hold_sync():
            self.html = html
            self.state = state
            self.card = card
            self.lasting = lasting

    def send_grid(self, form: str, content: bytes) -> None:
        """Send states of a board's refs."""
        self.send({"kind": "grid", "form": form}, [content])

    def send_data(self, content: dict[str, Any]) -> None:
        """Send other data that a page draws."""
        self.send(content)

    def bundle(self, bundle: Bundle) -> Bundle:
        """Return the bundle with a reference to this widget, for front ends that show widgets."""
        view = {"version_major": 2, "version_minor": 0, "model_id": self.model_id}
        return {**bundle, WIDGET_MIME: view}

    def discard(self) -> None:
        """Close the widget's two comms, and leave all registries."""
        self._on_message = _ignored
        layout = self.layout
        self.close()
        layout.close()

    def _hand_on(self, _widget: Any, content: Any, _buffers: Any) -> None:
        try:
            kind = content.get("kind") if isinstance(content, dict) else None
            if isinstance(kind, str):
                place = content.get("place", -1)
                self._on_message(kind, place if isinstance(place, int) else -1)
        except Exception:  # a click must never raise into the kernel's message loop
            log.debug("a widget message was not handled", exc_info=True)


def _ignored(_kind: str, _place: int = -1) -> None:
    """Do nothing: the widget of this click is gone."""


def _listen_on_any_shell(comm: Any) -> None:
    """Let clicks arrive in the subshell that the front end chose, so that they are handled while a cell blocks.

    Otherwise, ipykernel 7.4 sends the messages of a comm to the shell whose request the kernel's latest message on the
    comm has answered. The messages of a display answer the latest cell's request, which came to the main shell, where a
    click would wait for the end of the cell.
    """
    if hasattr(comm, "_reply_subshell_for"):
        comm._reply_subshell_for = lambda _data, subshell: subshell
