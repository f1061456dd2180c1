"""What is on screen: refs, boards of refs, the cluster card, dashboards.

Who does what. The user's cell calls a `show_...` method, which makes a `Shown`, publishes its first look and hands it
to the updater's thread. From then on only that thread touches it: it applies the backend's updates to the model, sends
what changed (see `publisher`), and at the end replaces the output by static HTML, closes the widget and forgets
everything; a few that can still be clicked are closed later (see `pages`). Callbacks (updates, clicks, ready values)
only hand over to that thread.
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

from ipyremote.backend import Backend
from ipyremote.notebook.display.actions import cancel, open_ref, retry
from ipyremote.notebook.display.displays import ClusterCard, Shown, plain_of
from ipyremote.notebook.display.html import Bar, ClusterView
from ipyremote.notebook.display.models import BoardModel, ClusterModel, Model, RefModel
from ipyremote.notebook.display.pending_reasons import Reasons
from ipyremote.notebook.display.previews import Looks
from ipyremote.notebook.display.publisher import FALLBACK_INTERVAL, Publisher, bundle_of
from ipyremote.notebook.display.ref_groups import have_ended
from ipyremote.notebook.display.subscriptions import Audience
from ipyremote.notebook.display.task_records import Records
from ipyremote.notebook.display.updater import Scheduler
from ipyremote.notebook.display.widget_pool import Pages
from ipyremote.notebook.output.frontend import Bundle, Outlet, Parent
from ipyremote.refs import ObjectRef

if TYPE_CHECKING:
    from ipyremote.notebook.display.widgets import LiveWidget

__all__ = ["ClusterCard", "Screen"]

log = logging.getLogger(__name__)

#: Seconds that a cell waits for the look of a ref that has ended.
_PATIENCE: Final = 0.3
#: Seconds after which an end is shown without the look at the value, which follows.
_LOOK_PATIENCE: Final = 0.02
#: Seconds that a cell waits for anything in static mode.
_STATIC_PATIENCE: Final = 60.0


class Screen:
    """All displays that are not final. The `show_...` methods belong to the user's cell, the rest to any thread."""

    def __init__(
        self,
        outlet: Outlet,
        updater: Scheduler,
        parent: Callable[[], Parent],
        *,
        make_widget: Callable[..., LiveWidget] | None = None,
        static: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._outlet = outlet
        self._updater = updater
        #: The latest cell's request.
        self._parent = parent
        self._static = static
        self._clock = clock
        self._looks = Looks(updater, clock)
        self._numbers = itertools.count(1)
        self._pages = Pages(make_widget)
        self._publisher = Publisher(outlet, parent, self._pages, updater, clock, self._forget)
        self._reasons = Reasons(updater, lambda: tuple(self._publisher.shown))
        self._records = Records()
        self._audience = Audience()

    @property
    def count(self) -> int:
        """How many displays are not final."""
        return len(self._publisher.shown)

    def unsettled_refs(self) -> list[ObjectRef[Any]]:
        """Refs on screen whose tasks have not ended, in the order of their display."""
        found = [
            ref for shown in tuple(self._publisher.shown) if not shown.model.settled for ref in shown.refs
        ]
        return [ref for ref in dict.fromkeys(found) if not have_ended((ref,))]

    # ------------------------------------------------------------------------------------------ from the user's cell

    def show_ref(self, ref: ObjectRef[Any], plain: str = "") -> None:
        """Display a ref; `plain`: as which text."""
        self._show(self._new_ref(ref, plain), ready=have_ended((ref,)))

    def show_board(self, refs: Sequence[ObjectRef[Any]]) -> None:
        """Display a group of refs of one session as one board."""
        shown = self._new_board(refs)
        self._show(shown, ready=have_ended(shown.refs))

    def show_model(self, model: Model, plain: str, backend: Backend) -> Shown:
        """Display something that somebody else keeps up to date by `touch`."""
        shown = self._new(model, plain, backend, ())
        self._show(shown, ready=False)
        return shown

    def new_cluster_card(self) -> ClusterCard:
        """A cluster card, not displayed yet."""
        return ClusterCard(self._new(ClusterModel(), "ipyremote: local cluster", None, ()))

    def show_cluster(self, card: ClusterCard) -> None:
        """Display a cluster card."""
        self._show(card.shown, ready=False)

    def _new_ref(self, ref: ObjectRef[Any], plain: str = "") -> Shown:
        model = RefModel(ref._label)
        model.record = self._records.get(ref._backend, ref._task)
        return self._new(model, plain or repr(ref), ref._backend, (ref,))

    def _new_board(self, refs: Sequence[ObjectRef[Any]]) -> Shown:
        unique = tuple({ref._id: ref for ref in refs}.values())
        model = BoardModel({ref._id: ref._label for ref in unique})
        return self._new(model, plain_of(refs), unique[0]._backend, unique)

    def _new(
        self, model: Model, plain: str, backend: Backend | None, refs: tuple[ObjectRef[Any], ...]
    ) -> Shown:
        number = next(self._numbers)
        return Shown(model, plain, f"ipyremote-{id(self):x}-{number}", number, backend, refs)

    def _show(self, shown: Shown, *, ready: bool) -> None:
        static = self._static()
        # Taken before another thread changes the model.
        first_state, first_html = shown.model.state, shown.model.html(self._clock(), timed=not static)
        if static and shown.model.settled:
            self._outlet.display(bundle_of(shown.plain, first_html))
            return
        shown.sent = first_html, ""
        self._updater.call(self._add, shown)
        patience = _STATIC_PATIENCE if static else _PATIENCE if ready else 0.0
        try:
            if patience and shown.final.wait(patience):
                first_state, first_html = shown.model.state, shown.model.html(0.0, timed=not static)
                if static or not (shown.model.clickable and self._pages.answered):
                    self._outlet.display(bundle_of(shown.plain, first_html))
                    return
                shown.sent = first_html, ""
            bundle = bundle_of(shown.plain, first_html)
            if static:
                self._outlet.display(bundle)
                self._updater.call(self._forget, shown)
                return
            self._outlet.display(self._with_widget(shown, bundle, first_state), shown.display_id)
        except BaseException:
            # An interrupt, or a front end that is gone: nobody will see it.
            self._updater.call(self._forget, shown)
            raise
        self._updater.call(self._place, shown)

    def _with_widget(self, shown: Shown, bundle: Bundle, state: str) -> Bundle:
        if shown.backend is None:
            return bundle
        on_message = partial(self._updater.call, self._on_message, shown)
        shown.widget = self._pages.new_widget(bundle["text/html"], state, on_message, shown.number)
        return bundle if shown.widget is None else shown.widget.bundle(bundle)

    # -------------------------------------------------------------------------------------------------- from any thread

    def on_update(
        self, backend: Backend, object_id: int, state: str, label: str, seconds: float, detail: str
    ) -> None:
        """A watched task changed its state."""
        self._updater.call(self._on_update, backend, object_id, state, label, seconds, detail)

    def on_output(self, backend: Backend, task_id: int, text: str) -> None:
        """A task printed."""
        self._records.write(backend, task_id, text)
        self._on_said(backend, task_id)

    def on_progress(self, backend: Backend, task_id: int, number: int, bar: Bar) -> None:
        """A progress bar of a task moved."""
        self._records.set_bar(backend, task_id, number, bar)
        self._on_said(backend, task_id)

    def _on_said(self, backend: Backend, task_id: int) -> None:
        if self._audience.has(backend, task_id):
            self._updater.call(self._mark_record, backend, task_id)

    def on_ended(self, backend: Backend, reason: str) -> None:
        """A session ended."""
        self._updater.call(self._on_ended, backend, reason)

    def shows(self, refs: Sequence[ObjectRef[Any]]) -> bool:
        """Whether all of these are on screen already, and not final."""
        return all(self._audience.has(ref._backend, ref._id) for ref in refs)

    def is_seen(self, shown: Shown) -> bool:
        """Whether some page shows it, as far as they tell."""
        return shown.widget is not None and self._pages.views(shown.widget) > 0

    def set_cluster(self, card: ClusterCard, view: ClusterView) -> None:
        """Change a cluster card."""
        self._updater.call(self._set_cluster, card.shown, view)

    def touch(self, shown: Shown, *, final: bool = False) -> None:
        """The model of `show_model` has changed, and will not again if it is `final`."""
        self._updater.call(self._finish if final else self._publisher.mark, shown)

    def send_data(self, shown: Shown, content: dict[str, Any]) -> None:
        """Something for the pages that show it, beyond HTML."""
        self._updater.call(self._publisher.send_data, shown, content)

    def show_waiting(self, refs: Sequence[ObjectRef[Any]], parent: Parent) -> Callable[[], None]:
        """Display refs that a cell waits for, under that cell. Returns what to call when it waits no longer."""
        shown = self._new_ref(refs[0]) if len(refs) == 1 else self._new_board(refs)
        shown.looks = False
        self._updater.call(self._show_under, shown, parent)
        return partial(self._updater.call, self._on_waited, shown)

    def show_under(self, model: Model, plain: str, backend: Backend | None, parent: Parent) -> Shown:
        """`show_model`, below the cell with this request."""
        shown = self._new(model, plain, backend, ())
        self._updater.call(self._show_under, shown, parent)
        return shown

    def clear(self, reason: str) -> None:
        """Make everything final as it is."""
        self._updater.call(self._clear, reason)

    # ------------------------------------------------------------------------------------------ on the updater's thread

    def _show_under(self, shown: Shown, parent: Parent) -> None:
        shown.sent = shown.model.html(self._clock(), timed=True), ""
        self._add(shown)
        bundle = self._with_widget(shown, bundle_of(shown.plain, shown.sent[0]), shown.model.state)
        self._outlet.display_under(parent, bundle, shown.display_id, update=False)
        self._place(shown)

    def _on_waited(self, shown: Shown) -> None:
        if not shown.final.is_set():
            # Interrupted, or one has failed: what has not ended goes on, and so does its display.
            self._publisher.mark(shown)

    def _add(self, shown: Shown) -> None:
        if shown.final.is_set():
            return
        self._publisher.shown[shown] = None
        backend = shown.backend
        if not shown.refs:
            return
        if backend is None:
            shown.model.on_ended("it belongs to no session")
            self._end(shown)
            return
        self._watch(shown, backend, [ref._id for ref in shown.refs])

    def _watch(self, shown: Shown, backend: Backend, ids: list[int]) -> None:
        self._audience.add(shown, backend, ids)
        try:
            backend.watch(ids)
        except Exception:  # the session was shut down, or lost
            shown.model.on_ended("its session has ended")
            self._end(shown)

    def _on_update(
        self, backend: Backend, object_id: int, state: str, label: str, seconds: float, detail: str
    ) -> None:
        now = self._clock()
        for shown in self._audience.of(backend, object_id):
            opened = shown.opened
            if opened is not None and opened.object_id == object_id and not opened.model.settled:
                opened.model.on_update(object_id, state, label, seconds, detail, now)
                if opened.model.settled and not opened.looked:
                    opened.looked = True
                    self._look(
                        shown, shown.ref_at(opened.place), opened.model, partial(self._publisher.mark, shown)
                    )
                self._publisher.mark(shown)
            if shown.model.settled:
                continue
            shown.model.on_update(object_id, state, label, seconds, detail, now)
            if state == "failed":
                self._looks.told(backend, object_id)
            if shown.model.settled:
                self._end(shown)
            else:
                self._publisher.mark(shown)
                if state in ("waiting", "ready"):
                    self._reasons.ask()

    def _look(
        self, shown: Shown, ref: ObjectRef[Any] | None, model: RefModel, done: Callable[[], None]
    ) -> None:
        if ref is None or shown.backend is None or model.state not in ("resolved", "failed"):
            if ref is None:
                model.detail = "nobody holds this ref any more"
            done()
            return
        self._looks.take(shown.backend, ref, model, done)

    def _mark_record(self, backend: Backend, task_id: int) -> None:
        record = self._records.get(backend, task_id)
        for shown in self._audience.of(backend, task_id):
            opened = shown.opened
            if isinstance(shown.model, RefModel):
                shown.model.record = record
                self._publisher.mark(shown)
            elif opened is not None and opened.object_id == task_id:
                opened.model.record = record
                self._publisher.mark(shown)

    def _on_ended(self, backend: Backend, reason: str) -> None:
        for shown in tuple(self._publisher.shown):
            if shown.backend is backend and not shown.final.is_set():
                shown.model.on_ended(reason)
                self._finish(shown)
        self._publisher.end_lasting(backend)
        self._records.forget(backend)

    def _set_cluster(self, shown: Shown, view: ClusterView) -> None:
        model = shown.model
        if not isinstance(model, ClusterModel):
            return
        model.view = view
        if shown in self._publisher.shown or not shown.placed:
            if model.settled and not shown.final.is_set():
                self._finish(shown)
            else:
                self._publisher.mark(shown)
        else:
            # It was final, but the cluster has ended since, or another one has taken its place.
            html = model.html(self._clock(), timed=True)
            self._publisher.update_output(shown, html)

    def _place(self, shown: Shown) -> None:
        shown.placed = True
        shown.placed_at = self._clock()
        shown.fallback_due = shown.placed_at + FALLBACK_INTERVAL
        # It may have become final before it was placed: then it was not kept.
        self._publisher.shown[shown] = None
        self._publisher.mark(shown)

    def _end(self, shown: Shown) -> None:
        """The model is settled: look at the value or failure, if there is one to look at, then finish."""
        if shown.ending:
            return
        shown.ending = True
        model = shown.model
        if isinstance(model, RefModel) and shown.looks and model.state in ("resolved", "failed"):
            self._look(shown, shown.ref_at(0), model, partial(self._finish, shown))
            if not shown.final.is_set():
                # Should the look take its time, at least the state is shown.
                self._updater.call_later(_LOOK_PATIENCE, self._publisher.mark, shown)
        else:
            self._finish(shown)

    def _finish(self, shown: Shown) -> None:
        shown.ending = True
        shown.final.set()
        self._unlink(shown)
        if shown.placed:
            self._publisher.mark(shown)
        else:
            # Its cell waits for it, or is about to place it.
            self._publisher.shown.pop(shown, None)

    def _forget(self, shown: Shown) -> None:
        shown.final.set()
        self._unlink(shown)
        self._publisher.shown.pop(shown, None)
        self._publisher.drop(shown)
        widget, shown.widget = shown.widget, None
        if widget is not None:
            self._pages.discard(widget)

    def _unlink(self, shown: Shown) -> None:
        """No further update reaches it."""
        backend, refs = shown.backend, shown.refs
        shown.refs = ()
        if refs and not shown.former:
            shown.former = tuple(map(weakref.ref, refs))
        ids = [ref._id for ref in refs]
        if shown.opened is not None:
            ids.append(shown.opened.object_id)
        unwatched = self._audience.remove(shown, backend, ids)
        if backend is not None and unwatched and not shown.model.settled:
            with suppress(Exception):  # the session has ended, and its watches with it
                backend.unwatch(unwatched)

    def _clear(self, reason: str) -> None:
        for shown in tuple(self._publisher.shown):
            if not shown.final.is_set():
                shown.model.on_ended(reason)
                self._finish(shown)
        self._publisher.send_all()
        self._pages.clear()

    # -------------------------------------------------------------------------------------------------------- clicks

    def _on_message(self, shown: Shown, widget: LiveWidget, kind: str, place: int = -1) -> None:
        self._pages.on_message(widget, kind)
        backend = shown.backend
        if backend is None or shown.widget is not widget:
            return
        match kind:
            case "shown":
                if isinstance(shown.model, BoardModel):
                    widget.send_grid(*shown.model.grid.whole())
                shown.model.on_shown()
                if shown.final.is_set():
                    self._publisher.mark(shown)
            case "cancel":
                cancel(shown, backend, place)
            case "retry":
                for old, new in retry(shown, backend, place):
                    self._run_again(shown, widget, old, new)
                self._publisher.mark(shown)
            case "open":
                opened = open_ref(shown, place)
                if opened is not None:
                    opened.model.record = self._records.get(backend, opened.object_id)
                    self._watch(shown, backend, [opened.object_id])
                self._publisher.mark(shown)
            case "close":
                shown.opened = None
                self._publisher.mark(shown)

    def _run_again(self, shown: Shown, widget: LiveWidget, old: int, new: int) -> None:
        if shown.final.is_set():
            # It was final, and is live again on the pages that still show it.
            shown.refs = tuple(ref for former in shown.former if (ref := former()) is not None)
            shown.final.clear()
            shown.ending = False
            self._publisher.revive(widget)
            self._publisher.shown[shown] = None
        if shown.backend is not None:
            self._audience.forget(shown.backend, old)
            self._watch(shown, shown.backend, [new])
