"""The ways out of this process: to the front ends of a kernel, or to a terminal.

An outlet publishes; what and when is decided elsewhere. A *parent* is the request that an output answers: front ends
show an output under the cell whose request is its parent. Streams go out with the parent of the cell that asked for
the task. Updates of a display go out with the latest cell's parent: JupyterLab finds the display by its id in any case,
and nbclient only accepts what belongs to the cell that is executing.
"""

from __future__ import annotations

import sys
from typing import Any, Protocol, TypeAlias

__all__ = ["Bundle", "Frontend", "KernelFrontend", "Parent", "TerminalFrontend", "frontend_of"]

#: A request's message, or its header; opaque here. Empty outside kernels.
Parent: TypeAlias = dict[str, Any]
#: MIME type to content.
Bundle: TypeAlias = dict[str, Any]


class Frontend(Protocol):
    """Where output goes."""

    #: Whether it shows HTML and can update it later.
    rich: bool

    def parent(self) -> Parent:
        """The request that is being executed by this thread's cell."""

    def stream(self, name: str, text: str, parent: Parent) -> None:
        """Text for "stdout" or "stderr" of the cell with that parent. Any thread."""

    def display(self, bundle: Bundle, display_id: str | None = None) -> None:
        """A new output of the cell that runs now. On the cell's own thread."""

    def display_under(self, parent: Parent, bundle: Bundle, display_id: str, *, update: bool) -> None:
        """A new or changed output under a parent. Any thread."""

    def content(self, parent: Parent, content: dict[str, Any]) -> None:
        """What a task displays, as `messages` draws it, under a parent. Any thread."""


class KernelFrontend:
    """Front ends of an ipykernel. Messages bypass ipykernel's own routing by thread, which differs by version."""

    rich = True

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._kernel = shell.kernel

    def parent(self) -> Parent:
        get_parent = getattr(self._shell, "get_parent", None) or self._kernel.get_parent
        parent = get_parent()
        return parent if isinstance(parent, dict) else {}

    def stream(self, name: str, text: str, parent: Parent) -> None:
        # What the kernel itself printed before is older: it leaves first.
        own = getattr(sys, name, None)
        if own is not None and hasattr(own, "pub_thread"):
            own.flush()
        self._send("stream", f"stream.{name}", {"name": name, "text": text}, parent)

    def display(self, bundle: Bundle, display_id: str | None = None) -> None:
        # Through the shell's publisher, so that %%capture and Output widgets catch it.
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
    """A terminal: text only, and what was printed cannot change."""

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
    """The outlet of an IPython shell."""
    kernel = getattr(shell, "kernel", None)
    if kernel is not None and getattr(kernel, "iopub_socket", None) is not None:
        return KernelFrontend(shell)
    return TerminalFrontend()
