"""The features of Ray that ipyremote does not have, each with a replacement.

Rules. No feature is faked: using an absent name raises a NotImplementedError whose text has the name and the
replacement. The error is also the usual error for a missing name (an AttributeError or an ImportError), so that
`hasattr` and `try: import` work.
"""

from __future__ import annotations

from typing import Final

__all__ = ["ABSENT", "AbsentFeature", "AbsentModule", "advice"]

_DATA: Final = "pandas or pyarrow inside tasks, with put() for what many tasks read"
_JOBS: Final = "a notebook or a script: it starts its own session"

#: Replacement of each absent name below `ray`; dots separate submodules.
ABSENT: Final = {
    "air": "tasks and actors directly",
    "autoscaler": "init(num_cpus=...): a session has one machine",
    "ClientBuilder": "init(): the cluster runs on this machine",
    "cross_language": "Python functions",
    "cpp_function": "a Python function that loads the library with ctypes",
    "dag": "refs as arguments of .remote(): calls build the graph",
    "dashboard": "%remote_status or dashboard()",
    "data": _DATA,
    "java_actor_class": "an actor in Python",
    "java_function": "a function in Python",
    "job_submission": _JOBS,
    "llm": "the model's own library inside an actor",
    "rllib": "the library of your choice inside actors",
    "serve": "an actor behind a web framework of your choice",
    "show_in_dashboard": "print() in the task: its text appears below the cell",
    "train": "the training library's own loop inside an actor",
    "tune": "joblib's backend (util.joblib), or a task for each configuration",
    "util.accelerators": "the names as texts, such as accelerator_type='A100'",
    "util.ActorGroup": "a list of actors",
    "util.client": "init(): the cluster runs on this machine",
    "util.collective": "actors that pass refs to each other",
    "util.dask": "a task for each step, with refs as arguments",
    "util.debug": "%debug in the notebook, or init(backend='inline')",
    "util.iter": "generators (num_returns='streaming')",
    "util.list_named_actors_by_node": "util.list_named_actors()",
    "util.rpdb": "%debug in the notebook, or init(backend='inline')",
    "util.spark": "pyspark itself",
    "util.state.get_log": "%remote_log, which has what a task has printed",
    "util.state.list_cluster_events": "util.state.list_workers(detail=True), which says how workers have ended",
    "util.state.list_logs": "%remote_log, which has what a task has printed",
    "util.state.list_runtime_envs": "get_runtime_context()",
    "util.state.StateApiClient": "the functions of util.state",
    "util.tracing": "timeline() and %remote_status",
    "workflow": "tasks, with keep_alive for what must outlive the kernel",
}


class AbsentFeature(NotImplementedError, AttributeError):
    """Raised for a feature of Ray's that ipyremote does not have: the text says what to use instead."""


class AbsentModule(NotImplementedError, ImportError):
    """Raised for a module of Ray's that ipyremote does not have: the text says what to use instead."""


def advice(name: str) -> str | None:
    """Return a sentence about `name`, an absent name below `ray` or below such a name; None for other names."""
    parts = name.split(".")
    for length in range(1, len(parts) + 1):
        instead = ABSENT.get(".".join(parts[:length]))
        if instead is not None:
            return f"ray.{name} has no counterpart in ipyremote. Use {instead}."
    return None
