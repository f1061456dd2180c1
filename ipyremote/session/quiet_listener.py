"""The listener of a session with `log_to_driver=False`."""

from __future__ import annotations

import sys
from typing import Any

__all__ = ["Silence"]


class Silence:
    """Drops what tasks print, not what the user must know."""

    def on_output(self, cell: int, label: str, stream: int, text: str, task_id: int = 0) -> None:
        """Dropped."""

    def on_display(self, cell: int, label: str, task_id: int, content: dict[str, Any]) -> None:
        """Dropped."""

    def on_progress(
        self, task_id: int, bar: int, description: str, done: float, total: float, unit: str, closed: bool
    ) -> None:
        """Dropped."""

    def on_update(self, object_id: int, state: str, label: str, seconds: float, detail: str) -> None:
        """Nobody watches."""

    def on_notice(self, cell: int, text: str) -> None:
        """Not output of a task."""
        print(f"ipyremote: {text}", file=sys.stderr)

    def flush(self) -> None:
        """Nothing is held back."""

    def on_lost(self, reason: str) -> None:
        """Every later call says it."""
