"""Real kernels of ipykernel 6.31 and 7.4: every message of a task has its own cell for a parent, whichever cell runs.

Not about what a front end makes of the messages; tests/browser is. The two versions route the output of threads in
opposite ways (6.31: to the cell that started the thread; 7.4: to the latest one), and neither way is right for tasks.

Rules. Each version is installed into a directory of its own, without what it depends on, and put in front of this
environment. A task that must wait waits for a file. What a cell brought is what came between its request and its
"idle": what comes later is lost to tools like nbclient, so it counts as missing.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

from tests.support import leaks
from tests.support.sources import ROOT

pytestmark = pytest.mark.processes

VERSIONS = ("6.31", "7.4")

START = """
%load_ext ipyremote
import os, sys, time
import ipyremote
ipyremote.init(num_cpus=4)

def wait_for(gate):
    deadline = time.monotonic() + 30
    while not os.path.exists(gate):
        assert time.monotonic() < deadline, f"{gate} did not come"
        time.sleep(0.005)

@ipyremote.remote
def speak(word, gate=None):
    if gate:
        wait_for(gate)
    print(word)
    return word

ipyremote.get(speak.remote("warm"))
"""

Message = dict[str, Any]


@dataclass
class Run:
    """A cell that was run to its end."""

    #: The id of its request: the parent of what belongs to it.
    id: str
    reply: dict[str, Any]
    #: All that came before its end, of whatever parent, in order.
    messages: list[Message]


class Kernel:
    """A kernel of one version of ipykernel, and all that it has published."""

    def __init__(self, overlay: Path, home: Path) -> None:
        path = os.pathsep.join([str(overlay), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        self._manager = KernelManager(kernel_name="python3")
        self._log = (home / "kernel.log").open("wb")
        self._manager.start_kernel(
            env={**os.environ, "PYTHONPATH": path, "IPYTHONDIR": str(home)},
            cwd=str(home),
            stdout=self._log,
            stderr=self._log,
        )
        self._client: BlockingKernelClient = self._manager.client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=60)
        self.messages: list[Message] = []

    def close(self) -> None:
        """Kill the kernel, as a restart does."""
        self._client.stop_channels()
        self._manager.shutdown_kernel(now=True)
        self._log.close()

    def submit(self, code: str) -> str:
        """Send a cell without waiting. Returns the id of its request."""
        return str(self._client.execute(code))

    def interrupt(self) -> None:
        """Interrupt the kernel, as the stop button does."""
        self._manager.interrupt_kernel()

    def wait(self, message: str, within: float = 40.0) -> Run:
        """Wait until a cell has ended."""
        start = len(self.messages)
        self.until(
            lambda last: last["msg_type"] == "status" and _parent(last) == message and _idle(last), within
        )
        while True:
            reply = self._client.get_shell_msg(timeout=within)
            if reply["parent_header"]["msg_id"] == message:
                return Run(message, reply["content"], self.messages[start:])

    def has_subshells(self) -> bool:
        """Return whether the kernel handles comm messages while a cell blocks."""
        self._client.kernel_info()
        return "kernel subshells" in self._client.get_shell_msg(timeout=20)["content"].get(
            "supported_features", ()
        )

    def new_subshell(self) -> str:
        """Make a subshell, as a front end does for the comms of its widgets. Returns the id."""
        channel = self._client.control_channel
        channel.send(self._client.session.msg("create_subshell_request", {}))
        return str(self._client.get_control_msg(timeout=20)["content"]["subshell_id"])

    def click(self, comm_id: str, kind: str, subshell: str | None = None) -> None:
        """Send a message as a widget's JavaScript does."""
        content = {"comm_id": comm_id, "data": {"method": "custom", "content": {"kind": kind}}}
        message = self._client.session.msg("comm_msg", content)
        message["header"]["subshell_id"] = subshell
        self._client.shell_channel.send(message)

    def until(self, seen: Callable[[Message], bool], within: float = 20.0) -> Message:
        """Read published messages until one of this kind comes."""
        deadline = time.monotonic() + within
        while True:
            last: Message = self._client.get_iopub_msg(timeout=max(0.01, deadline - time.monotonic()))
            self.messages.append(last)
            if seen(last):
                return last

    def run(self, code: str) -> Run:
        """Run a cell that must succeed."""
        done = self.wait(self.submit(code))
        assert done.reply["status"] == "ok", "\n".join(done.reply.get("traceback", ()))
        return done


def _parent(message: Message) -> str:
    return str(message["parent_header"].get("msg_id", ""))


def _idle(message: Message) -> bool:
    return bool(message["content"]["execution_state"] == "idle")


def text(run: Run, parent: Run, stream: str = "stdout") -> str:
    """Return the text on a stream that `parent` got while `run` ran."""
    return "".join(
        message["content"]["text"]
        for message in run.messages
        if message["msg_type"] == "stream"
        and message["content"]["name"] == stream
        and _parent(message) == parent.id
    )


def strays(run: Run, *parents: Run) -> list[Message]:
    """Return the outputs that belong to none of these cells."""
    outputs = ("stream", "display_data", "execute_result", "error")
    known = {parent.id for parent in parents}
    return [
        message
        for message in run.messages
        if message["msg_type"] in outputs and _parent(message) not in known
    ]


def displays(run: Run, kind: str) -> list[Message]:
    return [message for message in run.messages if message["msg_type"] == kind]


@pytest.fixture(scope="module", params=VERSIONS)
def kernel(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    """A kernel with a cluster, for all tests of one version."""
    overlay = tmp_path_factory.mktemp("ipykernel")
    # The other dependencies are the same in both versions; nest-asyncio got another name in 7.
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"),
            *(
                "--no-compile",
                "--target",
                str(overlay),
                f"ipykernel=={request.param}.*",
                "nest-asyncio",
                "comm",
            ),
        ],
        check=True,
    )
    # jupyter_client keeps an event loop in this thread: three descriptors.
    with leaks.leakless(allowed_descriptors=3):
        kernel = Kernel(overlay, tmp_path_factory.mktemp("home"))
        try:
            kernel.run(START)
            asked = kernel.run("import ipykernel; print(ipykernel.__version__)")
            assert text(asked, asked).startswith(f"{request.param}."), "the overlay is not what runs"
            yield kernel
        finally:
            kernel.close()


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """The path of a file that tasks wait for."""
    return tmp_path / "gate"


def test_tasks_of_two_cells_print_under_these_while_a_third_runs(kernel: Kernel, gate: Path) -> None:
    first = kernel.run(f"a = speak.options(name='first').remote('one', {str(gate)!r})")
    second = kernel.run(f"b = speak.options(name='second').remote('two', {str(gate)!r})")
    third = kernel.run(f"print('before'); open({str(gate)!r}, 'w').close(); print(ipyremote.get([a, b]))")
    assert "one" in text(third, first)
    assert "two" in text(third, second)
    assert "two" not in text(third, first)
    assert "one" not in text(third, second)
    assert text(third, third) == "before\n['one', 'two']\n"
    assert strays(third, first, second, third) == []


def test_a_nested_task_prints_under_the_cell_of_the_outermost(kernel: Kernel, gate: Path) -> None:
    asking = kernel.run(
        "@ipyremote.remote\n"
        "def outer(gate):\n"
        "    wait_for(gate)\n"
        "    print('outer')\n"
        "    return ipyremote.get(speak.remote('inner'))\n"
        f"ref = outer.remote({str(gate)!r})"
    )
    later = kernel.run(f"open({str(gate)!r}, 'w').close(); value = ipyremote.get(ref)")
    assert {line.split()[-1] for line in text(later, asking).splitlines()} == {"outer", "inner"}
    assert strays(later, asking) == []


def test_an_actor_prints_under_the_cell_of_each_call(kernel: Kernel) -> None:
    made = kernel.run(
        "@ipyremote.remote\n"
        "class Parrot:\n"
        "    def say(self, word):\n"
        "        print(word)\n"
        "parrot = Parrot.remote()\n"
        "ipyremote.get(parrot.say.remote('first'))"
    )
    later = kernel.run("ipyremote.get(parrot.say.remote('second'))")
    assert "first" in text(made, made)
    assert "second" in text(later, later)
    assert strays(later, later) == []


def test_text_is_in_order_and_complete_before_the_cell_that_waits_for_it_ends(kernel: Kernel) -> None:
    asking = kernel.run(
        "@ipyremote.remote\ndef count(n):\n    for i in range(n):\n        print(i)\nref = count.remote(500)"
    )
    waiting = kernel.run("print('begin'); ipyremote.get(ref); print('end')")
    # Part of the text may have come at once, before the second cell.
    shown = "".join(
        message["content"]["text"]
        for message in kernel.messages
        if message["msg_type"] == "stream" and _parent(message) == asking.id
    )
    assert [line.split()[-1] for line in shown.splitlines()] == [str(i) for i in range(500)]
    assert text(waiting, waiting) == "begin\nend\n"


def test_text_of_a_cell_and_text_of_its_task_keep_their_order(kernel: Kernel) -> None:
    cell = kernel.run(
        "for i in range(5):\n    print(f'asking {i}')\n    ipyremote.get(speak.remote(f'answer {i}'))"
    )
    said = [" ".join(line.split()[-2:]) for line in text(cell, cell).splitlines()]
    assert said == [f"{word} {i}" for i in range(5) for word in ("asking", "answer")]


def test_text_on_stderr_stays_on_stderr(kernel: Kernel, gate: Path) -> None:
    asking = kernel.run(
        "@ipyremote.remote\n"
        "def warn(gate):\n"
        "    import warnings\n"
        "    wait_for(gate)\n"
        "    print('plain')\n"
        "    print('wrong', file=sys.stderr)\n"
        "    warnings.warn('careful')\n"
        f"ref = warn.remote({str(gate)!r})"
    )
    later = kernel.run(f"open({str(gate)!r}, 'w').close(); ipyremote.get(ref)")
    assert "wrong" in text(later, asking, "stderr")
    assert "UserWarning: careful" in text(later, asking, "stderr")
    assert [line.split()[-1] for line in text(later, asking).splitlines()] == ["plain"]
    assert strays(later, asking) == []


def test_displays_and_text_of_a_task_appear_in_order_under_its_cell(kernel: Kernel, gate: Path) -> None:
    asking = kernel.run(
        "@ipyremote.remote\n"
        "def show(gate):\n"
        "    from IPython.display import HTML, display\n"
        "    wait_for(gate)\n"
        "    print('above')\n"
        "    display(HTML('<b>bold</b>'))\n"
        "    print('below')\n"
        f"ref = show.remote({str(gate)!r})"
    )
    later = kernel.run(f"open({str(gate)!r}, 'w').close(); ipyremote.get(ref)")
    (shown,) = displays(later, "display_data")
    assert _parent(shown) == asking.id
    assert shown["content"]["data"]["text/html"] == "<b>bold</b>"
    before, after = (
        [message for message in part if message["msg_type"] == "stream"]
        for part in (
            later.messages[: later.messages.index(shown)],
            later.messages[later.messages.index(shown) :],
        )
    )
    assert "above" in "".join(message["content"]["text"] for message in before)
    assert "below" in "".join(message["content"]["text"] for message in after)
    assert strays(later, asking) == []


def test_a_task_prints_under_its_cell_when_no_cell_runs(kernel: Kernel, gate: Path) -> None:
    asking = kernel.run(f"ref = speak.remote('alone', {str(gate)!r})")
    gate.touch()
    late = kernel.until(lambda message: message["msg_type"] == "stream")
    assert _parent(late) == asking.id
    assert late["content"]["text"].split()[-1] == "alone"


def test_a_task_that_a_thread_submits_belongs_to_the_cell_that_runs(kernel: Kernel, gate: Path) -> None:
    starting = kernel.run(
        "import threading\n"
        "def submit():\n"
        f"    wait_for({str(gate)!r})\n"
        "    ipyremote.get(speak.remote('from a thread'))\n"
        "thread = threading.Thread(target=submit)\n"
        "thread.start()"
    )
    joining = kernel.run(f"open({str(gate)!r}, 'w').close(); thread.join()")
    assert "from a thread" in text(joining, joining)
    assert strays(joining, joining, starting) == []


def test_a_ref_is_displayed_by_its_cell_and_updated_in_the_name_of_the_latest(
    kernel: Kernel, gate: Path
) -> None:
    showing = kernel.run(f"speak.options(name='shown').remote('seen', {str(gate)!r})")
    (shown,) = displays(showing, "display_data")
    display_id = shown["content"]["transient"]["display_id"]
    assert _parent(shown) == showing.id
    assert {"text/plain", "text/html"} <= set(shown["content"]["data"])

    def final(message: Message) -> bool:
        return (
            message["msg_type"] == "update_display_data"
            and message["content"]["transient"]["display_id"] == display_id
            and 'data-state="resolved"' in message["content"]["data"]["text/html"]
        )

    latest = kernel.run("1")
    gate.touch()
    updated = kernel.until(final)
    assert _parent(updated) == latest.id
    assert set(updated["content"]["data"]) == {"text/plain", "text/html"}


def test_a_remote_cell_prints_without_label_under_itself(kernel: Kernel, gate: Path) -> None:
    remote = kernel.run(f"%%remote answer\nwait_for({str(gate)!r})\nprint('line 1')\nprint('line 2')\n6 * 7")
    later = kernel.run(f"open({str(gate)!r}, 'w').close(); print(ipyremote.get(answer))")
    assert text(later, remote) == "line 1\nline 2\n"
    assert text(later, later) == "42\n"


def test_an_error_belongs_to_the_cell_that_asks(kernel: Kernel) -> None:
    kernel.run("@ipyremote.remote\ndef wrong():\n    return {}['colour']\nref = wrong.remote()")
    asking = kernel.wait(kernel.submit("ipyremote.get(ref)"))
    (error,) = displays(asking, "error")
    assert _parent(error) == asking.id
    assert "KeyError" in error["content"]["ename"]
    assert strays(asking, asking) == []


def test_an_interrupt_ends_get_and_the_task_still_prints_under_its_cell(kernel: Kernel, gate: Path) -> None:
    asking = kernel.run(f"ref = speak.options(name='survivor').remote('alive', {str(gate)!r})")
    waiting = kernel.submit("print('waiting', flush=True); ipyremote.get(ref)")
    kernel.until(lambda message: message["msg_type"] == "stream" and "waiting" in message["content"]["text"])
    kernel.interrupt()
    stopped = kernel.wait(waiting, within=5)
    assert stopped.reply["status"] == "error"
    assert stopped.reply["ename"] == "KeyboardInterrupt"
    (error,) = displays(stopped, "error")
    assert _parent(error) == waiting
    following = kernel.run(f"open({str(gate)!r}, 'w').close(); print(ipyremote.get(ref))")
    assert text(following, asking) == "(survivor#1) alive\n"
    assert text(following, following) == "alive\n"


def test_an_interrupt_of_a_remote_cell_that_blocks_cancels_its_task(kernel: Kernel, gate: Path) -> None:
    blocking = kernel.submit(f"%%remote --block\nprint('begun', flush=True)\nwait_for({str(gate)!r})")
    kernel.until(lambda message: message["msg_type"] == "stream" and "begun" in message["content"]["text"])
    kernel.interrupt()
    assert "Interrupt" in kernel.wait(blocking, within=5).reply["ename"]
    following = kernel.run("print('next')")
    assert text(following, following) == "next\n"
    free = kernel.run("ipyremote.get(speak.options(num_cpus=4).remote('all are free'), timeout=10)")
    assert "all are free" in text(free, free)


def test_a_click_is_heard_while_a_cell_blocks_or_at_its_end_where_there_are_no_subshells(
    kernel: Kernel, gate: Path
) -> None:
    showing = kernel.run(f"ref = speak.remote('never', {str(gate)!r})\nref")
    opened = [message["content"] for message in displays(showing, "comm_open")]
    (widget,) = [content for content in opened if content["data"]["state"]["_model_name"] == "AnyModel"]
    subshell = kernel.new_subshell() if kernel.has_subshells() else None
    # The first message of a page may arrive before its subshell is there.
    kernel.click(widget["comm_id"], "shown")
    blocking = kernel.submit(
        "print('blocking', flush=True)\n"
        "try:\n"
        f"    ipyremote.get(ref, timeout={10 if subshell else 0.5})\n"
        "except Exception as error:\n"
        "    print(type(error).__name__)"
    )
    kernel.until(lambda message: message["msg_type"] == "stream" and "blocking" in message["content"]["text"])
    kernel.click(widget["comm_id"], "cancel", subshell)
    cell = kernel.wait(blocking)
    assert text(cell, cell) == ("TaskCancelledError\n" if subshell else "GetTimeoutError\n")
    with_error = kernel.wait(kernel.submit("ipyremote.get(ref)"))
    assert with_error.reply["ename"] == "TaskCancelledError"


def test_after_an_interrupted_cell_tasks_print_under_their_own_cells(kernel: Kernel) -> None:
    waiting = kernel.submit("print('sleeping', flush=True); time.sleep(30)")
    kernel.until(lambda message: message["msg_type"] == "stream" and "sleeping" in message["content"]["text"])
    kernel.interrupt()
    assert kernel.wait(waiting, within=5).reply["ename"] == "KeyboardInterrupt"
    following = kernel.run("ipyremote.get(speak.remote('here'))")
    assert text(following, following).split()[-1] == "here"
    assert strays(following, following) == []
