"""What outlives its driver: the session, for a while, with what the driver's names stood for.

The owner is the driver that the session belongs to: first the one that started it, then whoever claims what that one
left. It says which of its names stand for objects and actors (`Bind`). When it ends without a goodbye, these are held
by `SAVED` in its place, and so are the named actors that it held; everything else of it is released, and the tasks that
nobody needs any more are cancelled.

Rules. Binding a name keeps nothing alive as long as the owner lives. What was saved is given up when its time is over,
or when the new owner says that it holds it (`Taken`). With nothing saved, or nobody there when the time is over, the
session ends. What a task shows while nobody owns the session is seen by nobody; later it goes to the new owner.
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
from ipyremote.ids import NOBODY
from ipyremote.messages import Bind, Bound, Kept, KeptReply, Saved, Taken

__all__ = ["Detached"]


class Detached:
    """See the module docstring."""

    def __init__(self, ledger: Ledger, pool: WorkerPool, names: ActorNameTable, seconds: float) -> None:
        self._ledger = ledger
        self._pool = pool
        self._names = names
        #: For how long; 0: the session ends with its driver.
        self._seconds = seconds
        #: The owner's names.
        self._bound: dict[str, Bound] = {}
        #: Those of former owners that were not taken yet.
        self._saved: dict[str, Bound] = {}
        #: Owners that are gone, and the last of them.
        self._former: set[int] = set()
        self._last = NOBODY
        #: When what is saved is given up; None: nothing is saved.
        self.deadline: float | None = None

    def is_due(self) -> bool:
        """Whether it is time for `tend`."""
        return self.deadline is not None and self._ledger.now >= self.deadline

    def tend(self) -> None:
        """Give up what was saved if its time is over."""
        if not self.is_due():
            return
        if self._ledger.owner == NOBODY:
            self._ledger.out.append(Log("nobody came for what the driver had left; the session ends"))
            self._ledger.out.append(Quit())
        self._save({})

    def on_bind(self, sender: int, message: Bind) -> None:
        """A driver's names have changed."""
        if sender == self._ledger.owner and self._seconds:
            for name in message.unbound:
                self._bound.pop(name, None)
            self._bound.update((bound.name, bound) for bound in message.bound)

    def on_owner_gone(self, client_id: int) -> None:
        """The owner's process has ended."""
        ledger = self._ledger
        ledger.owner = NOBODY
        self._former.add(client_id)
        self._last = client_id
        all_names = {**self._names.left_by(client_id), **self._saved, **self._bound} if self._seconds else {}
        saved = {name: bound for name, bound in all_names.items() if self._is_there(bound)}
        if not saved:
            ledger.out.append(Quit())
            return
        self._bound.clear()
        self._save(saved)
        self.deadline = ledger.now + self._seconds
        ledger.out.append(Log(f"the driver is gone; {len(saved)} of its names are kept {self._seconds:g} s"))
        # First of all, so that nothing is sent to it.
        release_client(ledger, client_id)
        # A later task may hold the value of an earlier one, never the other way round.
        for task in reversed(list(ledger.tasks.values())):
            if task.submitter == client_id and ledger.tasks.get(task.spec.task_id) is task:
                self._cancel_unless_needed(task)

    def on_kept(self, sender: int, message: Kept) -> None:
        """A driver asks what there is, and perhaps claims it."""
        ledger = self._ledger
        is_taken = ledger.owner not in (NOBODY, sender)
        if message.claim and not is_taken:
            if sender != ledger.owner:
                self._names.inherit(sender, self._last)
            ledger.owner = sender
        saved: tuple[Saved, ...] = ()
        if not is_taken:
            saved = tuple(self._described(bound) for bound in self._saved.values())
        left = max(0.0, self.deadline - ledger.now) if self.deadline is not None else 0.0
        ledger.out.append(Send(sender, KeptReply(message.request, is_taken, saved, left)))

    def on_taken(self, sender: int, message: Taken) -> None:
        """The owner holds what these names stand for."""
        if sender == self._ledger.owner:
            names = set(message.names)
            self._save({name: bound for name, bound in self._saved.items() if name not in names})

    def audience(self, driver: int, cell: int) -> tuple[int, int]:
        """The driver and the cell that see what a task shows; the new owner has none of the former one's cells."""
        if driver in self._former:
            return self._ledger.owner, 0
        return driver, cell

    def _save(self, saved: dict[str, Bound]) -> None:
        """From now on these are saved, and nothing else."""
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
            # An actor that lives on is to become what it would have become.
            obj = objects.get(task.actor.id)
            if obj is not None and obj.holders:
                return
        cancel_tree(ledger, self._pool, task)

    def _described(self, bound: Bound) -> Saved:
        looks = [self._look(any_id) for any_id in bound.ids]
        if len(looks) == 1:
            return Saved(bound, *looks[0])
        counts = Counter(state for _, state in looks)
        return Saved(bound, str(len(looks)), ", ".join(f"{count} {state}" for state, count in counts.items()))

    def _look(self, any_id: int) -> tuple[str, str]:
        """Label and state of an object or actor."""
        obj = self._ledger.objects.get(any_id)
        if obj is None:
            return "", "lost"
        actor = self._ledger.actors.get(any_id)
        if actor is not None:
            return obj.label, actor.state
        if obj.value is not None:
            return obj.label, final_state(obj)[0]
        return obj.label, SHOWN[obj.producer.state] if obj.producer is not None else "waiting"


def _ids(bounds: Iterable[Bound]) -> dict[int, None]:
    """All ids of these, each once, in order."""
    return {any_id: None for bound in bounds for any_id in bound.ids}
