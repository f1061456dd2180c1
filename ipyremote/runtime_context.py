"""The result of `get_runtime_context()`: facts about the calling code. As in Ray, ids are hexadecimal digits.

Rules. The facts are those of the calling code, on its thread and in its coroutine; only the session is remembered. Only
requests to the scheduler (namespaces, names of actors, labels) wait.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ipyremote.backend import RESOURCE_UNIT, Backend, Identity, current_task, required
from ipyremote.runtime_env import RuntimeEnv

__all__ = ["RuntimeContext"]


class RuntimeContext:
    """The session, task and actor that the calling code belongs to."""

    def __init__(self, backend: Backend) -> None:
        """Describe code in the session of `backend`; `get_runtime_context` makes the object."""
        self._backend = backend

    # ------------------------------------------------------------------------------------------------------- session

    def get_session_name(self) -> str:
        """Return the name of the session."""
        return f"session_{self._backend.key}"

    def get_job_id(self) -> str:
        """Return the id of the session's work, which `job_id` of its refs gives, too."""
        return self._backend.hex_of("job", 0)

    def get_node_id(self) -> str:
        """Return the id of the machine; a session has one."""
        return self._backend.hex_of("node", 0)

    def get_worker_id(self) -> str:
        """Return the id of the calling process in the session; drivers have an id, too."""
        return self._backend.hex_of("process", self._identity().client)

    def get_node_labels(self) -> dict[str, str]:
        """Return the labels of the machine: its id, and the labels of `init`. Asks the scheduler."""
        return self._backend.nodes()[0].labels

    def get_temp_dir(self) -> str:
        """Return the session's directory, which is removed with the session; "" if it has none (`backend="inline"`)."""
        return self._backend.address

    @property
    def namespace(self) -> str:
        """The namespace in which named actors are looked up. Asks the scheduler."""
        return required(self._backend.named_actors, self._backend.capabilities.named_actors).namespace

    @property
    def runtime_env(self) -> RuntimeEnv:
        """The environment of the calling code; in a driver, that of its tasks. Functions are given by name."""
        environments = self._backend.environments
        return RuntimeEnv() if environments is None else environments.runtime_env

    def get_runtime_env_string(self) -> str:
        """Return `runtime_env` as JSON."""
        return self.runtime_env.serialize()

    # ------------------------------------------------------------------------------------------------ task and actor

    def get_task_id(self) -> str | None:
        """Return the id of the running task or method, which `task_id` of its ref gives, too; None in a driver."""
        task = self._identity().task
        return self._backend.hex_of("task", task) if task else None

    def get_task_name(self) -> str | None:
        """Return the running task's name: that of `.options(name=...)`, else the function's; None in a driver."""
        return self._identity().task_name or None

    def get_task_function_name(self) -> str | None:
        """Return the module and qualified name of the running function; None in a driver."""
        return self._identity().function or None

    def get_actor_id(self) -> str | None:
        """Return the id of the actor that the code runs in; None outside of actors."""
        actor = self._identity().actor
        return self._backend.hex_of("actor", actor) if actor else None

    def get_actor_name(self) -> str | None:
        """Return the actor's name; empty for an actor without a name, None outside of actors. Asks the scheduler."""
        actor = self._identity().actor
        if not actor:
            return None
        names = self._backend.named_actors
        named = [] if names is None else names.all(everywhere=True)
        return next((handle.name for handle in named if handle.actor_id == actor), "")

    @property
    def current_actor(self) -> Any:
        """A handle of the actor that the code runs in, which does not keep the actor alive. RuntimeError outside."""
        return current_task.current_actor()

    @property
    def was_current_actor_reconstructed(self) -> bool:
        """Whether the actor that the code runs in was restarted. RuntimeError outside of actors."""
        identity = self._identity()
        if not identity.actor:
            raise RuntimeError("This code does not run in an actor, so nothing can have been reconstructed.")
        return identity.restarted

    def is_canceled(self) -> bool:
        """Return whether `cancel` was called for the running task or method. RuntimeError in drivers, async actors."""
        return current_task.is_canceled()

    # ----------------------------------------------------------------------------------------------------- resources

    def get_assigned_resources(self) -> dict[str, float]:
        """Return the amounts of the running task, or of the actor for life. Raises RuntimeError in a driver."""
        identity = self._identity()
        if not identity.task:
            raise RuntimeError("Resources are assigned to tasks and actors, and this is a driver.")
        return {name: amount / RESOURCE_UNIT for name, amount in identity.resources}

    def get_accelerator_ids(self) -> Mapping[str, list[str]]:
        """Return the indices of the GPUs that the running task or actor may use."""
        return {"GPU": [str(index) for index in self._identity().gpus]}

    def get_placement_group_id(self) -> str | None:
        """Return the id of the placement group that the running task or actor is in; None outside of groups."""
        group = self._identity().group
        return self._backend.hex_of("placement group", group) if group else None

    @property
    def should_capture_child_tasks_in_placement_group(self) -> bool:
        """Whether tasks that the calling code submits are placed in its own placement group, too."""
        return self._identity().captures

    def get(self) -> dict[str, Any]:
        """Return the ids that are known without a request, by name; ids that do not apply are left out. As in Ray."""
        facts = {
            "job_id": self.get_job_id(),
            "node_id": self.get_node_id(),
            "task_id": self.get_task_id(),
            "actor_id": self.get_actor_id(),
        }
        return {name: value for name, value in facts.items() if value is not None}

    def __repr__(self) -> str:
        return "RuntimeContext()"

    def _identity(self) -> Identity:
        return current_task.identity()
