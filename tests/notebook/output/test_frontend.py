"""Front ends: which message goes where, with which parent."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from ipyremote.notebook.output.frontend import KernelFrontend, TerminalFrontend, frontend_of


class FakeSession:
    def __init__(self, log: list[Any]) -> None:
        self.log = log

    def send(self, socket: str, kind: str, content: dict[str, Any], *, parent: Any, ident: bytes) -> None:
        self.log.append((socket, kind, content, parent, ident))


def kernel_shell(log: list[Any]) -> Any:
    """A shell that looks like ipykernel's."""
    kernel = SimpleNamespace(
        iopub_socket="iopub", session=FakeSession(log), _topic=lambda topic: f"kernel.1.{topic}".encode()
    )
    publisher = SimpleNamespace(publish=lambda *args, **kwargs: log.append(("publish", args, kwargs)))
    return SimpleNamespace(kernel=kernel, display_pub=publisher, get_parent=lambda: {"msg_id": "now"})


def test_a_stream_goes_out_with_the_given_parent_after_the_kernels_own_text(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log: list[Any] = []
    own = SimpleNamespace(pub_thread=object(), flush=lambda: log.append("flushed"))
    monkeypatch.setattr(sys, "stdout", own)
    KernelFrontend(kernel_shell(log)).stream("stdout", "text", {"msg_id": "then"})
    assert log == [
        "flushed",
        (
            "iopub",
            "stream",
            {"name": "stdout", "text": "text"},
            {"msg_id": "then"},
            b"kernel.1.stream.stdout",
        ),
    ]


def test_a_new_display_goes_through_the_shells_publisher() -> None:
    log: list[Any] = []
    KernelFrontend(kernel_shell(log)).display({"text/plain": "x"}, "one")
    assert log == [("publish", ({"text/plain": "x"}, {}), {"transient": {"display_id": "one"}})]


@pytest.mark.parametrize(("update", "kind"), [(True, "update_display_data"), (False, "display_data")])
def test_a_display_under_a_parent_names_its_id(update: bool, kind: str) -> None:
    log: list[Any] = []
    frontend = KernelFrontend(kernel_shell(log))
    frontend.display_under(frontend.parent(), {"text/plain": "x"}, "one", update=update)
    content = {"data": {"text/plain": "x"}, "metadata": {}, "transient": {"display_id": "one"}}
    assert log == [("iopub", kind, content, {"msg_id": "now"}, b"kernel.1.display_data")]


def test_a_terminal_prints_and_does_not_repeat(capsys: pytest.CaptureFixture[str]) -> None:
    frontend = TerminalFrontend()
    frontend.stream("stdout", "a\n", {})
    frontend.stream("stderr", "b\n", {})
    frontend.display_under({}, {"text/plain": "c"}, "one", update=False)
    frontend.display_under({}, {"text/plain": "d"}, "one", update=True)
    assert capsys.readouterr() == ("a\nc\n", "b\n")


def test_the_front_end_depends_on_the_shell() -> None:
    assert isinstance(frontend_of(kernel_shell([])), KernelFrontend)
    assert isinstance(frontend_of(SimpleNamespace()), TerminalFrontend)
    assert isinstance(
        frontend_of(SimpleNamespace(kernel=SimpleNamespace(iopub_socket=None))), TerminalFrontend
    )
