"""The listener of a session with `log_to_driver=False`."""

from __future__ import annotations

import sys

from ipyremote.backend import DisplayReport, ProgressReport, StateReport, TextReport

__all__ = ["QuietListener"]


class QuietListener:
    """A listener that drops the output of tasks, and prints sentences for the user."""

    def on_output(self, output: TextReport) -> None:
        """Drop the report."""

    def on_display(self, display: DisplayReport) -> None:
        """Drop the report."""

    def on_progress(self, progress: ProgressReport) -> None:
        """Drop the report."""

    def on_update(self, update: StateReport) -> None:
        """Drop the report."""

    def on_notice(self, cell: int, text: str) -> None:
        """Print the sentence, which is not output of a task."""
        print(f"ipyremote: {text}", file=sys.stderr)

    def flush(self) -> None:
        """Do nothing: no text is held back."""

    def on_lost(self, reason: str) -> None:
        """Do nothing: every later call raises an exception with the reason."""
