"""The lifetimes of objects, and the delivery of their values: holders, promises, sealing, forwarding, dropping.

Rules. An object lives as long as it has a holder; adding or removing a holder twice is harmless. A dropped object stops
holding the objects that its value refers to, and so on, without recursion. A segment belongs to the object whose task
or `put` sent the value; an object that took the value by forwarding holds that object instead. Sealing only notes the
woken tasks in `Ledger.woken`, and the release of a living actor's last handle only notes the actor in `Ledger.orphans`;
`Core` acts on both afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable

from ipyremote.core.commands import DropSegment, Send
from ipyremote.core.spilling import drop_segment, end_moves, forget, keep, touch
from ipyremote.core.state import Ledger, Object, Task, move_object
from ipyremote.core.transitions import DEAD, DROPPED, FAILED, PROMISED, SEALED, WAITING
from ipyremote.ids import CLIENTS, DRIVER, NO_CLIENT, ClientId, ObjectId
from ipyremote.messages import (
    DropSegments,
    Failure,
    Forward,
    Inline,
    ObjectReady,
    Put,
    Stored,
    TaskUpdate,
    Value,
)

__all__ = [
    "discard_value",
    "flush_segments",
    "free",
    "hold",
    "hold_all",
    "holds",
    "lost",
    "put",
    "release",
    "release_client",
    "seal",
    "settle_value",
    "want",
]


def lost(object_id: ObjectId) -> Failure:
    """Return the failure that stands for the value of an object that does not exist, or no longer exists."""
    return Failure(
        "object_lost",
        f"object {object_id:#x} is not in this session any more: the last ref to it was released. "
        "Keep a ref to it as long as you need it, and create it again now.",
    )


def hold(ledger: Ledger, obj: Object, holder: int) -> None:
    """Add a holder to an object."""
    have = obj.holders
    if have == 0:
        obj.holders = holder
    elif type(have) is set:
        have.add(holder)
    elif have != holder:
        obj.holders = {have, holder}  # type: ignore[arg-type]  # mypy does not narrow by `type(x) is set`
    if DRIVER < holder < CLIENTS:
        held = ledger.clients[holder].held  # type: ignore[index]  # a holder in this range is a client
        if held is not None:
            held.add(obj.id)


def hold_all(ledger: Ledger, ids: Iterable[ObjectId], holder: int) -> None:
    """Add a holder to each of these objects that exists."""
    objects = ledger.objects
    for object_id in ids:
        obj = objects.get(object_id)
        if obj is not None:
            hold(ledger, obj, holder)


def release(ledger: Ledger, ids: Iterable[ObjectId], holder: int) -> None:
    """Remove a holder from each of these objects that exists, and drop the objects that have no holder left."""
    objects = ledger.objects
    held = ledger.clients[holder].held if DRIVER < holder < CLIENTS else None  # type: ignore[index]  # a client
    for object_id in ids:
        obj = objects.get(object_id)
        if obj is None:
            if object_id < 0:
                ledger.streams.released.append((-object_id, holder))  # type: ignore[arg-type]  # clients release the streams of tasks
            continue
        if held is not None:
            held.discard(object_id)
        if _remove(obj, holder):
            _drop(ledger, obj)
        elif ledger.storage.freeing and object_id in ledger.storage.freeing:
            _free_if_idle(ledger, obj)


def free(ledger: Ledger, ids: Iterable[ObjectId]) -> None:
    """Free the values of objects as soon as no task needs them. Actors and failures stay."""
    for object_id in ids:
        obj = ledger.objects.get(object_id)
        if obj is not None and obj.state in (PROMISED, SEALED) and object_id not in ledger.actors:
            ledger.storage.freeing.add(object_id)
            _free_if_idle(ledger, obj)


def _free_if_idle(ledger: Ledger, obj: Object) -> None:
    """Free the value of an object if no task holds the object."""
    holders = _holders(obj)
    if obj.value is None or any(holder < 0 for holder in holders):
        return
    ledger.storage.freeing.discard(obj.id)
    if type(obj.value) is Failure:
        return
    if obj.creator and type(obj.value) is Stored:
        forget(ledger, obj, obj.value, reuse=False)
        obj.creator = NO_CLIENT
    move_object(obj, FAILED)
    text = f"the value of {obj.label or hex(obj.id)} was freed by hand, with free()."
    obj.value = Failure("object_freed", f"{text} Free only values that no code needs any more.")
    ready = ObjectReady(obj.id, obj.value)
    clients = [ClientId(holder) for holder in sorted(holders) if holder in ledger.clients]
    ledger.out.extend(Send(client, ready) for client in clients)
    refs, obj.refs = obj.refs, ()
    release(ledger, refs, obj.id)


def release_client(ledger: Ledger, client_id: ClientId) -> None:
    """Remove the record of a client that is gone, and all that the client held."""
    client = ledger.clients.get(client_id)
    if client is None:
        return
    if client.held is None:
        release(ledger, list(ledger.objects), client_id)
    else:
        release(ledger, list(client.held), client_id)
    ledger.streams.released.extend((task_id, client_id) for task_id in ledger.streams.known)
    del ledger.clients[client_id]
    if ledger.storage.moves:
        end_moves(ledger, client_id)


def put(ledger: Ledger, sender: ClientId, message: Put) -> None:
    """Record an object that a client has made."""
    object_id = message.object_id
    if object_id in ledger.objects:
        return
    obj = ledger.objects[object_id] = Object(object_id, 0, "", "", None)
    hold(ledger, obj, sender)
    seal(ledger, obj, message.value, sender, message.refs)


def settle_value(
    ledger: Ledger, task: Task, obj: Object, value: Value, refs: tuple[ObjectId, ...], creator: ClientId
) -> None:
    """Give a return object the value that its task gave, or the value of the object that the task forwards to."""
    if type(value) is not Forward:
        seal(ledger, obj, value, creator, refs)  # type: ignore[arg-type]  # mypy does not narrow by `type(x) is not`
        return
    target = ledger.objects.get(value.object_id)
    if target is None:
        seal(ledger, obj, lost(value.object_id))
        return
    link: Object | None = target
    while link is not None:
        if link is obj:
            text = f"{obj.label} returned a deferred ref that leads back to its own result, so it can have no value."
            seal(ledger, obj, Failure("system", text))
            return
        link = link.forward
    obj.refs = (target.id,)
    hold(ledger, target, obj.id)
    if target.value is not None:
        _take_over(ledger, obj, target)
        if obj.waiters is not None:
            _wake(ledger, obj)
        return
    obj.forward = target
    # The task is about to end, so the object itself must remember that the submitter wants the value.
    obj.producer = None
    if holds(obj, task.submitter):
        obj.wanted = (obj.wanted or set()) | {task.submitter}
    if target.waiters is None:
        target.waiters = []
    target.waiters.append(obj)
    show(ledger, obj, "waiting", f"for the value of {target.label or hex(target.id)}, which it returned")


def seal(
    ledger: Ledger,
    obj: Object,
    value: Inline | Stored | Failure,
    creator: ClientId = NO_CLIENT,
    refs: tuple[ObjectId, ...] = (),
) -> None:
    """Give a promised object its value, and give the same value to all objects that forward to this object."""
    if type(value) is Failure:
        refs = value.refs
    if refs:
        refs = tuple(ref for ref in refs if ref in ledger.objects and ref != obj.id)
        hold_all(ledger, refs, obj.id)
        obj.refs = refs
    if type(value) is Stored:
        keep(ledger, obj, value, creator)
    _set_value(ledger, obj, value)
    if obj.waiters is not None:
        _wake(ledger, obj)
    if ledger.storage.freeing and obj.id in ledger.storage.freeing:
        _free_if_idle(ledger, obj)


def want(ledger: Ledger, client_id: ClientId, ids: Iterable[ObjectId]) -> None:
    """Send a client the values of objects: present values now, promised values once they are there."""
    for object_id in ids:
        obj = ledger.objects.get(object_id)
        if obj is None:
            ledger.out.append(Send(client_id, ObjectReady(object_id, lost(object_id))))
        elif obj.value is not None:
            ledger.out.append(Send(client_id, ObjectReady(object_id, obj.value)))
            touch(ledger, object_id)
        elif obj.wanted is None:
            obj.wanted = {client_id}
        else:
            obj.wanted.add(client_id)


def show(ledger: Ledger, obj: Object, state: str, detail: str, seconds: float = 0.0) -> None:
    """Tell the watchers of an object the state of its task. `seconds`: duration of the task so far."""
    if obj.watchers:
        update = TaskUpdate(obj.id, state, obj.label, seconds, detail)
        ledger.out.extend(Send(client, update) for client in sorted(obj.watchers) if client in ledger.clients)


def final_state(obj: Object) -> tuple[str, str]:
    """Return (state, detail) for the `TaskUpdate` of an object that has its value."""
    value = obj.value
    if type(value) is Failure:
        return ("cancelled" if value.kind == "task_cancelled" else "failed"), value.line
    return "done", ""


def discard_value(ledger: Ledger, value: Value, creator: ClientId) -> None:
    """Give up a value of a run that nobody needs: its segment can be recycled."""
    if type(value) is Stored:
        drop_segment(ledger, creator, value.segment)


def flush_segments(ledger: Ledger) -> None:
    """Tell the creators of dropped segments to recycle them; the shell removes segments whose creators are gone."""
    for creator, segments in ledger.lost_segments.items():
        if creator in ledger.clients:
            ledger.out.append(Send(creator, DropSegments(tuple(segments))))
        else:
            ledger.out.append(DropSegment(tuple(segments)))
    ledger.lost_segments.clear()


def _holders(obj: Object) -> set[int]:
    """Return the holders of an object as a set, which must not be changed."""
    have = obj.holders
    return have if isinstance(have, set) else {have} if have else set()


def holds(obj: Object, holder: int) -> bool:
    """Return whether `holder` is a holder of the object."""
    have = obj.holders
    return have == holder or (type(have) is set and holder in have)


def _remove(obj: Object, holder: int) -> bool:
    """Remove a holder from an object. Returns whether it was the last holder."""
    have = obj.holders
    if have == holder:
        obj.holders = 0
        return True
    if type(have) is set and holder in have:
        have.remove(holder)
        if not have:
            obj.holders = 0
            return True
    return False


def _drop(ledger: Ledger, first: Object) -> None:
    """Drop an object without holders, and all objects that lose their last holder by that."""
    objects = ledger.objects
    stack = [first]
    while stack:
        obj = stack.pop()
        if ledger.actors:
            actor = ledger.actors.get(obj.id)
            if actor is not None:
                if actor.state != DEAD:
                    ledger.orphans.append(actor)
                    continue
                del ledger.actors[obj.id]
        move_object(obj, DROPPED)
        del objects[obj.id]
        if obj.id in ledger.streams.known:
            ledger.streams.released.append((obj.id, NO_CLIENT))
        if obj.creator and type(obj.value) is Stored:
            forget(ledger, obj, obj.value, reuse=True)
        if ledger.storage.freeing:
            ledger.storage.freeing.discard(obj.id)
        obj.waiters = None
        for ref in obj.refs:
            inner = objects.get(ref)
            if inner is not None and _remove(inner, obj.id):
                stack.append(inner)


def _set_value(ledger: Ledger, obj: Object, value: Inline | Stored | Failure) -> None:
    """Do the part of sealing that concerns one object only: state, clients, watchers."""
    move_object(obj, FAILED if type(value) is Failure else SEALED)
    obj.value = value
    obj.forward = None
    producer = obj.producer
    wanted = obj.wanted
    submitter = 0
    if producer is not None:
        submitter = producer.submitter
        obj.producer = None
        if (obj.holders == submitter or holds(obj, submitter)) and submitter in ledger.clients:
            ledger.out.append(Send(submitter, ObjectReady(obj.id, value)))
        else:
            submitter = 0
    if wanted is not None:
        ready = ObjectReady(obj.id, value)
        for client in sorted(wanted):
            if client != submitter and client in ledger.clients:
                ledger.out.append(Send(client, ready))
        obj.wanted = None
    if obj.watchers is not None:
        show(ledger, obj, *final_state(obj), obj.seconds)
        obj.watchers = None


def _wake(ledger: Ledger, first: Object) -> None:
    """Wake the tasks that wait for an object, or for an object that forwards to it directly or through others."""
    stack = [first]
    while stack:
        obj = stack.pop()
        waiters = obj.waiters or ()
        obj.waiters = None
        for waiter in waiters:
            if type(waiter) is Task:
                if waiter.state == WAITING and waiter.failure is None:
                    if type(obj.value) is Failure:
                        waiter.failure = obj.value
                        ledger.woken.append(waiter)
                    else:
                        waiter.missing -= 1
                        if not waiter.missing:
                            ledger.woken.append(waiter)
            elif type(waiter) is Object and waiter.state == PROMISED:
                _take_over(ledger, waiter, obj)
                stack.append(waiter)


def _take_over(ledger: Ledger, obj: Object, target: Object) -> None:
    """Give an object that forwards to a sealed object, the target, the target's value."""
    value = target.value
    assert value is not None, "the target is sealed"
    _set_value(ledger, obj, value)
    if type(value) is not Stored and not target.refs:
        # The value does not depend on the target, so a long chain of tail calls keeps only its last object.
        obj.refs = ()
        release(ledger, (target.id,), obj.id)
