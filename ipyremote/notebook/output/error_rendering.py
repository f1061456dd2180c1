"""Shows the failures of tasks in a shell, and gives `%debug` the frames of the task.

For an ExceptionGroup, IPython does not ask the exception for its traceback (`_render_traceback_`); the standard library
would print all frames of ipyremote. So the shell's `showtraceback`, which `%tb` calls, too, is wrapped while the
extension is loaded. For `%debug`, the wrapper also gives the error a traceback that goes on inside the task.
"""

from __future__ import annotations

from typing import Any

from ipyremote.exceptions import TaskError
from ipyremote.notebook.output.postmortem import extend_traceback

__all__ = ["ErrorRenderer"]


class ErrorRenderer:
    """The wrapper around one shell's `showtraceback`."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._former = shell.showtraceback
        #: Whether the shell had a `showtraceback` of its own, other than that of its class.
        self._replaced = "showtraceback" in vars(shell)
        #: The bound method, kept because each access makes a new object, and `remove` compares objects.
        self._ours = self._show

    def install(self) -> None:
        """Wrap the shell's `showtraceback`."""
        self._shell.showtraceback = self._ours

    def remove(self) -> None:
        """Restore the shell's `showtraceback`. A wrapper that someone else has added since stays in place."""
        if vars(self._shell).get("showtraceback") is not self._ours:
            return
        if self._replaced:
            self._shell.showtraceback = self._former
        else:
            del self._shell.showtraceback

    def _show(self, exc_tuple: Any = None, *args: Any, **options: Any) -> None:
        shell = self._shell
        try:
            # This call also sets the error that %debug and %tb look at.
            kind, error, _ = shell._get_exc_info(exc_tuple)
        except ValueError:  # there is no error to show
            error = None
        if isinstance(error, TaskError):
            extend_traceback(error, shell)
        if (
            isinstance(error, TaskError)
            and isinstance(error, BaseExceptionGroup)
            and not options.get("exception_only")
        ):
            shell._showtraceback(kind, error, error._render_traceback_())
            if shell.call_pdb:
                shell.debugger(force=True)
        else:
            self._former(exc_tuple, *args, **options)
