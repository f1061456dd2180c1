"""Messages of a real kernel to its front ends: their cells, their order, and the processes and files left behind."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager, start_new_kernel

from ipyremote.notebook.display.widgets import WIDGET_MIME
from tests.support.sources import ROOT

pytestmark = pytest.mark.processes

_PATIENCE = 15.0

Message = dict[str, Any]


class Kernel:
    """A kernel, and all messages that it has published."""

    def __init__(self, manager: KernelManager, client: BlockingKernelClient) -> None:
        self._manager = manager
        self._client = client
        self.published: list[Message] = []
        self._replies: dict[str, Message] = {}

    def send(self, code: str) -> str:
        """Send a cell without waiting. Returns the id of its request, which its messages have as parent."""
        return str(self._client.execute(code))

    def read_until(self, condition: Callable[[], bool]) -> None:
        """Read published messages until the condition holds."""
        deadline = time.monotonic() + _PATIENCE
        while not condition():
            left = deadline - time.monotonic()
            assert left > 0, [(found["msg_type"], found["content"]) for found in self.published[-10:]]
            self.published.append(self._client.get_iopub_msg(timeout=left))

    def run(self, code: str) -> str:
        """Run a cell to its end."""
        cell = self.send(code)
        self.read_until(lambda: self.is_idle(cell))
        assert self.reply(cell)["status"] == "ok", self.reply(cell)
        return cell

    def reply(self, cell: str) -> Message:
        """Return the content of the reply to a cell."""
        while cell not in self._replies:
            found = self._client.get_shell_msg(timeout=_PATIENCE)
            self._replies[found["parent_header"]["msg_id"]] = found["content"]
        return self._replies[cell]

    def debug(self, *commands: str) -> str:
        """Return the text of `%debug` after these commands and `quit`."""
        cell = str(self._client.execute("%debug", allow_stdin=True))
        for command in (*commands, "q"):
            self._client.get_stdin_msg(timeout=_PATIENCE)
            self._client.input(command)
        self.read_until(lambda: self.is_idle(cell))
        return re.sub(r"\x1b\[[0-9;]*m", "", self.text(cell))

    def interrupt(self) -> None:
        """Interrupt the kernel, as the stop button does."""
        self._manager.interrupt_kernel()

    def of(self, cell: str, *kinds: str) -> list[Message]:
        """Return the messages of these kinds that answer a cell."""
        return [
            found
            for found in self.published
            if found["msg_type"] in kinds and found["parent_header"].get("msg_id") == cell
        ]

    def is_idle(self, cell: str) -> bool:
        """Return whether the kernel has told that a cell has ended."""
        return any(found["content"]["execution_state"] == "idle" for found in self.of(cell, "status"))

    def text(self, cell: str) -> str:
        """Return the text of a cell on stdout."""
        return "".join(
            found["content"]["text"]
            for found in self.of(cell, "stream")
            if found["content"]["name"] == "stdout"
        )

    def all(self, kind: str) -> list[Message]:
        """Return all messages of a kind."""
        return [found for found in self.published if found["msg_type"] == kind]


@pytest.fixture(scope="module")
def kernel() -> Iterator[Kernel]:
    """A kernel with a cluster of two CPUs and a function that prints, waits for a file, and prints again."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    manager, client = start_new_kernel(kernel_name="python3", env={**os.environ, "PYTHONPATH": path})
    try:
        kernel = Kernel(manager, client)
        kernel.run("%load_ext ipyremote\nimport ipyremote, os, time\nipyremote.init(num_cpus=2);")
        kernel.run(
            "@ipyremote.remote\n"
            "def speak(name, gate=''):\n"
            "    print(name, 'begins')\n"
            "    while gate and not os.path.exists(gate):\n"
            "        time.sleep(0.01)\n"
            "    print(name, 'ends')\n"
            "    return name"
        )
        yield kernel
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def test_each_cell_gets_the_output_of_its_own_tasks_while_another_one_runs(
    kernel: Kernel, tmp_path: Path
) -> None:
    gates = [tmp_path / "one", tmp_path / "two"]
    first = kernel.run(f"one = speak.remote('one', {str(gates[0])!r})")
    second = kernel.run(f"two = speak.remote('two', {str(gates[1])!r})")
    kernel.read_until(lambda: "begins" in kernel.text(first) and "begins" in kernel.text(second))
    third = kernel.send("ipyremote.get([one, two]); print('the third cell')")
    for gate in gates:
        gate.touch()
    kernel.read_until(lambda: kernel.is_idle(third))
    assert kernel.text(first) == "(speak#1) one begins\n(speak#1) one ends\n"
    assert kernel.text(second) == "(speak#2) two begins\n(speak#2) two ends\n"
    assert kernel.text(third) == "the third cell\n"


def test_output_is_there_before_get_returns(kernel: Kernel) -> None:
    cell = kernel.run(
        "@ipyremote.remote\n"
        "def count():\n"
        "    for i in range(500): print(i)\n"
        "ipyremote.get(count.remote())\n"
        "print('after')"
    )
    lines = kernel.text(cell).splitlines()
    assert lines == [*(f"(count#1) {number}" for number in range(500)), "after"]


def test_an_interrupted_get_answers_at_once_and_the_next_cell_works(kernel: Kernel, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    cell = kernel.send(f"ref = speak.remote('slow', {str(gate)!r}); print('asked'); ipyremote.get(ref)")
    kernel.read_until(lambda: "begins" in kernel.text(cell))
    started = time.monotonic()
    kernel.interrupt()
    kernel.read_until(lambda: kernel.is_idle(cell))
    passed = time.monotonic() - started
    assert kernel.reply(cell)["ename"] == "KeyboardInterrupt"
    assert passed < 1.0
    shown = "\n".join(kernel.reply(cell)["traceback"])
    assert "ipyremote.get(ref)" in shown
    assert ".py" not in shown, "only the user's own frames"
    gate.touch()
    assert "slow" in str(kernel.of(kernel.run("ipyremote.get(ref)"), "execute_result")[0]["content"]["data"])


def test_the_debugger_opens_in_the_task_with_its_variables(kernel: Kernel) -> None:
    defined = kernel.run(
        "import numpy as np\n"
        "@ipyremote.remote\n"
        "def outer(n):\n"
        "    data = np.arange(n)\n"
        "    return ratio(data)\n"
        "def ratio(data):\n"
        "    return len(data) / 0"
    )
    number = kernel.reply(defined)["execution_count"]
    failed = kernel.send("ipyremote.get(outer.remote(3))")
    kernel.read_until(lambda: kernel.is_idle(failed))
    assert kernel.reply(failed)["ename"] == "TaskError(ZeroDivisionError)"
    said = kernel.debug("p data", "up", "p n + 4", "up", "p 'at the call'")
    assert f"> <In [{number}]>(7)ratio()" in said
    assert "----> 7     return len(data) / 0" in said
    assert "array([0, 1, 2])" in said
    assert "----> 5     return ratio(data)" in said
    assert "\n7\n" in said
    assert "----> 1 ipyremote.get(outer.remote(3))" in said
    assert "ipyremote/client" not in said
    again = kernel.send("%tb")
    kernel.read_until(lambda: kernel.is_idle(again))
    shown = [found["content"]["traceback"] for found in kernel.of(again, "error")]
    assert shown == [kernel.reply(failed)["traceback"]]


def test_a_display_ends_as_static_html_and_leaves_no_comm(kernel: Kernel, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    cell = kernel.run(f"speak.remote('shown', {str(gate)!r})")
    (shown,) = kernel.of(cell, "display_data")
    display_id = shown["content"]["transient"]["display_id"]
    assert set(shown["content"]["data"]) == {"text/plain", "text/html", WIDGET_MIME}

    def finals() -> list[Message]:
        return [
            found["content"]["data"]
            for found in kernel.all("update_display_data")
            if found["content"]["transient"]["display_id"] == display_id
            and 'data-state="resolved"' in found["content"]["data"]["text/html"]
        ]

    def open_comms() -> set[str]:
        opened = {found["content"]["comm_id"] for found in kernel.all("comm_open")}
        return opened - {found["content"]["comm_id"] for found in kernel.all("comm_close")}

    assert open_comms()
    gate.touch()
    kernel.read_until(lambda: bool(finals()) and not open_comms())
    assert [set(found) for found in finals()] == [{"text/plain", "text/html"}]
    assert "&#x27;shown&#x27;" in finals()[0]["text/html"]
    kernel.run("import comm, ipywidgets.widgets.widget as widgets")
    counted = kernel.run("print(len(widgets._instances), len(comm.get_comm_manager().comms))")
    assert kernel.text(counted) == "0 0\n"


def test_a_killed_cluster_ends_its_displays_and_is_told_of_once(kernel: Kernel, tmp_path: Path) -> None:
    cell = kernel.run(f"speak.remote('lost', {str(tmp_path / 'never')!r})")
    kernel.read_until(lambda: "begins" in kernel.text(cell))
    kernel.run(
        "import psutil\n"
        "for process in psutil.Process().children():\n"
        "    if 'ipyremote: scheduler' in ' '.join(process.cmdline()): process.kill()"
    )
    display_id = kernel.of(cell, "display_data")[0]["content"]["transient"]["display_id"]

    def states() -> list[str]:
        return [
            found["content"]["data"]["text/html"].split('data-state="')[1].split('"')[0]
            for found in kernel.all("update_display_data")
            if found["content"]["transient"]["display_id"] == display_id
        ]

    kernel.read_until(lambda: "lost" in states())
    spoken = [
        found["content"]["text"] for found in kernel.all("stream") if found["content"]["name"] == "stderr"
    ]
    assert "".join(spoken).count("The cluster is gone") == 1
    assert "ClusterContext" in str(kernel.of(kernel.run("ipyremote.init(num_cpus=2)"), "execute_result"))


def test_the_title_of_a_worker_names_the_cell_by_the_number_that_the_notebook_shows(kernel: Kernel) -> None:
    kernel.run(
        "import time\n"
        "@ipyremote.remote\n"
        "def title(run):\n"
        "    deadline = time.monotonic() + 15\n"
        "    while time.monotonic() < deadline:\n"
        "        shown = open('/proc/self/cmdline').read().rstrip('\\0')\n"
        "        if f'title#{run} ' in shown:\n"
        "            return shown\n"
        "        time.sleep(0.01)\n"
        "    return shown"
    )
    for run in (1, 2):
        cell = kernel.run(f"print(ipyremote.get(title.remote({run})))")
        number = kernel.reply(cell)["execution_count"]
        assert f"ipyremote: title#{run} (cell {number})" in kernel.text(cell)
