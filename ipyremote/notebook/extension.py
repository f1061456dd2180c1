"""`%load_ext ipyremote` and `%unload_ext ipyremote`: all that is added to a shell, and removed again.

Loading starts a cluster and returns at once. The card below the cell tells when the cluster is ready, or why it could
not start, and later that the cluster was shut down, was lost or was replaced by another one. The cluster is
provisional: an explicit `init(...)` with other arguments replaces a cluster that has had no work yet (see `lifecycle`).
Callbacks catch all errors, because IPython would print such an error into the user's cell.

    pre_run_cell    functions are exported again if they were changed; the backend's `cell` gets a new number
    post_run_cell   collected output is sent before the cell ends; notices about an interrupt or failures
    formatters      of ObjectRef, and of a list, tuple or dict that holds only refs
    config          c.IPyRemote.num_workers and others, %config IPyRemote
"""

from __future__ import annotations

import contextvars
import functools
import logging
import threading
from collections.abc import Callable
from typing import Any, ParamSpec

from ipyremote import settings
from ipyremote.backend import Backend, DisplayReport, ProgressReport, StateReport, TextReport, current
from ipyremote.notebook.autoreload import Autoreload
from ipyremote.notebook.cells.submission import running_cell_number
from ipyremote.notebook.cells.tab_completion import matcher_of
from ipyremote.notebook.configuration import OF_CLUSTERS, IPyRemote
from ipyremote.notebook.display.dashboard import Dashboards
from ipyremote.notebook.display.html import ClusterView
from ipyremote.notebook.display.ref_groups import refs_in
from ipyremote.notebook.display.screen import ClusterCard, Screen
from ipyremote.notebook.display.updater import Updater
from ipyremote.notebook.display.waiting_displays import WaitingDisplays
from ipyremote.notebook.magics import RemoteMagics, resources_of
from ipyremote.notebook.output.cell_output import CellOutput, CellRuns
from ipyremote.notebook.output.error_rendering import ErrorRenderer
from ipyremote.notebook.output.frontend import Frontend, frontend_of
from ipyremote.notebook.output.task_logs import TaskLogs
from ipyremote.notebook.output.unretrieved import CellSubmissions, UnretrievedFailures
from ipyremote.refs import ObjectRef
from ipyremote.session import lifecycle, recovery
from ipyremote.streams import ObjectRefGenerator

__all__ = ["IPyRemote", "Notebook", "load", "unload"]

log = logging.getLogger(__name__)

P = ParamSpec("P")


def _guarded(fn: Callable[P, object]) -> Callable[P, None]:
    """Return a callback that logs errors and never raises."""

    @functools.wraps(fn)
    def call(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            fn(*args, **kwargs)
        except Exception:  # an error in a display must not end a user's cell, or a backend's thread
            log.debug("a callback failed", exc_info=True)

    return call


class _NotebookListener:
    """The `Listener` of one backend."""

    def __init__(
        self,
        backend: Backend,
        output: CellOutput,
        logs: TaskLogs,
        screen: Screen,
        on_lost: Callable[[Backend, str], None],
    ) -> None:
        self._backend = backend
        self._output = output
        self._logs = logs
        self._screen = screen
        self._on_lost = on_lost
        #: Whether the session shows output. Asked at the first output, because before that the session may not be
        #: ready.
        self._shows: bool | None = None

    @_guarded
    def on_output(self, output: TextReport) -> None:
        if output.task_id:
            self._screen.on_output(self._backend, output.task_id, output.text)
        self._logs.write(output.task_id, output.text)
        if self._shows_output():
            self._output.on_output(output)

    @_guarded
    def on_display(self, display: DisplayReport) -> None:
        if self._shows_output():
            self._output.on_display(display)

    @_guarded
    def on_progress(self, progress: ProgressReport) -> None:
        # Progress bars are parts of the displays of refs; no bar is shown below the cell.
        self._screen.on_progress(self._backend, progress)

    def _shows_output(self) -> bool:
        if self._shows is None:
            self._shows = lifecycle.log_to_driver()
        return self._shows

    @_guarded
    def on_update(self, update: StateReport) -> None:
        self._screen.on_update(self._backend, update)

    @_guarded
    def on_notice(self, cell: int, text: str) -> None:
        self._output.on_notice(cell, text)

    @_guarded
    def on_lost(self, reason: str) -> None:
        self._output.on_notice(self._backend.cell, reason.strip())
        self._on_lost(self._backend, reason.strip())

    def flush(self) -> None:
        """Send collected output. A backend calls this before it returns a result."""
        self._output.flush()


class Notebook:
    """All parts of the extension in one shell."""

    def __init__(self, shell: Any, frontend: Frontend | None = None) -> None:
        self.shell = shell
        self.frontend = frontend or frontend_of(shell)
        self.config = IPyRemote(parent=shell)
        self.cells = CellRuns()
        self.updater = Updater()
        self.output = CellOutput(self.frontend, self.cells, self.updater)
        self.screen = Screen(
            self.frontend,
            self.updater,
            lambda: self.cells.latest,
            make_widget=_widget_class() if self.frontend.rich and self.config.widgets else None,
            static=self._static,
        )
        self.logs = TaskLogs()
        self.magics = RemoteMagics(shell, self.screen, self.logs)
        self.submissions = CellSubmissions()
        self.failures = UnretrievedFailures(self.updater, self.submissions, self.output.on_notice)
        self._error_renderer = ErrorRenderer(shell)
        self._matcher = matcher_of(shell, lambda: self.magics.sessions)
        self.dashboards = Dashboards(self.screen, lambda: self.frontend.rich, self._static)
        self.magics.show_dashboard = self.dashboards.show_live
        self.autoreload = Autoreload(shell)
        self.waiting = WaitingDisplays(
            self.screen,
            self.updater,
            lambda: self.cells.latest,
            lambda: not self._static(),
            rich=self.frontend.rich,
        )
        #: Backend that `%load_ext` has started, if any.
        self.started: Backend | None = None
        #: Cluster card on screen, if there is one.
        self.card: ClusterCard | None = None
        #: Whether `%load_ext` has started a cluster, so that the card tells of it and of those that replace it.
        self._follows = False
        #: Latest backend that has become ready.
        self._answered: Backend | None = None
        self._events = (("pre_run_cell", self._pre_run_cell), ("post_run_cell", self._post_run_cell))
        #: Printer of ipyremote, and the formatter's former printer, by type.
        self._printers: dict[type, tuple[Callable[[Any], object], Callable[[Any], object] | None]] = {}
        #: The number n of `In [n]` that the next numbered cell gets.
        self._next_number = 0

    # ------------------------------------------------------------------------------------------------ load and unload

    def load(self) -> None:
        """Add all parts to the shell, and start a cluster."""
        shell = self.shell
        shell.configurables.append(self.config)
        self.config.observe(self._reconfigured, OF_CLUSTERS)
        lifecycle.start_with(self.config.init_arguments)
        for event, callback in self._events:
            shell.events.register(event, callback)
        shell.register_magics(self.magics)
        shell.Completer.custom_matchers.append(self._matcher)
        self._error_renderer.install()
        lifecycle.remember(shell.user_ns, self.magics.sessions.handles)
        self._register_printers()
        current.observe(self._on_backend)
        current.set_waiting(self.waiting)
        number = running_cell_number()
        self._next_number = number + 1 if number else int(self.shell.execution_count)
        self.cells.begin(self.frontend.parent(), number)
        self._offer()
        backend = current.peek()
        if backend is not None:
            self._on_backend(backend, True)
        elif self.config.autostart:
            self._start()

    @_guarded
    def _offer(self) -> None:
        """Show the session that an earlier kernel of this notebook has left, if there is one."""
        ours = [found for found in recovery.recoverable() if found.is_ours]
        if ours:
            offer = recovery.Recoverable(ours[0], ours[1:])
            bundle = {
                "text/plain": f"ipyremote, from an earlier run: {offer!r}",
                "text/html": offer._repr_html_(),
            }
            self.frontend.display(bundle)

    def unload(self) -> None:
        """Remove all that `load` has added, and shut down the cluster that `load` has started."""
        started, self.started = self.started, None
        if started is not None and current.peek() is started:
            lifecycle.shutdown()
        current.unobserve(self._on_backend)
        lifecycle.start_with(None)
        lifecycle.remember()
        self.failures.follow(None)
        current.set_waiting(None)
        self.dashboards.close()
        backend = current.peek()
        if backend is not None:
            backend.listen(None)
            backend.cell = 0
        self.output.flush()
        self.autoreload.close()
        self.screen.clear("ipyremote was unloaded before it ended")
        self.updater.close()
        self._unregister_printers()
        self._unregister_magics()
        self.shell.Completer.custom_matchers.remove(self._matcher)
        self._error_renderer.remove()
        for event, callback in self._events:
            self.shell.events.unregister(event, callback)
        self.config.unobserve(self._reconfigured, OF_CLUSTERS)
        self.shell.configurables.remove(self.config)

    def _unregister_magics(self) -> None:
        manager = self.shell.magics_manager
        manager.registry.pop(type(self.magics).__name__, None)
        for kind, names in self.magics.magics.items():
            for name in names:
                manager.magics[kind].pop(name, None)
        configurables = self.shell.configurables
        configurables[:] = [other for other in configurables if other is not self.magics]

    # ------------------------------------------------------------------------------------------------------ the cluster

    def _start(self) -> None:
        """Start a cluster without waiting. Failures are shown on the card."""
        self.card = self.screen.new_cluster_card() if self.frontend.rich else None
        self._follows = True
        try:
            lifecycle.init_tentatively(**self.config.init_arguments())
            self.started = current.peek()
        except Exception as error:  # loading succeeds even where no cluster can be started
            self._report(None, ClusterView("failed", detail=f"{type(error).__name__}: {error}"))
        if self.card is not None:
            self.screen.show_cluster(self.card)

    def _reconfigured(self, change: Any) -> None:
        """Replace a cluster that has had no work yet, after `%config` has changed a setting of the cluster."""
        backend = current.peek()
        if backend is None:
            return
        if backend is self.started and lifecycle.is_unused(backend):
            lifecycle.shutdown()
            lifecycle.init_tentatively(**self.config.init_arguments())
            self.started = current.peek()
            return
        self.output.on_notice(
            self.cells.token,
            f"{change.name} will apply to the next cluster. %remote_shutdown ends the present one, with all its tasks, "
            "actors and values.",
        )

    @staticmethod
    def _aside(fn: Callable[..., object], *args: Any) -> None:
        run = contextvars.Context().run
        threading.Thread(target=run, args=(fn, *args), name="ipyremote-start", daemon=True).start()

    def _await_cluster(self, backend: Backend) -> None:
        try:
            facts = resources_of(backend)
        except (
            Exception
        ) as error:  # the cluster did not start, was shut down, or was lost, which `_on_lost` tells
            if not backend.ended:
                self._report(backend, ClusterView("failed", detail=str(error).partition("\n")[0]))
        else:
            self._answered = backend
            self._report(backend, ClusterView("ready", facts))

    def _report(self, backend: Backend | None, view: ClusterView) -> None:
        """Show the state of the current backend on the card. A report of another backend is ignored."""
        if backend is not None and current.peek() is not backend:
            return
        if self.card is not None:
            self.screen.set_cluster(self.card, view)
        elif view.state == "failed":
            self.output.on_notice(self.cells.token, f"the cluster did not start: {view.detail}")

    def _on_lost(self, backend: Backend, reason: str) -> None:
        # The end of the scheduler's log may follow the first line; it is shown once, below the cell.
        reason = reason.partition("\n")[0]
        self.screen.on_ended(backend, reason)
        if self.card is not None or (self._follows and self._answered is not backend):
            state = "lost" if self._answered is backend else "failed"
            self._report(backend, ClusterView(state, detail=reason))

    @_guarded
    def _on_backend(self, backend: Backend, current: bool) -> None:
        """Follow a backend that became current, or let go of one that is current no longer."""
        if current:
            backend.cell = self.cells.token
            if backend.history is not None:
                backend.history.remember_calls()
            backend.listen(_NotebookListener(backend, self.output, self.logs, self.screen, self._on_lost))
            self.submissions.begin(backend, self.cells.token)
            self.failures.follow(backend)
            if self._follows:
                self._report(backend, ClusterView("starting"))
                self._aside(self._await_cluster, backend)
        else:
            self._answered = None
            self.output.flush()
            self.failures.follow(None)
            self.magics.forget(backend)
            self.screen.on_ended(backend, "the session was shut down")
            if self.card is not None:
                self.screen.set_cluster(self.card, ClusterView("stopped"))

    # ------------------------------------------------------------------------------------------------------------ cells

    @_guarded
    def _pre_run_cell(self, info: Any) -> None:
        numbered = getattr(info, "store_history", False)
        token = self.cells.begin(self.frontend.parent(), self._next_number if numbered else 0)
        self.autoreload.look()
        self.waiting.cell_began(token)
        self.magics.submitter.large = self.config.large_value
        backend = current.peek()
        cell_id = getattr(info, "cell_id", None) or ""
        if backend is not None:
            backend.cell = token
            if self.config.cancel_on_rerun:
                for any_id in self.submissions.unfinished_of(cell_id):
                    backend.cancel(any_id)
        self.submissions.begin(backend, token, cell_id)
        self.failures.begin(token)

    @_guarded
    def _post_run_cell(self, result: Any) -> None:
        # Between two cells all versions of IPython agree about the next number; within a cell they do not.
        self._next_number = int(self.shell.execution_count)
        note = self.waiting.cell_ended(getattr(result, "error_in_exec", None))
        self.output.flush()
        if note:
            self.output.on_notice(self.cells.token, note)
        self.failures.end()

    def _static(self) -> bool:
        chosen = self.config.static
        return settings.static_display() if chosen is None else bool(chosen)

    # --------------------------------------------------------------------------------------------------------- printers

    def _register_printers(self) -> None:
        if not self.frontend.rich:
            return
        formatter = self.shell.display_formatter.ipython_display_formatter
        group = self._show_group
        one = self._show_ref
        shows = {ObjectRef: one, ObjectRefGenerator: one, list: group, tuple: group, dict: group}
        for kind, show in shows.items():
            former = formatter.type_printers.get(kind)
            printer = functools.partial(self._print, show, former)
            self._printers[kind] = (printer, former)
            formatter.for_type(kind, printer)

    def _unregister_printers(self) -> None:
        formatter = self.shell.display_formatter.ipython_display_formatter
        for kind, (printer, former) in self._printers.items():
            if formatter.type_printers.get(kind) is not printer:
                continue
            if former is None:
                formatter.pop(kind)
            else:
                formatter.for_type(kind, former)
        self._printers.clear()

    @staticmethod
    def _print(show: Callable[[Any], bool], former: Callable[[Any], object] | None, value: Any) -> None:
        """Show a value, or let the former printer do so. NotImplementedError makes the formatter use other means."""
        try:
            if show(value):
                return
        except Exception:  # the value is shown as text instead
            log.debug("a display failed", exc_info=True)
        if former is not None:
            former(value)
            return
        own = getattr(type(value), "_ipython_display_", None)
        if own is None:
            raise NotImplementedError
        own(value)

    def _show_ref(self, ref: ObjectRef[Any] | ObjectRefGenerator[Any]) -> bool:
        self.screen.show_ref(ref if isinstance(ref, ObjectRef) else ref.completed(), repr(ref))
        return True

    def show_dashboard(self) -> None:
        """Display the cluster, live where possible."""
        backend = current.peek()
        if backend is not None:
            self.dashboards.show(backend)

    def _show_group(self, group: Any) -> bool:
        refs = refs_in(group)
        if refs is None or len({id(ref._backend) for ref in refs}) != 1:
            return False
        self.screen.show_board(refs)
        return True


def _widget_class() -> Callable[..., Any] | None:
    try:
        from ipyremote.notebook.display.widgets import LiveWidget
    except Exception:  # anywidget is missing or broken; plain HTML does not need it
        log.debug("no widgets", exc_info=True)
        return None
    return LiveWidget


class _Loaded:
    """The slot for the one notebook of this process."""

    notebook: Notebook | None = None


def load(shell: Any) -> None:
    """Load the extension into a shell: `%load_ext ipyremote`. Loading again changes nothing."""
    if _Loaded.notebook is None:
        notebook = Notebook(shell)
        _Loaded.notebook = notebook
        notebook.load()


def unload(shell: Any) -> None:
    """Remove the extension from its shell: `%unload_ext ipyremote`."""
    notebook, _Loaded.notebook = _Loaded.notebook, None
    if notebook is not None:
        notebook.unload()
