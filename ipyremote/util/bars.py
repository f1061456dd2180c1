"""`tqdm` and `safe_print`: progress bars that work in tasks and in the driver alike, as in `ray.experimental.tqdm_ray`.

In a task, the bar is a plain tqdm, which the worker reports instead of drawing it (`remote_cells/progress_bars.py`), so
it appears where the task's output does. In the driver it is `tqdm.auto`: a bar of the notebook, or of text. (tqdm
itself works in tasks just as well; this is the part of it that Ray's has.)
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Any

from ipyremote.util.origin import inside_task

__all__ = ["safe_print", "tqdm"]


class tqdm:
    """A progress bar: `for item in tqdm(items, desc="fitting"): ...`, or `update` by hand."""

    def __init__(
        self,
        iterable: Iterable[Any] | None = None,
        desc: str | None = None,
        total: float | None = None,
        unit: str | None = None,
        position: int | None = None,
        flush_interval_s: float = 0.1,
    ) -> None:
        """`total`: by default the length of `iterable`, if it has one. `position`: its row below other bars.
        `flush_interval_s`: least seconds between two drawings."""
        if inside_task():
            from tqdm.std import tqdm as kind
        else:
            from tqdm.auto import tqdm as kind
        self._iterable = iterable
        self._bar: Any = kind(
            iterable,
            desc=desc,
            total=total,
            unit=unit or "it",
            position=position,
            mininterval=flush_interval_s,
        )

    def __iter__(self) -> Iterator[Any]:
        """The items, counted. Raises ValueError when there is no `iterable`."""
        if self._iterable is None:
            raise ValueError("No iterable provided")
        return iter(self._bar)

    def __enter__(self) -> tqdm:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def set_description(self, desc: str) -> None:
        """Change the words before the bar."""
        self._bar.set_description(desc)

    def update(self, n: float = 1) -> None:
        """So many more are done."""
        self._bar.update(n)

    def refresh(self) -> None:
        """Draw it now."""
        self._bar.refresh()

    def close(self) -> None:
        """Nothing more comes. Idempotent."""
        self._bar.close()


def safe_print(*values: Any, **options: Any) -> None:
    """`print` that does not run into the progress bars."""
    standard = sys.modules.get("tqdm.std")
    if standard is None:
        print(*values, **options)
        return
    with standard.tqdm.external_write_mode(file=options.get("file")):
        print(*values, **options)
