"""matplotlib in a worker: figures become pictures in the cell that asked for the task.

A worker has no screen, so the backend is Agg, unless the user has chosen one that is not a notebook's. `plt.show()`
publishes all open figures and closes them, as inline figures in a notebook. At the end of a `%%remote` cell those that
it has opened are shown without being asked for; a plain task shows what it says. matplotlib is adapted when user code
imports it, and never imported here.
"""

from __future__ import annotations

import contextlib
import copyreg
import importlib
import io
import pickle
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any

from ipyremote.remote_cells.import_hooks import after_import

__all__ = ["Figures", "picture", "png", "shown_at_end"]

#: What names of backends that draw into a notebook contain.
_NOTEBOOK = ("inline", "ipympl", "nbagg", "notebook", "widget")


#: Of pickle: up to this one, arrays are loaded as copies.
_COPYING = 4


class _Installed:
    """The figures of this process, if it is a worker."""

    figures: Figures | None = None


class Figures:
    """Publishes figures. `publish(bundle)` is that of `display.py`."""

    def __init__(self, publish: Callable[[dict[str, Any]], None]) -> None:
        self._publish = publish

    def install(self) -> None:
        """Adapt matplotlib, now or when it is imported."""
        _Installed.figures = self
        after_import("matplotlib", _choose_backend)
        after_import("matplotlib.figure", _adapt_pickling)
        after_import("matplotlib.pyplot", self._adapt)

    def show(self, managers: Sequence[Any]) -> None:
        """Publish the figures of these managers, and close them."""
        for manager in managers:
            figure = manager.canvas.figure
            try:
                found = png(figure)
            finally:
                _pylab().destroy(manager)
            if found is not None:
                self._publish({"image/png": found, "text/plain": repr(figure)})

    def _adapt(self, module: ModuleType) -> None:
        """pyplot was imported."""
        plain_show: Callable[..., Any] = module.show
        kind: Any = module.Figure
        plain_figure_show: Callable[..., Any] = kind.show

        def show(*args: Any, **options: Any) -> Any:
            managers = _open_figures()
            if any(_is_window(manager) for manager in managers):
                return plain_show(*args, **options)
            self.show(managers)
            return None

        def show_figure(figure: Any, warn: bool = True) -> Any:
            manager = figure.canvas.manager
            if manager is None or _is_window(manager):
                return plain_figure_show(figure, warn)
            self.show([manager])
            return None

        vars(module)["show"] = show
        kind.show = show_figure


@contextlib.contextmanager
def shown_at_end() -> Iterator[None]:
    """Figures that the code in this block opens and leaves open are shown when it ends, however it does."""
    figures = _Installed.figures
    if figures is None:
        yield
        return
    former = _open_figures()
    try:
        yield
    finally:
        opened = [manager for manager in _open_figures() if manager not in former]
        try:
            figures.show([manager for manager in opened if not _is_window(manager)])
        except Exception:  # a figure that cannot be drawn does not make a cell fail
            traceback.print_exc()


def picture(figure: Any, width: float) -> bytes | None:
    """A figure that a task was given, as PNG of at most so many pixels in a row; None when nothing is drawn on it."""
    drawn = _writable(figure)
    try:
        return png(drawn, min(drawn.dpi, width / drawn.get_figwidth()))
    finally:
        # One that pyplot knew where it was made is known to pyplot here as well since it was unpickled.
        if _Installed.figures is not None:
            for manager in _open_figures():
                if manager.canvas.figure in (figure, drawn):
                    _pylab().destroy(manager)


def _writable(figure: Any) -> Any:
    """A copy that can be drawn: drawing changes arrays, and those of a value that came from elsewhere are read-only."""
    try:
        return pickle.loads(pickle.dumps(figure, _COPYING))
    except Exception:  # it has parts that plain pickle cannot take
        return figure


def _reduce_figure(figure: Any) -> Any:
    """Have a figure pickled as one piece of bytes, so that its arrays can be written to wherever it arrives."""
    file = io.BytesIO()
    pickler = pickle.Pickler(file, _COPYING)
    pickler.dispatch_table = {}  # without this function
    try:
        pickler.dump(figure)
    except Exception:  # it has parts that plain pickle cannot take
        return figure.__reduce_ex__(pickle.HIGHEST_PROTOCOL)
    return pickle.loads, (file.getvalue(),)


def _adapt_pickling(module: ModuleType) -> None:
    """matplotlib's figures were imported."""
    copyreg.pickle(module.Figure, _reduce_figure)


def png(figure: Any, dpi: Any = "figure") -> bytes | None:
    """A figure as a picture; None when nothing is drawn on it."""
    if not (figure.axes or figure.lines or figure.patches or figure.texts or figure.images):
        return None
    buffer = io.BytesIO()
    figure.savefig(
        buffer,
        format="png",
        dpi=dpi,
        bbox_inches="tight",
        facecolor=figure.get_facecolor(),
        edgecolor=figure.get_edgecolor(),
    )
    return buffer.getvalue()


def _choose_backend(module: ModuleType) -> None:
    """matplotlib was imported."""
    matplotlib: Any = module
    try:
        chosen = matplotlib.get_backend(auto_select=False)
    except TypeError:  # before 3.10
        chosen = matplotlib.rcParams._get_backend_or_none()
    if chosen is None or any(word in str(chosen).lower() for word in _NOTEBOOK):
        matplotlib.use("agg")


def _is_window(manager: Any) -> bool:
    """Whether a figure has a window of its own, on a screen."""
    return getattr(manager.canvas, "required_interactive_framework", None) is not None


def _pylab() -> Any:
    return importlib.import_module("matplotlib._pylab_helpers").Gcf


def _open_figures() -> list[Any]:
    """The managers of pyplot's figures, in order."""
    if "matplotlib.pyplot" not in sys.modules:
        return []
    managers: dict[int, Any] = dict(_pylab().figs)
    return [managers[number] for number in sorted(managers)]
