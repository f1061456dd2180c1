"""The front ends of a kernel, or the terminal, as the place where output goes.

A `Frontend` publishes; other modules decide about content and time. A *parent* is the request that an output answers:
a front end shows an output below the cell whose request is the output's parent. Streams are published with the parent
of the cell that started the task. Updates of a display are published with the latest cell's parent: JupyterLab finds
the display by its id anyway, and nbclient accepts only messages that belong to the running cell.
"""

from __future__ import annotations

import sys
from typing import Any, Protocol, TypeAlias

__all__ = ["Bundle", "Frontend", "KernelFrontend", "Parent", "TerminalFrontend", "frontend_of"]

#: Message of a request, or its header. Opaque here, and empty outside kernels.
Parent: TypeAlias = dict[str, Any]
#: Content of an output by MIME type.
Bundle: TypeAlias = dict[str, Any]


class Frontend(Protocol):
    """The place where output goes."""

    #: Whether the front end shows HTML and can update HTML later.
    rich: bool

    def parent(self) -> Parent:
        """Return the request of the cell that runs on this thread."""

    def stream(self, name: str, text: str, parent: Parent) -> None:
        """Publish text on "stdout" or "stderr" of the cell with this parent. Any thread."""

    def display(self, bundle: Bundle, display_id: str | None = None) -> None:
        """Publish a new output of the running cell. On the cell's own thread."""

    def display_under(self, parent: Parent, bundle: Bundle, display_id: str, *, update: bool) -> None:
        """Publish a new output, or with `update` a changed one, under a parent. Any thread."""

    def content(self, parent: Parent, content: dict[str, Any]) -> None:
        """Publish the content of a task's `DisplayReport` under a parent. Any thread."""


class KernelFrontend:
    """The front ends of an ipykernel. Messages bypass ipykernel's routing by thread, which differs between versions."""

    rich = True

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._kernel = shell.kernel

    def parent(self) -> Parent:
        get_parent = getattr(self._shell, "get_parent", None) or self._kernel.get_parent
        parent = get_parent()
        return parent if isinstance(parent, dict) else {}

    def stream(self, name: str, text: str, parent: Parent) -> None:
        # Text that the kernel itself has printed is older and has to be sent first.
        own = getattr(sys, name, None)
        if own is not None and hasattr(own, "pub_thread"):
            own.flush()
        self._send("stream", f"stream.{name}", {"name": name, "text": text}, parent)

    def display(self, bundle: Bundle, display_id: str | None = None) -> None:
        # The shell's publisher lets %%capture and Output widgets catch the output.
        transient = {"display_id": display_id} if display_id else {}
        self._shell.display_pub.publish(bundle, {}, transient=transient)

    def display_under(self, parent: Parent, bundle: Bundle, display_id: str, *, update: bool) -> None:
        kind = "update_display_data" if update else "display_data"
        content = {"data": bundle, "metadata": {}, "transient": {"display_id": display_id}}
        self._send(kind, "display_data", content, parent)

    def content(self, parent: Parent, content: dict[str, Any]) -> None:
        if content.get("kind") == "clear_output":
            self._send("clear_output", "clear_output", {"wait": bool(content.get("wait"))}, parent)
            return
        kind = "update_display_data" if content.get("kind") == "update_display_data" else "display_data"
        shown = {name: content.get(name) or {} for name in ("data", "metadata", "transient")}
        self._send(kind, "display_data", shown, parent)

    def _send(self, kind: str, topic: str, content: dict[str, Any], parent: Parent) -> None:
        kernel = self._kernel
        kernel.session.send(kernel.iopub_socket, kind, content, parent=parent, ident=kernel._topic(topic))


class TerminalFrontend:
    """A terminal: it shows text only, and printed text cannot be changed."""

    rich = False

    def parent(self) -> Parent:
        return {}

    def stream(self, name: str, text: str, parent: Parent) -> None:
        target = sys.stderr if name == "stderr" else sys.stdout
        target.write(text)
        target.flush()

    def display(self, bundle: Bundle, display_id: str | None = None) -> None:
        self.stream("stdout", f"{bundle['text/plain']}\n", {})

    def display_under(self, parent: Parent, bundle: Bundle, display_id: str, *, update: bool) -> None:
        if not update:
            self.display(bundle)

    def content(self, parent: Parent, content: dict[str, Any]) -> None:
        text = content.get("data", {}).get("text/plain")
        if content.get("kind") == "display_data" and text:
            self.stream("stdout", f"{text}\n", parent)


def frontend_of(shell: Any) -> Frontend:
    """Return the front end of an IPython shell."""
    kernel = getattr(shell, "kernel", None)
    if kernel is not None and getattr(kernel, "iopub_socket", None) is not None:
        return KernelFrontend(shell)
    return TerminalFrontend()
