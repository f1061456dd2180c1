"""The creation, look-up and removal of placement groups, and the end of tasks and actors with their group.

Rules. A group is reserved whole or not at all (`group_reservation`), in its turn (`placement`); a group that the
session can never hold waits, and its driver is told once. A group ends with the actor that created it, else with the
driver that its creator ran for, unless it is detached; if a driver's session is kept, its groups stay for the next
driver. The removal of a group ends its tasks and actors: waiting ones at once, running ones with their workers, which
are killed. Names of groups are looked up in the driver's namespace, like names of actors. Removed groups are remembered
for a while, so that clients can ask about them.
"""

from __future__ import annotations

from typing import Final

from ipyremote.backend.placement import GroupRecord
from ipyremote.core.actor_names import ActorNameTable
from ipyremote.core.actors import Actors
from ipyremote.core.commands import Send
from ipyremote.core.dispatch import detach
from ipyremote.core.explain import group_status
from ipyremote.core.group_reservation import dissolve, shape_of
from ipyremote.core.state import GroupState, Ledger, Task, move_group
from ipyremote.core.tasks import fail, is_creation
from ipyremote.core.transitions import DEAD, REMOVED, STOPPING
from ipyremote.core.worker_pool import WorkerPool
from ipyremote.ids import NOBODY, ActorId, ClientId, GroupId
from ipyremote.messages import CreateGroup, Failure, GroupsReply, LookUpGroups, Notice

__all__ = ["GroupLifecycle"]

#: Number of removed groups that are remembered.
REMEMBERED: Final = 100


class GroupLifecycle:
    """The reactions to the creation, look-up and end of placement groups."""

    def __init__(self, ledger: Ledger, pool: WorkerPool, actors: Actors, names: ActorNameTable) -> None:
        self._ledger = ledger
        self._pool = pool
        self._actors = actors
        self._names = names
        #: Groups removed most recently, by id, oldest first.
        self._removed: dict[GroupId, GroupRecord] = {}
        #: Ids of the groups that end with an actor, by the id of the actor.
        self._by_actor: dict[ActorId, set[GroupId]] = {}
        #: Client ids of drivers that have left.
        self._left: set[int] = set()

    # ------------------------------------------------------------------------------------------- creation and removal

    def on_create(self, sender: ClientId, message: CreateGroup) -> None:
        """Create a group for a client, unless the client's namespace has a group with the same name."""
        ledger = self._ledger
        if message.group_id in ledger.groups or message.group_id in self._removed:
            return
        namespace = self._names.own_namespace(sender, message.driver)
        group = self._find(namespace, message.name)
        if group is None:
            group = self._create(sender, message, namespace)
            if message.driver in self._left:
                self.on_driver_gone(message.driver)
        if message.request:
            self._answer(sender, message.request, [group_status(ledger, group)])

    def _create(self, sender: ClientId, message: CreateGroup, namespace: str) -> GroupState:
        """Make the record of a group, which waits to be reserved; tell the driver if it never can be."""
        ledger = self._ledger
        worker = ledger.workers.get(sender)
        actor_id = worker.actor.id if worker is not None and worker.actor is not None else NOBODY
        shape = shape_of(ledger, message)
        group = ledger.groups[message.group_id] = GroupState(message, namespace, actor_id, shape, ledger.now)
        if actor_id and not message.detached:
            self._by_actor.setdefault(actor_id, set()).add(group.id)
        if not shape.missing:
            ledger.waiting_groups[group.id] = group
        elif message.driver in ledger.clients:
            why = f"it needs {shape.missing}. It waits until it is removed."
            text = f"{group.label} cannot be reserved: {why}"
            ledger.out.append(Send(message.driver, Notice(text, message.cell)))
        return group

    def on_remove(self, group_id: GroupId, why: str = "it was removed") -> None:
        """Remove a group, with its tasks and actors. `why`: the reason, as a clause for their failures."""
        ledger = self._ledger
        group = ledger.groups.pop(group_id, None)
        if group is None:
            return
        ledger.waiting_groups.pop(group_id, None)
        self._by_actor.get(group.actor_id, set()).discard(group_id)
        move_group(group, REMOVED)
        if group.shapes:
            self._end_actors(group, why)
            self._end_tasks(group, why)
        dissolve(ledger, group)
        self._removed[group_id] = group_status(ledger, group)
        if len(self._removed) > REMEMBERED:
            del self._removed[next(iter(self._removed))]

    def _end_actors(self, group: GroupState, why: str) -> None:
        """Kill the actors of a group."""
        for actor in list(self._ledger.actors.values()):
            if actor.shape.group is not group or actor.state == DEAD:
                continue
            if actor.worker is not None and actor.worker.state != STOPPING:
                self._pool.stop(actor.worker, kill=True)
            text = f"{actor.spec.class_name} has died with its placement group, {group.label}: {why}."
            self._actors.die(actor, Failure("actor_placement_group_removed", text))

    def _end_tasks(self, group: GroupState, why: str) -> None:
        """Fail the tasks of a group, and kill the workers that run them."""
        ledger = self._ledger
        for task in list(ledger.tasks.values()):
            if task.shape is None or task.shape.group is not group or is_creation(task):
                continue
            self._take_off(task)
            text = f"{task.spec.label} has ended with its placement group, {group.label}: {why}."
            fail(ledger, task, Failure("task_placement_group_removed", text))

    def _take_off(self, task: Task) -> None:
        """Take a task off its worker, if it has one, and kill the worker."""
        worker = task.worker
        if worker is not None:
            if worker.state != STOPPING:
                self._pool.stop(worker, kill=True)
            detach(self._ledger, worker, task)

    # ------------------------------------------------------------------------------------------------------ other ends

    def on_driver_gone(self, driver: ClientId) -> None:
        """React to the end of a driver that had joined the session: remove the groups that it and its tasks created.

        Detached groups and groups that end with an actor stay.
        """
        self._left.add(driver)
        for group in list(self._ledger.groups.values()):
            if group.spec.driver == driver and not group.spec.detached and not group.actor_id:
                self.on_remove(group.id, "the driver that it belonged to has left")

    def tend(self) -> bool:
        """Remove the groups of actors that have died. Returns whether there were such actors."""
        gone = [actor_id for actor_id in self._by_actor if self._has_died(actor_id)]
        for actor_id in gone:
            for group_id in sorted(self._by_actor.pop(actor_id)):
                self.on_remove(group_id, "the actor that had created it has died")
        return bool(gone)

    def _has_died(self, actor_id: ActorId) -> bool:
        """Return whether an actor is dead, or was forgotten after its death."""
        actor = self._ledger.actors.get(actor_id)
        return actor is None or actor.state == DEAD

    # ------------------------------------------------------------------------------------------------------- questions

    def on_look_up(self, sender: ClientId, message: LookUpGroups) -> None:
        """Answer a client that asks for all groups, or for one by its name or id."""
        ledger = self._ledger
        groups = list(ledger.groups.values())
        removed = self._removed
        if message.name:
            found = self._find(self._names.own_namespace(sender, message.driver), message.name)
            groups, removed = [found] if found is not None else [], {}
        elif message.group_id:
            groups = [group for group in groups if group.id == message.group_id]
            removed = {i: status for i, status in removed.items() if i == message.group_id}
        known = [*removed.values(), *(group_status(ledger, group) for group in groups)]
        self._answer(sender, message.request, known)

    def _find(self, namespace: str, name: str) -> GroupState | None:
        """Return the group with a name, if any; an empty name finds none."""
        groups = self._ledger.groups.values()
        named = (group for group in groups if (group.namespace, group.spec.name) == (namespace, name))
        return next(named, None) if name else None

    def _answer(self, sender: ClientId, request: int, groups: list[GroupRecord]) -> None:
        self._ledger.out.append(Send(sender, GroupsReply(request, tuple(groups))))
