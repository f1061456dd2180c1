"""All displays on screen: refs, boards of refs, the cluster card, dashboards.

- The user's cell calls a `show_...` method, which makes a `ScreenDisplay`, publishes its first look and hands the
  display to the updater's thread.
- From then on only the updater's thread touches the display. The thread applies the backend's updates to the model and
  sends the changes (see `publisher`). At the end, the thread replaces the output by static HTML, closes the widget and
  forgets the display. A few displays that can still be clicked are closed later (see `widget_pool`).
- Callbacks (updates, clicks, ready values) only hand over to the updater's thread.
"""

from __future__ import annotations

import itertools
import logging
import time
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from ipyremote.backend import Backend, ProgressReport, StateReport
from ipyremote.ids import ObjectId, TaskId
from ipyremote.notebook.display.actions import cancel, open_ref, retry
from ipyremote.notebook.display.displays import ClusterCard, ScreenDisplay, plain_of
from ipyremote.notebook.display.html import Bar, ClusterView
from ipyremote.notebook.display.models import BoardModel, ClusterModel, Model, RefModel
from ipyremote.notebook.display.pending_reasons import PendingReasons
from ipyremote.notebook.display.previews import Previewer
from ipyremote.notebook.display.publisher import FALLBACK_INTERVAL, Publisher, bundle_of
from ipyremote.notebook.display.ref_groups import have_ended
from ipyremote.notebook.display.subscriptions import Subscriptions
from ipyremote.notebook.display.task_records import TaskRecords
from ipyremote.notebook.display.updater import UpdateScheduler
from ipyremote.notebook.display.widget_pool import WidgetPool
from ipyremote.notebook.output.frontend import Bundle, Frontend, Parent
from ipyremote.refs import ObjectRef

if TYPE_CHECKING:
    from ipyremote.notebook.display.widgets import LiveWidget

__all__ = ["ClusterCard", "Screen"]

log = logging.getLogger(__name__)

#: Time that a cell waits for the preview of a ref that has ended, in seconds.
_PATIENCE: Final = 0.3
#: Time after which an end is shown although the preview is not there yet, in seconds.
_PREVIEW_PATIENCE: Final = 0.02
#: Time that a cell waits for a final display in static mode, in seconds.
_STATIC_PATIENCE: Final = 60.0


class Screen:
    """All displays that are not final. The user's cell calls the `show_...` methods, any thread the other ones."""

    def __init__(
        self,
        frontend: Frontend,
        updater: UpdateScheduler,
        parent: Callable[[], Parent],
        *,
        make_widget: Callable[..., LiveWidget] | None = None,
        static: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._frontend = frontend
        self._updater = updater
        #: Returns the request of the latest cell.
        self._parent = parent
        self._static = static
        self._clock = clock
        self._previewer = Previewer(updater, clock)
        self._numbers = itertools.count(1)
        self._widgets = WidgetPool(make_widget)
        self._publisher = Publisher(frontend, parent, self._widgets, updater, clock, self._forget)
        self._pending_reasons = PendingReasons(updater, lambda: tuple(self._publisher.live))
        self._task_records = TaskRecords()
        self._subscriptions = Subscriptions()

    @property
    def count(self) -> int:
        """Return the number of displays that are not final."""
        return len(self._publisher.live)

    def unsettled_refs(self) -> list[ObjectRef[Any]]:
        """Return the refs on screen whose tasks have not ended, in the order in which they were displayed."""
        found = [
            ref
            for display in tuple(self._publisher.live)
            if not display.model.settled
            for ref in display.refs
        ]
        return [ref for ref in dict.fromkeys(found) if not have_ended((ref,))]

    # ------------------------------------------------------------------------------------------ from the user's cell

    def show_ref(self, ref: ObjectRef[Any], plain: str = "") -> None:
        """Display a ref. `plain` is the text for readers that show no HTML."""
        self._show(self._new_ref(ref, plain), ready=have_ended((ref,)))

    def show_board(self, refs: Sequence[ObjectRef[Any]]) -> None:
        """Display a group of refs of one session as one board."""
        display = self._new_board(refs)
        self._show(display, ready=have_ended(display.refs))

    def show_model(self, model: Model, plain: str, backend: Backend) -> ScreenDisplay:
        """Display a model that the caller keeps up to date, with a call of `touch` after each change."""
        display = self._new(model, plain, backend, ())
        self._show(display, ready=False)
        return display

    def new_cluster_card(self) -> ClusterCard:
        """Return a cluster card that is not displayed yet."""
        return ClusterCard(self._new(ClusterModel(), "ipyremote: local cluster", None, ()))

    def show_cluster(self, card: ClusterCard) -> None:
        """Display a cluster card."""
        self._show(card.display, ready=False)

    def _new_ref(self, ref: ObjectRef[Any], plain: str = "") -> ScreenDisplay:
        model = RefModel(ref._label)
        model.record = self._task_records.get(ref._backend, ref._task)
        return self._new(model, plain or repr(ref), ref._backend, (ref,))

    def _new_board(self, refs: Sequence[ObjectRef[Any]]) -> ScreenDisplay:
        unique = tuple({ref._id: ref for ref in refs}.values())
        model = BoardModel({ref._id: ref._label for ref in unique})
        return self._new(model, plain_of(refs), unique[0]._backend, unique)

    def _new(
        self, model: Model, plain: str, backend: Backend | None, refs: tuple[ObjectRef[Any], ...]
    ) -> ScreenDisplay:
        number = next(self._numbers)
        return ScreenDisplay(model, plain, f"ipyremote-{id(self):x}-{number}", number, backend, refs)

    def _show(self, display: ScreenDisplay, *, ready: bool) -> None:
        static = self._static()
        # The first look is taken before the updater's thread may change the model.
        first_state, first_html = display.model.state, display.model.html(self._clock(), timed=not static)
        if static and display.model.settled:
            self._frontend.display(bundle_of(display.plain, first_html))
            return
        display.sent = first_html, ""
        self._updater.call(self._add, display)
        patience = _STATIC_PATIENCE if static else _PATIENCE if ready else 0.0
        try:
            if patience and display.final.wait(patience):
                first_state, first_html = display.model.state, display.model.html(0.0, timed=not static)
                if static or not (display.model.clickable and self._widgets.answered):
                    self._frontend.display(bundle_of(display.plain, first_html))
                    return
                display.sent = first_html, ""
            bundle = bundle_of(display.plain, first_html)
            if static:
                self._frontend.display(bundle)
                self._updater.call(self._forget, display)
                return
            self._frontend.display(self._with_widget(display, bundle, first_state), display.display_id)
        except BaseException:
            # After an interrupt, or without a front end, nobody will see the display.
            self._updater.call(self._forget, display)
            raise
        self._updater.call(self._place, display)

    def _with_widget(self, display: ScreenDisplay, bundle: Bundle, state: str) -> Bundle:
        if display.backend is None:
            return bundle
        on_message = partial(self._updater.call, self._on_message, display)
        display.widget = self._widgets.new_widget(bundle["text/html"], state, on_message, display.number)
        return bundle if display.widget is None else display.widget.bundle(bundle)

    # -------------------------------------------------------------------------------------------------- from any thread

    def on_update(self, backend: Backend, update: StateReport) -> None:
        """Take the new state of a watched task."""
        self._updater.call(self._on_update, backend, update)

    def on_output(self, backend: Backend, task_id: TaskId, text: str) -> None:
        """Take output of a task."""
        self._task_records.write(backend, task_id, text)
        self._on_said(backend, task_id)

    def on_progress(self, backend: Backend, progress: ProgressReport) -> None:
        """Take the state of a task's progress bar."""
        state = progress.bar
        total = -1.0 if state.total is None else state.total
        bar = Bar(state.description, state.done, total, state.unit, state.closed)
        self._task_records.set_bar(backend, progress.task_id, state.number, bar)
        self._on_said(backend, progress.task_id)

    def _on_said(self, backend: Backend, task_id: TaskId) -> None:
        if self._subscriptions.has(backend, task_id):
            self._updater.call(self._mark_record, backend, task_id)

    def on_ended(self, backend: Backend, reason: str) -> None:
        """Make the displays of a session that has ended final."""
        self._updater.call(self._on_ended, backend, reason)

    def shows(self, refs: Sequence[ObjectRef[Any]]) -> bool:
        """Return whether all of these refs are on screen, on displays that are not final."""
        return all(self._subscriptions.has(ref._backend, ref._id) for ref in refs)

    def is_seen(self, display: ScreenDisplay) -> bool:
        """Return whether some page shows the display, as far as pages have told."""
        return display.widget is not None and self._widgets.views(display.widget) > 0

    def set_cluster(self, card: ClusterCard, view: ClusterView) -> None:
        """Change a cluster card."""
        self._updater.call(self._set_cluster, card.display, view)

    def touch(self, display: ScreenDisplay, *, final: bool = False) -> None:
        """Note that the model of a display from `show_model` has changed, for the last time if `final`."""
        self._updater.call(self._finish if final else self._publisher.mark, display)

    def send_data(self, display: ScreenDisplay, content: dict[str, Any]) -> None:
        """Send data other than HTML to the pages that show a display."""
        self._updater.call(self._publisher.send_data, display, content)

    def show_waiting(self, refs: Sequence[ObjectRef[Any]], parent: Parent) -> Callable[[], None]:
        """Display the refs that a cell waits for, below that cell. Returns a function for the end of the wait."""
        display = self._new_ref(refs[0]) if len(refs) == 1 else self._new_board(refs)
        display.wants_preview = False
        self._updater.call(self._show_under, display, parent)
        return partial(self._updater.call, self._on_waited, display)

    def show_under(self, model: Model, plain: str, backend: Backend | None, parent: Parent) -> ScreenDisplay:
        """Display a model as `show_model` does, but below the cell with this request."""
        display = self._new(model, plain, backend, ())
        self._updater.call(self._show_under, display, parent)
        return display

    def clear(self, reason: str) -> None:
        """Make all displays final as they are."""
        self._updater.call(self._clear, reason)

    # ------------------------------------------------------------------------------------------ on the updater's thread

    def _show_under(self, display: ScreenDisplay, parent: Parent) -> None:
        display.sent = display.model.html(self._clock(), timed=True), ""
        self._add(display)
        bundle = self._with_widget(display, bundle_of(display.plain, display.sent[0]), display.model.state)
        self._frontend.display_under(parent, bundle, display.display_id, update=False)
        self._place(display)

    def _on_waited(self, display: ScreenDisplay) -> None:
        if not display.final.is_set():
            # After an interrupt or a failure, the other tasks go on, and so does their display.
            self._publisher.mark(display)

    def _add(self, display: ScreenDisplay) -> None:
        if display.final.is_set():
            return
        self._publisher.live[display] = None
        backend = display.backend
        if not display.refs:
            return
        if backend is None:
            display.model.on_ended("it belongs to no session")
            self._end(display)
            return
        self._watch(display, backend, [ref._id for ref in display.refs])

    def _watch(self, display: ScreenDisplay, backend: Backend, ids: list[ObjectId]) -> None:
        self._subscriptions.add(display, backend, ids)
        try:
            backend.watch(ids)
        except Exception:  # the session was shut down, or lost
            display.model.on_ended("the session has ended")
            self._end(display)

    def _on_update(self, backend: Backend, update: StateReport) -> None:
        now, object_id, state = self._clock(), update.object_id, update.state
        for display in self._subscriptions.of(backend, object_id):
            opened = display.opened
            if opened is not None and opened.object_id == object_id and not opened.model.settled:
                opened.model.on_update(update, now)
                if opened.model.settled and not opened.preview_requested:
                    opened.preview_requested = True
                    self._request_preview(
                        display,
                        display.ref_at(opened.place),
                        opened.model,
                        partial(self._publisher.mark, display),
                    )
                self._publisher.mark(display)
            if display.model.settled:
                continue
            display.model.on_update(update, now)
            if state == "failed":
                self._previewer.told(backend, object_id)
            if display.model.settled:
                self._end(display)
            else:
                self._publisher.mark(display)
                if state in ("waiting", "ready"):
                    self._pending_reasons.ask()

    def _request_preview(
        self, display: ScreenDisplay, ref: ObjectRef[Any] | None, model: RefModel, done: Callable[[], None]
    ) -> None:
        if ref is None or display.backend is None or model.state not in ("resolved", "failed"):
            if ref is None:
                model.detail = "nobody holds this ref any more"
            done()
            return
        self._previewer.take(display.backend, ref, model, done)

    def _mark_record(self, backend: Backend, task_id: TaskId) -> None:
        record = self._task_records.get(backend, task_id)
        for display in self._subscriptions.of(backend, task_id):
            opened = display.opened
            if isinstance(display.model, RefModel):
                display.model.record = record
                self._publisher.mark(display)
            elif opened is not None and opened.object_id == task_id:
                opened.model.record = record
                self._publisher.mark(display)

    def _on_ended(self, backend: Backend, reason: str) -> None:
        for display in tuple(self._publisher.live):
            if display.backend is backend and not display.final.is_set():
                display.model.on_ended(reason)
                self._finish(display)
        self._publisher.end_lasting(backend)
        self._task_records.forget(backend)

    def _set_cluster(self, display: ScreenDisplay, view: ClusterView) -> None:
        model = display.model
        if not isinstance(model, ClusterModel):
            return
        model.view = view
        if display in self._publisher.live or not display.placed:
            if model.settled and not display.final.is_set():
                self._finish(display)
            else:
                self._publisher.mark(display)
        else:
            # The card was final, but the cluster has ended since, or another cluster has replaced it.
            html = model.html(self._clock(), timed=True)
            self._publisher.update_output(display, html)

    def _place(self, display: ScreenDisplay) -> None:
        display.placed = True
        display.placed_at = self._clock()
        display.fallback_due = display.placed_at + FALLBACK_INTERVAL
        # A display that became final before it was placed is no longer in `live`.
        self._publisher.live[display] = None
        self._publisher.mark(display)

    def _end(self, display: ScreenDisplay) -> None:
        """Finish the display of a settled model, after the preview of the value or failure, if there is one."""
        if display.ending:
            return
        display.ending = True
        model = display.model
        if isinstance(model, RefModel) and display.wants_preview and model.state in ("resolved", "failed"):
            self._request_preview(display, display.ref_at(0), model, partial(self._finish, display))
            if not display.final.is_set():
                # If the preview takes its time, at least the state is shown.
                self._updater.call_later(_PREVIEW_PATIENCE, self._publisher.mark, display)
        else:
            self._finish(display)

    def _finish(self, display: ScreenDisplay) -> None:
        display.ending = True
        display.final.set()
        self._unlink(display)
        if display.placed:
            self._publisher.mark(display)
        else:
            # The user's cell waits for the display, or is about to place it.
            self._publisher.live.pop(display, None)

    def _forget(self, display: ScreenDisplay) -> None:
        display.final.set()
        self._unlink(display)
        self._publisher.live.pop(display, None)
        self._publisher.drop(display)
        widget, display.widget = display.widget, None
        if widget is not None:
            self._widgets.discard(widget)

    def _unlink(self, display: ScreenDisplay) -> None:
        """Stop the updates of a display, and hold its refs no longer."""
        backend, refs = display.backend, display.refs
        display.refs = ()
        if refs and not display.former:
            display.former = tuple(map(weakref.ref, refs))
        ids = [ref._id for ref in refs]
        if display.opened is not None:
            ids.append(display.opened.object_id)
        unwatched = self._subscriptions.remove(display, backend, ids)
        if backend is not None and unwatched and not display.model.settled:
            with suppress(Exception):  # the session has ended, and its watches with it
                backend.unwatch(unwatched)

    def _clear(self, reason: str) -> None:
        for display in tuple(self._publisher.live):
            if not display.final.is_set():
                display.model.on_ended(reason)
                self._finish(display)
        self._publisher.send_all()
        self._widgets.clear()

    # -------------------------------------------------------------------------------------------------------- clicks

    def _on_message(self, display: ScreenDisplay, widget: LiveWidget, kind: str, place: int = -1) -> None:
        self._widgets.on_message(widget, kind)
        backend = display.backend
        if backend is None or display.widget is not widget:
            return
        match kind:
            case "shown":
                if isinstance(display.model, BoardModel):
                    widget.send_grid(*display.model.grid.whole())
                display.model.on_shown()
                if display.final.is_set():
                    self._publisher.mark(display)
            case "cancel":
                cancel(display, backend, place)
            case "retry":
                for old, new in retry(display, backend, place):
                    self._run_again(display, widget, old, new)
                self._publisher.mark(display)
            case "open":
                opened = open_ref(display, place)
                if opened is not None:
                    opened.model.record = self._task_records.get(backend, opened.object_id)
                    self._watch(display, backend, [opened.object_id])
                self._publisher.mark(display)
            case "close":
                display.opened = None
                self._publisher.mark(display)

    def _run_again(self, display: ScreenDisplay, widget: LiveWidget, old: ObjectId, new: ObjectId) -> None:
        if display.final.is_set():
            # The final display becomes live again on the pages that still show it.
            display.refs = tuple(ref for former in display.former if (ref := former()) is not None)
            display.final.clear()
            display.ending = False
            self._publisher.revive(widget)
            self._publisher.live[display] = None
        if display.backend is not None:
            self._subscriptions.forget(display.backend, old)
            self._watch(display, display.backend, [new])
