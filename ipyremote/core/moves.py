"""Changing the state of a record: only as the tables of `transitions` allow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipyremote.core.task_log import told
from ipyremote.core.transitions import ACTOR_MOVES, GROUP_MOVES, OBJECT_MOVES, TASK_MOVES, InvalidTransition

if TYPE_CHECKING:
    from ipyremote.core.capacity import Group
    from ipyremote.core.state.ledger import Actor, Object, Task

__all__ = ["move_actor", "move_group", "move_object", "move_task"]


def move_task(task: Task, state: str) -> None:
    """Change a task's state. Raises InvalidTransition."""
    if state not in TASK_MOVES[task.state]:
        text = f"task {task.spec.label} cannot go from {task.state} to {state}"
        raise InvalidTransition(text, task.spec.task_id, told(task.story))
    task.state = state


def move_actor(actor: Actor, state: str) -> None:
    """Change an actor's state. Raises InvalidTransition."""
    if state not in ACTOR_MOVES[actor.state]:
        text = f"actor {actor.spec.class_name} cannot go from {actor.state} to {state}"
        raise InvalidTransition(text, actor.id, told(actor.creation.story))
    actor.state = state


def move_object(obj: Object, state: str) -> None:
    """Change an object's state. Raises InvalidTransition."""
    if state not in OBJECT_MOVES[obj.state]:
        raise InvalidTransition(f"object {obj.label or obj.id} cannot go from {obj.state} to {state}", obj.id)
    obj.state = state


def move_group(group: Group, state: str) -> None:
    """Change a placement group's state. Raises InvalidTransition."""
    if state not in GROUP_MOVES[group.state]:
        raise InvalidTransition(f"{group.label} cannot go from {group.state} to {state}")
    group.state = state
