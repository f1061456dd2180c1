"""Shift-Tab and Tab in a real kernel: the user's own signatures and docstrings, and no internals among completions."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any

import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import start_new_kernel

import ipyremote
from tests.support.sources import ROOT

pytestmark = pytest.mark.processes

_PATIENCE = 30.0

_PROGRAM = '''
import ipyremote
ipyremote.init(backend="inline");

@ipyremote.remote
def scale(length: float, factor: float = 2.0, *, unit: str = "m") -> float:
    """Multiply a length.

    The unit stays."""
    return length * factor

@ipyremote.remote
def count(n: int):
    """Count up."""
    yield from range(n)

@ipyremote.remote
class Counter:
    """A number that grows."""
    def __init__(self, start: int = 0):
        self.value = start
    def add(self, amount: int = 1) -> int:
        """Make the number larger."""
        self.value += amount
        return self.value

counter = Counter.remote(5)
found = Counter.options(name="found").remote(1)
found = ipyremote.get_actor("found")
# IPython itself, without jedi, evaluates no attribute of an object that has a __getattr__, as handles do.
add = counter.add
ref = scale.remote(1.0)
'''


class Prompt:
    """A kernel that is asked for help and completions."""

    def __init__(self, client: BlockingKernelClient) -> None:
        self._client = client

    def run(self, code: str) -> None:
        """Run a cell to its end."""
        reply = self._client.execute_interactive(code, timeout=_PATIENCE, output_hook=lambda message: None)
        assert reply["content"]["status"] == "ok", reply["content"]

    def help(self, code: str) -> str:
        """Return the text that Shift-Tab shows at the end of a line."""
        reply: Any = self._client.inspect(code, len(code), reply=True, timeout=_PATIENCE)
        content = reply["content"]
        assert content["found"], code
        return re.sub(r"\x1b\[[0-9;]*m", "", content["data"]["text/plain"])

    def completions(self, code: str) -> list[str]:
        """Return the texts that Tab offers at the end of a line."""
        reply: Any = self._client.complete(code, len(code), reply=True, timeout=_PATIENCE)
        return [match.rpartition(".")[2].removesuffix("=") for match in reply["content"]["matches"]]


@pytest.fixture(scope="module")
def kernel() -> Iterator[Prompt]:
    """A kernel with a remote function, an actor class, a handle and a ref."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    manager, client = start_new_kernel(kernel_name="python3", env={**os.environ, "PYTHONPATH": path})
    try:
        prompt = Prompt(client)
        prompt.run(_PROGRAM)
        yield prompt
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


@pytest.fixture(params=[True, False], ids=["jedi", "no jedi"])
def prompt(kernel: Prompt, request: pytest.FixtureRequest) -> Prompt:
    """The kernel with jedi on or off."""
    kernel.run(f"get_ipython().Completer.use_jedi = {request.param}")
    return kernel


def test_help_of_a_remote_function_is_the_users_own(kernel: Prompt) -> None:
    for code in ("scale", "scale("):
        shown = kernel.help(code)
        assert re.search(r"length: float,?\s+factor: float = 2\.0,?\s+\*,\s+unit: str = 'm'", shown)
        assert "Multiply a length." in shown


def test_help_of_remote_has_the_users_signature_and_docstring_and_what_remote_does(kernel: Prompt) -> None:
    for code in ("scale.remote", "scale.remote(", "scale.options(num_cpus=1).remote"):
        if "options" in code:
            kernel.run(f"configured = {code.removesuffix('.remote')}")
            code = "configured.remote"
        shown = kernel.help(code)
        assert re.search(r"length: float,?\s+factor: float = 2\.0,?\s+\*,\s+unit: str = 'm'", shown)
        assert "ObjectRef[float]" in shown
        assert "Multiply a length.\n" in shown
        assert "runs this in a worker process, without waiting" in shown


def test_help_of_remote_of_a_generator_says_that_refs_are_streamed(kernel: Prompt) -> None:
    shown = kernel.help("count.remote")
    assert "n: int" in shown
    assert "ObjectRefGenerator" in shown


def test_help_of_an_actor_class_shows_how_an_actor_is_made(kernel: Prompt) -> None:
    for code in ("Counter", "Counter.remote"):
        shown = kernel.help(code)
        assert "start: int = 0" in shown
        assert "A number that grows." in shown
    assert "starts an actor" in kernel.help("Counter.remote(")


def test_help_of_a_method_of_a_handle_is_the_users_own(kernel: Prompt) -> None:
    for code in ("counter.add", "counter.add.remote", "counter.add.remote("):
        shown = kernel.help(code)
        assert "amount: int = 1" in shown
        assert "self" not in shown.partition("Docstring")[0]
        assert "Make the number larger." in shown
    assert "calls this method in the actor's process" in kernel.help("counter.add.remote")


def test_help_of_a_method_knows_the_parameters_of_an_actor_found_by_name(kernel: Prompt) -> None:
    assert "amount" in kernel.help("found.add.remote")


def test_tab_after_the_package_lists_the_public_names_and_nothing_else(prompt: Prompt) -> None:
    offered = prompt.completions("ipyremote.")
    assert sorted(set(ipyremote.__all__) - {"__version__"}) == sorted(set(offered) - {"__version__"})


def test_tab_after_a_remote_function_offers_no_internals(prompt: Prompt) -> None:
    assert ["bind", "options", "remote"] == sorted(prompt.completions("scale."))
    assert ["bind", "options", "remote"] == sorted(prompt.completions("Counter."))


def test_tab_after_a_handle_offers_its_methods(prompt: Prompt) -> None:
    assert ["add"] == prompt.completions("counter.")
    assert ["bind", "options", "remote"] == sorted(prompt.completions("add."))


def test_tab_after_a_ref_offers_no_internals(prompt: Prompt) -> None:
    offered = prompt.completions("ref.")
    assert {"future", "hex", "task_id"} <= set(offered)
    assert [] == [name for name in offered if name.startswith("_")]


def test_tab_inside_a_remote_call_offers_the_users_parameters(prompt: Prompt) -> None:
    assert "unit" in prompt.completions("scale.remote(1.0, un")
    assert "amount" in prompt.completions("add.remote(am")
