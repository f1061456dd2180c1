"""Sessions that outlive their driver for a while, with the objects and actors that the driver's names stood for.

The owner is the driver that the session belongs to: first the driver that started it, then the driver that claims the
saved names. The owner reports which of its names stand for objects and actors (`Bind`). When the owner ends without a
goodbye, `SAVED` holds these objects and actors in its place, and the named actors that it held; its other objects are
released, and the tasks that nobody needs any more are cancelled.

Rules. Binding a name keeps nothing alive as long as the owner lives. A saved name is given up when the time is over, or
when the new owner reports that it holds the name's objects (`Taken`). With nothing saved, or no owner when the time is
over, the session ends. The output of tasks is lost while nobody owns the session; later it goes to the new owner.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from ipyremote.core.actor_names import ActorNameTable
from ipyremote.core.cancel import cancel_tree
from ipyremote.core.commands import Log, Quit, Send
from ipyremote.core.lifetimes import final_state, hold_all, release, release_client
from ipyremote.core.state import SAVED, Ledger, Task
from ipyremote.core.tasks import is_creation
from ipyremote.core.transitions import SHOWN
from ipyremote.core.worker_pool import WorkerPool
from ipyremote.ids import NO_CLIENT, ClientId, ObjectId
from ipyremote.messages import Bind, Bound, Kept, KeptReply, Saved, Taken

__all__ = ["Detached"]


class Detached:
    """The names of the owner and of former owners, and the time that saved names have left."""

    def __init__(self, ledger: Ledger, pool: WorkerPool, names: ActorNameTable, seconds: float) -> None:
        self._ledger = ledger
        self._pool = pool
        self._names = names
        #: Seconds for which the session outlives its driver; 0: the session ends with its driver.
        self._seconds = seconds
        #: The owner's names that stand for objects and actors.
        self._bound: dict[str, Bound] = {}
        #: Names of former owners that were not taken yet.
        self._saved: dict[str, Bound] = {}
        #: Client ids of owners that are gone.
        self._former: set[ClientId] = set()
        #: The latest of the former owners; NO_CLIENT while there is none.
        self._last = NO_CLIENT
        #: Time at which the saved names are given up; None while nothing is saved.
        self.deadline: float | None = None

    def is_due(self) -> bool:
        """Return whether `expire` has something to do: the time of the saved names is over."""
        return self.deadline is not None and self._ledger.now >= self.deadline

    def expire(self) -> None:
        """Give up the saved names if their time is over, and end the session if nobody owns it."""
        if not self.is_due():
            return
        if self._ledger.owner == NO_CLIENT:
            self._ledger.out.append(Log("no driver claimed the saved names in time; the session ends"))
            self._ledger.out.append(Quit())
        self._save({})

    def on_bind(self, sender: ClientId, message: Bind) -> None:
        """Note changes of the owner's names. Other drivers bind nothing."""
        if sender == self._ledger.owner and self._seconds:
            for name in message.unbound:
                self._bound.pop(name, None)
            self._bound.update((bound.name, bound) for bound in message.bound)

    def on_owner_gone(self, client_id: ClientId) -> None:
        """React to the end of the owner's process: save its names, or end the session."""
        ledger = self._ledger
        ledger.owner = NO_CLIENT
        self._former.add(client_id)
        self._last = client_id
        names: dict[str, Bound] = {}
        if self._seconds:
            names = {**self._names.to_be_saved(client_id), **self._saved, **self._bound}
        saved = {name: bound for name, bound in names.items() if self._is_there(bound)}
        if not saved:
            ledger.out.append(Quit())
            return
        self._bound.clear()
        self._save(saved)
        self.deadline = ledger.now + self._seconds
        ledger.out.append(Log(f"the driver is gone; {len(saved)} of its names are kept {self._seconds:g} s"))
        # Before any task is cancelled, so that nothing is sent to the former owner.
        release_client(ledger, client_id)
        # A later task may hold the value of an earlier task, never the other way round.
        for task in reversed(list(ledger.tasks.values())):
            if task.submitter == client_id and ledger.tasks.get(task.spec.task_id) is task:
                self._cancel_unless_needed(task)

    def on_kept(self, sender: ClientId, message: Kept) -> None:
        """Answer a driver's question for the saved names, and make the driver the owner if it claims the session."""
        ledger = self._ledger
        is_taken = ledger.owner not in (NO_CLIENT, sender)
        if message.claim and not is_taken:
            if sender != ledger.owner:
                self._names.inherit(sender, self._last)
            ledger.owner = sender
        saved: tuple[Saved, ...] = ()
        if not is_taken:
            saved = tuple(self._describe(bound) for bound in self._saved.values())
        seconds_left = max(0.0, self.deadline - ledger.now) if self.deadline is not None else 0.0
        ledger.out.append(Send(sender, KeptReply(message.request, is_taken, saved, seconds_left)))

    def on_taken(self, sender: ClientId, message: Taken) -> None:
        """Give up saved names whose objects and actors the owner holds by now."""
        if sender == self._ledger.owner:
            names = set(message.names)
            self._save({name: bound for name, bound in self._saved.items() if name not in names})

    def audience(self, driver: ClientId, cell: int) -> tuple[ClientId, int]:
        """Return the driver and the cell that see a task's output. A new owner has no cell of a former owner."""
        if driver in self._former:
            return self._ledger.owner, 0
        return driver, cell

    def _save(self, saved: dict[str, Bound]) -> None:
        """Make these names the saved ones: hold their objects, and release the others."""
        ids = _ids(saved.values())
        hold_all(self._ledger, ids, SAVED)
        release(self._ledger, _ids(self._saved.values()).keys() - ids.keys(), SAVED)
        self._saved = saved
        if not saved:
            self.deadline = None

    def _is_there(self, bound: Bound) -> bool:
        return any(any_id in self._ledger.objects for any_id in bound.ids)

    def _cancel_unless_needed(self, task: Task) -> None:
        ledger = self._ledger
        spec = task.spec
        objects = ledger.objects
        if is_creation(task) or any(spec.task_id + index in objects for index in range(spec.returns)):
            return
        if task.actor is not None:
            # The call may change the state of an actor that lives on.
            obj = objects.get(task.actor.id)
            if obj is not None and obj.holders:
                return
        cancel_tree(ledger, self._pool, task)

    def _describe(self, bound: Bound) -> Saved:
        found = [self._label_and_state(any_id) for any_id in bound.ids]
        if len(found) == 1:
            return Saved(bound, *found[0])
        counts = Counter(state for _, state in found)
        return Saved(bound, str(len(found)), ", ".join(f"{count} {state}" for state, count in counts.items()))

    def _label_and_state(self, any_id: ObjectId) -> tuple[str, str]:
        """Return label and state of an object or actor."""
        obj = self._ledger.objects.get(any_id)
        if obj is None:
            return "", "lost"
        actor = self._ledger.actors.get(any_id)
        if actor is not None:
            return obj.label, actor.state
        if obj.value is not None:
            return obj.label, final_state(obj)[0]
        return obj.label, SHOWN[obj.producer.state] if obj.producer is not None else "waiting"


def _ids(bounds: Iterable[Bound]) -> dict[ObjectId, None]:
    """Return all ids that these names stand for, each once, in order."""
    return {any_id: None for bound in bounds for any_id in bound.ids}
