"""The life of a task from its submission to its end: promised objects, dependencies, values, and the clean-up.

Nothing here places tasks or knows how they run. The consequences of a task's end for other tasks (tasks that needed its
values, other calls of its actor) are noted in `Ledger.woken` and `Ledger.touched`, and drawn by `Core` right after.
"""

from __future__ import annotations

from sys import intern

from ipyremote.core.dispatch import move, run_seconds
from ipyremote.core.group_reservation import refusal
from ipyremote.core.lifetimes import discard_value, hold, lost, release, seal, settle_value
from ipyremote.core.queues import push, withdraw
from ipyremote.core.resources import intern_shape
from ipyremote.core.state import Function, Ledger, Object, Task
from ipyremote.core.state.history import attempt_of
from ipyremote.core.transitions import CANCELLED, CANCELLING, DONE, FAILED, READY, SEALED, WAITING
from ipyremote.core.unretrieved import notify_unretrieved
from ipyremote.ids import NO_CLIENT, ClientId, ObjectId
from ipyremote.messages import Failure, TaskSpec, Value, share_parts

__all__ = [
    "end",
    "fail",
    "finish",
    "function_of",
    "is_creation",
    "may_retry",
    "promise",
    "submit",
    "wait_for",
]


def is_creation(task: Task) -> bool:
    """Return whether the task creates an actor. A method call has `actor` set, too."""
    return task.actor is not None and not task.spec.actor_id


def may_retry(task: Task) -> bool:
    """Return whether the task may run again after a run that is charged as a retry."""
    retries = task.spec.max_retries
    return retries < 0 or task.attempt < retries


def submit(ledger: Ledger, sender: ClientId, spec: TaskSpec) -> None:
    """Record a client's task that is no method call, and queue it when it is ready."""
    task = promise(ledger, sender, spec)
    if task is None:
        return
    place = spec.place
    if place is None and spec.rare is None and not spec.environment:
        shape = ledger.plain_shapes.get(spec.resources)
        if shape is None:
            shape = ledger.plain_shapes[spec.resources] = intern_shape(ledger, spec.resources)
    else:
        refused = refusal(ledger, spec.resources, place) if place is not None else None
        if refused is not None:
            fail(ledger, task, Failure(f"task_{refused[0]}", f"{spec.label} cannot run: {refused[1]}."))
            return
        # Nothing may be queued behind a task with `max_calls`, since its worker may leave after it.
        exclusive = spec.rare is not None and spec.rare.max_calls > 0
        where = spec.environment
        shape = intern_shape(ledger, spec.resources, exclusive=exclusive, place=place, environment=where)
    task.shape = shape
    task.function = function = ledger.functions.get(spec.digest) or function_of(ledger, spec.digest)
    share_parts(spec, shape.needs, function.digest)
    if (spec.deps or spec.refs) and not wait_for(ledger, task, -spec.task_id):
        return
    push(ledger, shape, task)


def promise(ledger: Ledger, sender: ClientId, spec: TaskSpec) -> Task | None:
    """Record a new task and the objects that it will return, which the sender holds. None if the task is known."""
    task_id = spec.task_id
    tasks = ledger.tasks
    objects = ledger.objects
    if task_id in tasks or task_id in objects:
        return None
    task = tasks[task_id] = Task(spec, sender, READY, ledger.now)
    held = ledger.clients[sender].held
    returns = spec.returns
    # One string object for all tasks of a function: a million results would have a million copies of the name.
    name = intern(spec.name)
    # The usual single return shares the id's int object with its task: a million of them are 30 MB.
    for object_id in (task_id,) if returns == 1 else range(task_id, task_id + returns):
        objects[object_id] = Object(object_id, sender, name, spec.number, task)  # type: ignore[index,arg-type]  # an id plus an index is an id
        if held is not None:
            held.add(object_id)  # type: ignore[arg-type]  # an id plus an index is an id
    if spec.parent:
        parent = tasks.get(spec.parent)
        if parent is not None and parent is not task:
            task.parent = parent
            if parent.children is None:
                parent.children = set()
            parent.children.add(task)
    return task


def wait_for(ledger: Ledger, task: Task, holder: int) -> bool:
    """Hold a new task's arguments for `holder`. Returns whether the task is ready now.

    A task with a failed dependency is put into `Ledger.woken`, and fails there.
    """
    spec = task.spec
    objects = ledger.objects
    for dep in spec.deps:
        obj = objects.get(dep)
        if obj is None:
            task.failure = task.failure or lost(dep)
            continue
        hold(ledger, obj, holder)
        if obj.state == SEALED:
            continue
        if type(obj.value) is Failure:
            task.failure = task.failure or obj.value
            continue
        task.missing += 1
        if obj.waiters is None:
            obj.waiters = []
        obj.waiters.append(task)
    for ref in spec.refs:
        obj = objects.get(ref)
        if obj is not None:
            hold(ledger, obj, holder)
    if task.failure is not None:
        ledger.woken.append(task)
    elif not task.missing:
        return True
    task.state = WAITING
    return False


def function_of(ledger: Ledger, digest: bytes) -> Function:
    """Return the record of a function, a new one at the first call for its digest."""
    function = ledger.functions.get(digest)
    if function is None:
        function = ledger.functions[digest] = Function(digest)
    return function


def finish(
    ledger: Ledger,
    task: Task,
    values: tuple[Value, ...],
    refs: tuple[tuple[ObjectId, ...], ...],
    creator: ClientId,
) -> None:
    """End a task, already taken off its worker, with the values of its run. `creator`: the client that sent them."""
    spec = task.spec
    task_id = spec.task_id
    if len(values) < spec.returns:
        fail(
            ledger,
            task,
            Failure("system", f"{spec.label} returned {len(values)} of {spec.returns} values."),
            discarded=values,
            creator=creator,
        )
        return
    seconds = ledger.now - task.started
    failed = cancelled = False
    objects = ledger.objects
    for index, value in enumerate(values):
        if type(value) is Failure:
            failed = True
            cancelled = cancelled or value.kind == "task_cancelled"
        obj = objects.get(task_id + index) if index < spec.returns else None  # type: ignore[call-overload]  # an id plus an index is an id
        if obj is None:
            discard_value(ledger, value, creator)
            if not index and type(value) is Failure:
                notify_unretrieved(ledger, task, value)
            continue
        obj.seconds = seconds
        settle_value(ledger, task, obj, value, refs[index] if index < len(refs) else (), creator)
    if not failed:
        end(ledger, task, DONE)
    elif cancelled and task.state == CANCELLING:
        end(ledger, task, CANCELLED)
    else:
        end(ledger, task, FAILED)


def fail(
    ledger: Ledger,
    task: Task,
    failure: Failure,
    state: str = FAILED,
    *,
    discarded: tuple[Value, ...] = (),
    creator: ClientId = NO_CLIENT,
) -> None:
    """End a task that is on no worker with a failure as the value of every return object.

    `discarded`: values from `creator` that nobody gets.
    """
    for value in discarded:
        discard_value(ledger, value, creator)
    if task.state == READY and task.shape is not None:
        withdraw(task.shape)
    seconds = run_seconds(ledger, task)
    for index in range(task.spec.returns):
        obj = ledger.objects.get(task.spec.task_id + index)  # type: ignore[call-overload]  # an id plus an index is an id
        if obj is not None and obj.value is None:
            obj.seconds = seconds
            seal(ledger, obj, failure)
        elif obj is None and not index:
            notify_unretrieved(ledger, task, failure)
    end(ledger, task, state)
    past = attempt_of(task, worker=None, state=state, ended=ledger.now, failure=failure)
    ledger.past.unrun.append(past)


def end(ledger: Ledger, task: Task, state: str) -> None:
    """Forget a task whose return objects are settled: release its arguments, take it out of the tree and its actor."""
    task.watched = False
    move(ledger, task, state)
    spec = task.spec
    task_id = spec.task_id
    ledger.counts[state] = ledger.counts.get(state, 0) + 1
    del ledger.tasks[task_id]
    if spec.stream:
        ledger.streams.known.pop(task_id, None)
    actor = task.actor
    if actor is None or spec.actor_id:
        # The arguments of a creation are held for its actor as long as the actor may be created again.
        if spec.deps:
            release(ledger, spec.deps, -task_id)
        if spec.refs:
            release(ledger, spec.refs, -task_id)
    if actor is not None:
        actor.calls.pop(task_id, None)
        ledger.touched[actor.id] = actor
    if task.parent is not None or task.children is not None:
        _leave_tree(task)


def _leave_tree(task: Task) -> None:
    """Take a task out of the tree of parents and children: its children become children of its parent."""
    parent = task.parent
    children = task.children or ()
    for child in children:
        child.parent = parent
    if parent is not None:
        assert parent.children is not None, "a child is in its parent's set"
        parent.children.discard(task)
        parent.children.update(children)
    task.parent = task.children = None
