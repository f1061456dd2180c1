"""`progress`, `dashboard` and `timeline` of the public API: live views in a notebook, text elsewhere.

This module imports neither IPython nor widgets, so plain programs can use it.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from ipyremote.backend import current
from ipyremote.exceptions import IPyRemoteSystemError
from ipyremote.notebook.display.ref_groups import refs_in
from ipyremote.notebook.display.timeline import chrome_trace, write_trace
from ipyremote.refs import ObjectRef
from ipyremote.session.lifecycle import is_initialized
from ipyremote.streams import ObjectRefGenerator

if TYPE_CHECKING:
    from ipyremote.notebook.extension import Notebook

__all__ = ["dashboard", "progress", "timeline"]


def progress(refs: Any) -> None:
    """Show the progress of refs; see `ipyremote.progress`."""
    found = refs_in([refs]) if isinstance(refs, ObjectRef | ObjectRefGenerator) else refs_in(refs)
    if found is None:
        if isinstance(refs, list | tuple | dict) and not refs:
            return
        raise TypeError(
            f"progress() takes a ref, or a list, tuple or dict of refs, not {type(refs).__name__}: {refs!r:.80}"
        )
    if len({id(ref._backend) for ref in found}) > 1:
        raise ValueError("progress() takes refs of one session")
    notebook = _notebook()
    if notebook is not None:
        notebook.screen.show_board(found)
    else:
        from ipyremote.notebook.display.textbar import follow

        follow(found)


def dashboard() -> None:
    """Show the cluster; see `ipyremote.dashboard`."""
    backend = current.peek()
    if backend is None:
        raise IPyRemoteSystemError("dashboard() needs a running session: call ipyremote.init() first.")
    notebook = _notebook()
    if notebook is not None:
        notebook.show_dashboard()
        return
    from ipyremote.notebook.display.dashboard import status_text

    print(status_text(backend))


def timeline(filename: str | None = None) -> list[dict[str, Any]] | None:
    """Return or write the timeline; see `ipyremote.timeline`."""
    backend = current.peek()
    if backend is None or not is_initialized():
        raise RuntimeError("timeline() needs a running session: call init() first")
    runs = backend.insight.runs()[1] if backend.insight is not None else ()
    events = chrome_trace(runs)
    if filename is None:
        return events
    write_trace(filename, events)
    return None


def _notebook() -> Notebook | None:
    """Return the notebook that the extension is loaded into, or None if there is none, or none that shows HTML."""
    extension = sys.modules.get("ipyremote.notebook.extension")
    loaded: Notebook | None = extension._Loaded.notebook if extension is not None else None
    return loaded if loaded is not None and loaded.frontend.rich else None
