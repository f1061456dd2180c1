"""The live form of a display: one anywidget that carries HTML down and clicks up.

The front end keeps the clock: it adds the time since the latest state to `data-seconds`. One thread at a time may use
a widget: the user's cell creates it, afterwards it belongs to the updater. Callbacks only hand on; they run on whatever
thread ipykernel chose.

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
    """A display that changes by itself."""

    _esm = traitlets.Unicode((_STATIC / "remote.js").read_text(encoding="utf-8")).tag(sync=True)
    _css = traitlets.Unicode((_STATIC / "remote.css").read_text(encoding="utf-8")).tag(sync=True)

    html = traitlets.Unicode().tag(sync=True)
    #: As in `data-state`; the front end offers "Cancel" while it is pending or running.
    state = traitlets.Unicode("pending").tag(sync=True)
    #: The opened ref of a board, as HTML; empty: none.
    card = traitlets.Unicode().tag(sync=True)
    #: It is final, and its output has become static; a page may show it in the place of that.
    lasting = traitlets.Bool(False).tag(sync=True)
    #: Of the display; static outputs have it as `data-view`.
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
        """Show this; one message to the front end."""
        with self.hold_sync():
            self.html = html
            self.state = state
            self.card = card
            self.lasting = lasting

    def send_grid(self, form: str, content: bytes) -> None:
        """States of a board's refs."""
        self.send({"kind": "grid", "form": form}, [content])

    def send_data(self, content: dict[str, Any]) -> None:
        """Anything else that a page draws."""
        self.send(content)

    def bundle(self, bundle: Bundle) -> Bundle:
        """The bundle, with a reference to this widget for front ends that can show it."""
        view = {"version_major": 2, "version_minor": 0, "model_id": self.model_id}
        return {**bundle, WIDGET_MIME: view}

    def discard(self) -> None:
        """Close its two comms and leave all registries."""
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
    """A click on a widget that is gone."""


def _listen_on_any_shell(comm: Any) -> None:
    """Let a click come over the subshell that the front end chose, so that it is heard while a cell blocks.

    ipykernel 7.4 sends a comm's messages to the shell whose request the kernel's latest message on it answered instead.
    Ours answer the cell that ran last: the main shell, where a click would wait for the end of the cell.
    """
    if hasattr(comm, "_reply_subshell_for"):
        comm._reply_subshell_for = lambda _data, subshell: subshell
