"""Tasks with GPUs have their own process, as in Ray: the GPU memory that libraries keep is freed with the process."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import ipyremote as ray


def test_a_task_with_a_gpu_has_a_fresh_process_unless_max_calls_says_otherwise(
    start: Callable[..., Any],
) -> None:
    start(num_cpus=1, num_gpus=1)

    def pid() -> int:
        return os.getpid()

    fresh, kept = ray.remote(num_gpus=1)(pid), ray.remote(num_gpus=1, max_calls=0)(pid)
    assert len({ray.get(fresh.remote(), timeout=30) for _ in range(3)}) == 3
    assert len({ray.get(kept.remote(), timeout=30) for _ in range(3)}) == 1
    plain = ray.remote(pid)
    assert len({ray.get(plain.options(num_gpus=0.5).remote(), timeout=30) for _ in range(2)}) == 2
