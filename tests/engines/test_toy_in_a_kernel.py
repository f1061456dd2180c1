"""The toy engine in a real kernel: the messages that the front end gets, and the cells that they belong to."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from jupyter_client.manager import start_new_kernel

from tests.notebook.test_kernel import Kernel
from tests.support.sources import ROOT

pytestmark = pytest.mark.processes


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    """A kernel with a session of the toy engine."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    manager, client = start_new_kernel(kernel_name="python3", env={**os.environ, "PYTHONPATH": path})
    try:
        kernel = Kernel(manager, client)
        kernel.run(
            "from ipyremote.backend import registry\n"
            "from tests.engines.toy import ENGINE\n"
            "registry.register('toy', ENGINE)\n"
            "import ipyremote\n"
            "ipyremote.init('toy://', num_cpus=2)\n"
            "%load_ext ipyremote"
        )
        yield kernel
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def test_output_bars_and_displays_of_a_task_reach_its_cell_while_another_cell_runs(
    kernel: Kernel, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    asking = kernel.run(
        "%%remote answer\n"
        "import os, time\n"
        "from IPython.display import HTML, display\n"
        "from tqdm import tqdm\n"
        "print('begins')\n"
        "display(HTML('<b>bold</b>'))\n"
        "for _ in tqdm(range(3), desc='steps'):\n"
        f"    while not os.path.exists({str(gate)!r}): time.sleep(0.005)\n"
        "!echo shell\n"
        "print('ends')\n"
        "41 + 1"
    )
    kernel.read_until(lambda: "begins" in kernel.text(asking))
    other = kernel.run("print('the other cell')")
    gate.touch()
    third = kernel.run("print(ipyremote.get(answer, timeout=20))")
    # The last displays of the board and of the ref.
    kernel.run("[answer, answer]")
    kernel.read_until(lambda: "ends" in kernel.text(asking))
    assert kernel.text(asking).splitlines() == ["begins", "shell", "ends"]
    assert kernel.text(other) == "the other cell\n"
    assert kernel.text(third) == "42\n"
    shown = [found["content"]["data"].get("text/html") for found in kernel.of(asking, "display_data")]
    assert "<b>bold</b>" in shown
    drawn = [found for found in kernel.all("stream") if "steps:" in found["content"]["text"]]
    assert [] == drawn, "a bar of a task is no text"
