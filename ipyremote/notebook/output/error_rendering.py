"""How a shell shows failures of tasks, and what `%debug` looks at.

IPython has the standard library print every ExceptionGroup, and does not ask the exception (`_render_traceback_`); all
frames of ours would be in it. So the shell's `showtraceback` is wrapped, which `%tb` calls as well, and given back. It
also gives the error a traceback that goes on inside the task, for `%debug`.
"""

from __future__ import annotations

from typing import Any

from ipyremote.exceptions import TaskError
from ipyremote.notebook.output.postmortem import extend_traceback

__all__ = ["ErrorRenderer"]


class ErrorRenderer:
    """The wrapping of one shell."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._former = shell.showtraceback
        #: Whether the shell itself had something else than its class there.
        self._replaced = "showtraceback" in vars(shell)
        #: One object, to be found again.
        self._ours = self._show

    def install(self) -> None:
        """From now on."""
        self._shell.showtraceback = self._ours

    def remove(self) -> None:
        """No longer, unless somebody else has wrapped it since: then what they call goes on to the former one."""
        if vars(self._shell).get("showtraceback") is not self._ours:
            return
        if self._replaced:
            self._shell.showtraceback = self._former
        else:
            del self._shell.showtraceback

    def _show(self, exc_tuple: Any = None, *args: Any, **options: Any) -> None:
        shell = self._shell
        try:
            # Also notes what %debug and %tb look at.
            kind, error, _ = shell._get_exc_info(exc_tuple)
        except ValueError:  # there is none
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
