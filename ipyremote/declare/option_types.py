"""The options of tasks, actors and methods with their types, for type checkers and editors.

`options.py` checks the same names when they are used. A test compares the two lists.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

__all__ = ["AllOptions", "ClassOptions", "FunctionOptions", "MethodOptions"]


class _CommonOptions(TypedDict, total=False):
    """Options of tasks and of actors alike."""

    num_cpus: float | None
    num_gpus: float | None
    resources: Mapping[str, float] | None
    #: Memory, in bytes.
    memory: float | None
    accelerator_type: str | None
    name: str | None
    runtime_env: Mapping[str, Any] | None
    enable_task_events: bool
    scheduling_strategy: Any
    label_selector: Mapping[str, str] | None
    fallback_strategy: Sequence[Mapping[str, Any]] | None
    placement_group: Any
    placement_group_bundle_index: int
    placement_group_capture_child_tasks: bool | None
    _labels: Mapping[str, str] | None


class FunctionOptions(_CommonOptions, total=False):
    """Options of `.options()` of a remote function, without `num_returns`, which decides the result's type."""

    max_retries: int | None
    retry_exceptions: bool | Sequence[type[BaseException]] | None
    _generator_backpressure_num_objects: int | None


class ClassOptions(_CommonOptions, total=False):
    """Options of `.options()` of an actor class."""

    namespace: str | None
    get_if_exists: bool | None
    lifetime: str | None
    max_restarts: int | None
    max_task_retries: int | None
    max_concurrency: int | None
    max_pending_calls: int | None
    allow_out_of_order_execution: bool | None


class AllOptions(FunctionOptions, ClassOptions, total=False):
    """Options of `@remote`, without `num_returns`: those of tasks and those of actors."""

    max_calls: int | None
    concurrency_groups: Mapping[str, int] | None


class MethodOptions(TypedDict, total=False):
    """Options of `@method`, and of `.options()` of a method, without `num_returns`."""

    name: str | None
    max_task_retries: int | None
    retry_exceptions: bool | Sequence[type[BaseException]] | None
    concurrency_group: str | None
    enable_task_events: bool
    _generator_backpressure_num_objects: int | None
