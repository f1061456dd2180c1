"""The list of public names. A name that appears or disappears here is a change that users notice."""

from __future__ import annotations

import importlib
import inspect

import ipyremote
from ipyremote import exceptions
from tests.support.sources import module_name, modules

PUBLIC = {
    "ActorClass",
    "ActorHandle",
    "ClusterContext",
    "DynamicObjectRefGenerator",
    "LoggingConfig",
    "ObjectRef",
    "ObjectRefGenerator",
    "RemoteFunction",
    "__version__",
    "available_resources",
    "cancel",
    "cluster_resources",
    "dashboard",
    "exceptions",
    "free",
    "get",
    "get_actor",
    "get_gpu_ids",
    "get_runtime_context",
    "init",
    "install_as_ray",
    "is_initialized",
    "kill",
    "method",
    "nodes",
    "progress",
    "put",
    "recover",
    "remote",
    "shutdown",
    "timeline",
    "util",
    "wait",
}

#: The names of `ipyremote.util` and of its modules.
UTIL = {
    "util": {
        "ActorPool",
        "Executor",
        "as_completed",
        "deregister_serializer",
        "get_current_placement_group",
        "get_placement_group",
        "inspect_serializability",
        "joblib",
        "list_named_actors",
        "map_unordered",
        "metrics",
        "multiprocessing",
        "placement_group",
        "placement_group_table",
        "queue",
        "register_serializer",
        "remove_placement_group",
        "safe_print",
        "scheduling_strategies",
        "state",
        "tqdm",
    },
    "util.joblib": {"register_ipyremote", "register_ray"},
    "util.metrics": {"Counter", "Gauge", "Histogram", "Metric", "snapshot"},
    "util.multiprocessing": {"Pool", "TimeoutError"},
    "util.placement_group": {
        "PlacementGroup",
        "get_current_placement_group",
        "get_placement_group",
        "placement_group",
        "placement_group_table",
        "remove_placement_group",
    },
    "util.queue": {"Empty", "Full", "Queue"},
    "util.scheduling_strategies": {
        "DoesNotExist",
        "Exists",
        "In",
        "NodeAffinitySchedulingStrategy",
        "NodeLabelSchedulingStrategy",
        "NotIn",
        "PlacementGroupSchedulingStrategy",
    },
    "util.state": {
        "ActorState",
        "JobState",
        "NodeState",
        "ObjectState",
        "PlacementGroupState",
        "StateApiException",
        "TaskState",
        "WorkerState",
        "get_actor",
        "get_job",
        "get_node",
        "get_objects",
        "get_placement_group",
        "get_task",
        "get_worker",
        "list_actors",
        "list_jobs",
        "list_nodes",
        "list_objects",
        "list_placement_groups",
        "list_tasks",
        "list_workers",
        "summarize_actors",
        "summarize_objects",
        "summarize_tasks",
    },
}

#: Functions that IPython calls, not users.
ENTRANCES = {"load_ipython_extension", "unload_ipython_extension"}


def test_the_public_names_of_the_package_are_the_listed_names() -> None:
    assert PUBLIC == set(ipyremote.__all__)
    assert len(ipyremote.__all__) == len(PUBLIC)


def test_each_public_name_exists_and_has_a_docstring() -> None:
    names = sorted(PUBLIC - {"__version__"})
    assert [] == [name for name in names if not inspect.getdoc(getattr(ipyremote, name))]


def test_the_public_names_of_util_are_the_listed_names() -> None:
    found = {module: importlib.import_module(f"ipyremote.{module}") for module in UTIL}
    assert {module: set(value.__all__) for module, value in found.items()} == UTIL


def test_each_public_name_of_util_has_a_docstring() -> None:
    found = {module: importlib.import_module(f"ipyremote.{module}") for module in UTIL}
    names = [(module, name) for module in UTIL for name in sorted(UTIL[module])]
    assert [] == [
        (module, name) for module, name in names if not inspect.getdoc(getattr(found[module], name))
    ]


def test_no_other_name_of_the_package_looks_public() -> None:
    own = {
        name
        for name, value in vars(ipyremote).items()
        if not name.startswith("_")
        and not inspect.ismodule(value)
        and _module_of(value).startswith("ipyremote")
    }
    assert PUBLIC | ENTRANCES >= own


def test_each_exception_has_a_docstring() -> None:
    classes = [value for value in vars(exceptions).values() if inspect.isclass(value)]
    errors = [
        kind for kind in classes if issubclass(kind, BaseException) and kind.__module__ == exceptions.__name__
    ]
    assert ipyremote.exceptions.IPyRemoteError in errors
    assert [] == [kind.__name__ for kind in errors if not kind.__doc__]


def test_each_name_in_the_all_list_of_a_module_exists() -> None:
    names = [module_name(path) for path in modules() if path.name != "__main__.py"]
    found = [importlib.import_module(name) for name in names]
    listed = [(module, name) for module in found for name in getattr(module, "__all__", ())]
    assert [] == [f"{module.__name__}.{name}" for module, name in listed if not hasattr(module, name)]


def _module_of(value: object) -> str:
    return str(getattr(value, "__module__", ""))
