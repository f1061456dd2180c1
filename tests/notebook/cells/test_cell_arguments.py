"""The flags of `%%remote` and the options of tasks that the flags stand for."""

from __future__ import annotations

from ipyremote.declare.options import TASK_OPTIONS
from ipyremote.notebook.cells.cell_arguments import FLAGS

#: Options of a cell's task, each with the flag that decides it.
FLAG_OF = {
    "num_cpus": "--num-cpus",
    "num_gpus": "--num-gpus",
    "resources": "--resources",
    "max_retries": "--retries",
    "retry_exceptions": "--retries",
    "name": "--name",
    "num_returns": "--output",
}
#: Options without a flag: a cell that needs one of these is written as a function.
WITHOUT_FLAG = {
    "_generator_backpressure_num_objects",
    "_labels",
    "accelerator_type",
    "enable_task_events",
    "fallback_strategy",
    "label_selector",
    "max_calls",
    "memory",
    "placement_group",
    "placement_group_bundle_index",
    "placement_group_capture_child_tasks",
    "runtime_env",
    "scheduling_strategy",
}


def test_every_option_of_a_task_has_a_flag_or_is_known_to_have_none() -> None:
    assert set(TASK_OPTIONS) == FLAG_OF.keys() | WITHOUT_FLAG
    assert set(FLAG_OF.values()) <= FLAGS.keys()
