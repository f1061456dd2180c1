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
    """A progress bar in tasks and in the driver alike. As `ray.experimental.tqdm_ray.tqdm`.

    A bar in a task appears where the task's output does; a bar in the driver is `tqdm.auto.tqdm`.

    Parameters
    ----------
    iterable : iterable, optional
        Items to count. Without them, call `update`.
    desc : str, optional
        Words before the bar.
    total : float, optional
        Number of items; by default the length of `iterable`, if there is one.
    unit : str, optional
        The word for one item; "it" by default.
    position : int, optional
        Row of the bar, below other bars.
    flush_interval_s : float, default 0.1
        Seconds between two drawings, at least.

    Examples
    --------
    >>> from ipyremote.util import tqdm
    >>> @ray.remote
    ... def fit(epochs):
    ...     done = 0
    ...     for epoch in tqdm(range(epochs), desc="fitting"):
    ...         done += 1
    ...     return done
    >>> ray.get(fit.remote(3))
    3
    """

    def __init__(
        self,
        iterable: Iterable[Any] | None = None,
        desc: str | None = None,
        total: float | None = None,
        unit: str | None = None,
        position: int | None = None,
        flush_interval_s: float = 0.1,
    ) -> None:
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
        """Return an iterator that counts the items. Raises ValueError when there is no `iterable`."""
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
        """Count `n` more items as done."""
        self._bar.update(n)

    def refresh(self) -> None:
        """Draw the bar now."""
        self._bar.refresh()

    def close(self) -> None:
        """End the bar. Idempotent."""
        self._bar.close()


def safe_print(*values: Any, **options: Any) -> None:
    """Print without running into progress bars. As `ray.experimental.tqdm_ray.safe_print`.

    Parameters
    ----------
    *values : object
        As of `print`.
    **options
        As of `print`: `sep`, `end`, `file`, `flush`.

    Examples
    --------
    >>> from ipyremote.util import safe_print
    >>> safe_print("epoch", 3, sep=" ")
    epoch 3
    """
    standard = sys.modules.get("tqdm.std")
    if standard is None:
        print(*values, **options)
        return
    with standard.tqdm.external_write_mode(file=options.get("file")):
        print(*values, **options)
