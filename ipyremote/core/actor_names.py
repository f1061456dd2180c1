"""The names of actors, the namespaces of drivers, and the titles under which the output of actors is shown.

A name is taken as long as its actor lives. The name of a dead actor is passed over, and forgotten when the table has
grown. Each driver has a namespace of its own unless it names one (`UseNamespace`); a task is in the namespace of the
driver that the task runs for, an actor in the namespace of the driver for which the actor was created. A driver that
claims a session takes over the namespace of the driver before it.

A detached actor is held by `DETACHED`. After its death the actor is held for a while longer, since the handles that
`get_actor` gives hold nothing, and a user of such a handle is to learn how the actor ended.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from ipyremote.core.commands import Send
from ipyremote.core.lifetimes import hold, holds, release
from ipyremote.core.state import DETACHED, Actor, Ledger
from ipyremote.core.transitions import DEAD
from ipyremote.ids import NOBODY, ActorId, ClientId
from ipyremote.messages import Bound, CreateActor, LookUp, NamedActor, Names

__all__ = ["ActorNameTable"]

#: Number of entries without an actor, and of dead detached actors, that may pile up before they are cleared away.
SLACK: Final = 64


class ActorNameTable:
    """The table of names, namespaces, titles and detached actors, as the module docstring says."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        #: Actor ids by (namespace, name). The actors may be dead or gone.
        self._ids: dict[tuple[str, str], ActorId] = {}
        #: Namespaces that drivers have named or taken over, by client id.
        self._namespaces: dict[ClientId, str] = {}
        #: Titles that stand before the output of actors, by actor id.
        self._titles: dict[ActorId, str] = {}
        #: Ids of detached actors, dead or alive, the oldest first.
        self._detached: deque[ActorId] = deque()

    # ------------------------------------------------------------------------------------------------------ namespaces

    def use(self, driver: ClientId, namespace: str) -> None:
        """Set the namespace of a driver."""
        self._namespaces[driver] = namespace

    def inherit(self, heir: ClientId, former: ClientId) -> None:
        """Give the namespace of a driver that has ended to the driver in its place, unless the heir has named one."""
        self._namespaces.setdefault(heir, self.namespace_of(former))

    def namespace_of(self, driver: ClientId) -> str:
        """Return the namespace of a driver."""
        return self._namespaces.get(driver) or f"anonymous-{driver}"

    def own_namespace(self, sender: ClientId, driver: ClientId) -> str:
        """Return the namespace of the code that sent a message. `driver`: the driver that the message names."""
        worker = self._ledger.workers.get(sender)
        if worker is None:
            return self.namespace_of(sender)
        actor = worker.actor
        return self.namespace_of(driver if actor is None else actor.creation.spec.driver)

    # ----------------------------------------------------------------------------------------------------------- names

    def is_taken(self, sender: ClientId, message: CreateActor) -> bool:
        """Return whether another actor has the name that a new actor is to have. If so, answer the sender."""
        spec = message.actor
        if not spec.name:
            return False
        namespace = spec.namespace or self.own_namespace(sender, message.spec.driver)
        actor = self._find(namespace, spec.name)
        if actor is None or actor.id == message.spec.task_id:
            return False
        self._answer(sender, message.request, namespace, [self._entry(namespace, spec.name, actor)])
        return True

    def on_created(self, sender: ClientId, message: CreateActor) -> None:
        """Enter a new actor's name, if there is one, and hold the actor if it is detached."""
        spec = message.actor
        actor = self._ledger.actors.get(message.spec.task_id)
        if actor is None:
            return
        if spec.detached:
            self._hold_detached(actor)
        if spec.name:
            self._forget_gone()
            namespace = spec.namespace or self.own_namespace(sender, message.spec.driver)
            self._ids[namespace, spec.name] = actor.id
            self._answer(sender, message.request, namespace, [self._entry(namespace, spec.name, actor)])

    def on_look_up(self, sender: ClientId, message: LookUp) -> None:
        """Answer a client's question for names."""
        own = self.own_namespace(sender, message.driver)
        wanted = message.namespace or own
        found: list[NamedActor] = []
        if message.name:
            actor = self._find(wanted, message.name)
            if actor is not None:
                found.append(self._entry(wanted, message.name, actor))
        else:
            for namespace, name in sorted(self._ids):
                if message.everywhere or namespace == wanted:
                    actor = self._find(namespace, name)
                    if actor is not None:
                        found.append(self._entry(namespace, name, actor))
        self._answer(sender, message.request, own, found)

    def to_be_saved(self, driver: ClientId) -> dict[str, Bound]:
        """Return the names to be saved of a driver that has ended: its named actors, and all detached ones."""
        objects = self._ledger.objects
        saved = {}
        for namespace, name in sorted(self._ids):
            actor = self._find(namespace, name)
            if actor is not None and (actor.spec.detached or holds(objects[actor.id], driver)):
                # Several namespaces may have the same name; the one in the driver's own namespace is saved.
                own = namespace == self.namespace_of(driver)
                if own or name not in saved:
                    saved[name] = Bound(name, (actor.id,), actor.spec.record)
        return saved

    # ---------------------------------------------------------------------------------------------------------- titles

    def on_titled(self, sender: ClientId, title: str) -> None:
        """Set the title under which the output of the sender, an actor, is shown."""
        worker = self._ledger.workers.get(sender)
        if worker is not None and worker.actor is not None:
            self._forget_gone()
            self._titles[worker.actor.id] = title

    def title_of(self, actor_id: ActorId) -> str:
        """Return the title of an actor; empty: its output is shown under the labels of its calls."""
        return self._titles.get(actor_id, "")

    # --------------------------------------------------------------------------------------------------------- details

    def _find(self, namespace: str, name: str) -> Actor | None:
        actor = self._ledger.actors.get(self._ids.get((namespace, name), NOBODY))
        return None if actor is None or actor.state == DEAD else actor

    def _entry(self, namespace: str, name: str, actor: Actor) -> NamedActor:
        obj = self._ledger.objects.get(actor.id)
        label = obj.label if obj is not None else actor.creation.spec.label
        return NamedActor(name, namespace, actor.id, label, actor.spec.record)

    def _answer(self, sender: ClientId, request: int, namespace: str, actors: list[NamedActor]) -> None:
        self._ledger.out.append(Send(sender, Names(request, namespace, tuple(actors))))

    def _hold_detached(self, actor: Actor) -> None:
        ledger = self._ledger
        hold(ledger, ledger.objects[actor.id], DETACHED)
        self._detached.append(actor.id)
        if len(self._detached) > SLACK:
            alive = {i for i in self._detached if (a := ledger.actors.get(i)) is not None and a.state != DEAD}
            release(ledger, [i for i in self._detached if i not in alive], DETACHED)
            self._detached = deque(i for i in self._detached if i in alive)

    def _forget_gone(self) -> None:
        """Forget the names and titles of actors that are gone, now and then."""
        most = 2 * len(self._ledger.actors) + SLACK
        if len(self._ids) > most:
            self._ids = {key: i for key, i in self._ids.items() if self._find(*key) is not None}
        if len(self._titles) > most:
            self._titles = {i: title for i, title in self._titles.items() if i in self._ledger.actors}
