"""matplotlib in a worker: figures become pictures below the cell that submitted the task.

A worker has no screen, so matplotlib's backend is Agg, unless the user has chosen a backend that is not for notebooks.
`plt.show()` publishes all open figures and closes them, as for inline figures in a notebook. At the end of a `%%remote`
cell the figures that the cell has opened are shown; a plain task shows only figures that it calls `show` for.
matplotlib is adapted when user code imports matplotlib, and never imported here.
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
from typing import Any

from ipyremote.remote_cells.changes import Changes

__all__ = ["Figures", "picture", "png", "shown_at_end"]

#: Parts of the names of backends that draw into a notebook.
_NOTEBOOK = ("inline", "ipympl", "nbagg", "notebook", "widget")
#: The last protocol of pickle that loads arrays as copies.
_COPYING = 4


class _InstalledFigures:
    """The figures of this process, if the process is a worker."""

    figures: Figures | None = None


class Figures:
    """The publisher of figures. `publish(bundle)` is `Displays.publish`."""

    def __init__(self, publish: Callable[[dict[str, Any]], None]) -> None:
        self._publish = publish

    def install(self, changes: Changes) -> None:
        """Adapt matplotlib, now or when it is imported. The choice of matplotlib's backend is not undone."""
        changes.replace(_InstalledFigures, figures=self)
        changes.after_import("matplotlib", _choose_backend)
        changes.after_import("matplotlib.figure", lambda module: _adapt_pickling(module, changes))
        changes.after_import("matplotlib.pyplot", lambda module: self._adapt(module, changes))

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

    def _adapt(self, module: Any, changes: Changes) -> None:
        """Have pyplot, which was just imported, show figures here."""
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

        changes.replace(module, show=show)
        changes.replace(kind, show=show_figure)


@contextlib.contextmanager
def shown_at_end() -> Iterator[None]:
    """Show the figures that the code in this block opens and leaves open, however the block ends."""
    figures = _InstalledFigures.figures
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
    """Draw a figure that a task was given: a PNG of at most `width` pixels in a row; None when the figure is empty."""
    drawn = _writable(figure)
    try:
        return png(drawn, min(drawn.dpi, width / drawn.get_figwidth()))
    finally:
        # Unpickling a figure of pyplot registers the figure with pyplot in this process, too.
        if _InstalledFigures.figures is not None:
            for manager in _open_figures():
                if manager.canvas.figure in (figure, drawn):
                    _pylab().destroy(manager)


def _writable(figure: Any) -> Any:
    """Return a copy of a figure for drawing: drawing changes arrays, and arrays from other processes are read-only."""
    try:
        return pickle.loads(pickle.dumps(figure, _COPYING))
    except Exception:  # the figure has parts that plain pickle cannot take
        return figure


def _reduce_figure(figure: Any) -> Any:
    """Reduce a figure to one piece of bytes, so that its arrays are writable in the process that unpickles them."""
    file = io.BytesIO()
    pickler = pickle.Pickler(file, _COPYING)
    pickler.dispatch_table = {}  # without `_reduce_figure`, which would recurse
    try:
        pickler.dump(figure)
    except Exception:  # the figure has parts that plain pickle cannot take
        return figure.__reduce_ex__(pickle.HIGHEST_PROTOCOL)
    return pickle.loads, (file.getvalue(),)


def _adapt_pickling(module: Any, changes: Changes) -> None:
    """Have figures pickled by `_reduce_figure`; their module was just imported."""
    copyreg.pickle(module.Figure, _reduce_figure)
    changes.on_undo(lambda: copyreg.dispatch_table.pop(module.Figure, None))


def png(figure: Any, dpi: Any = "figure") -> bytes | None:
    """Draw a figure as PNG; None when nothing is on the figure."""
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


def _choose_backend(matplotlib: Any) -> None:
    """Choose a backend without a screen; matplotlib was just imported."""
    try:
        chosen = matplotlib.get_backend(auto_select=False)
    except TypeError:  # before 3.10
        chosen = matplotlib.rcParams._get_backend_or_none()
    if chosen is None or any(word in str(chosen).lower() for word in _NOTEBOOK):
        matplotlib.use("agg")


def _is_window(manager: Any) -> bool:
    """Return whether a figure has a window of its own, on a screen."""
    return getattr(manager.canvas, "required_interactive_framework", None) is not None


def _pylab() -> Any:
    return importlib.import_module("matplotlib._pylab_helpers").Gcf


def _open_figures() -> list[Any]:
    """Return the managers of pyplot's figures, in order."""
    if "matplotlib.pyplot" not in sys.modules:
        return []
    managers: dict[int, Any] = dict(_pylab().figs)
    return [managers[number] for number in sorted(managers)]
