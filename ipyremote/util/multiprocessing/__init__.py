"""`multiprocessing.Pool` on the cluster, as in `ray.util.multiprocessing`."""

# Layout: pool.py

from __future__ import annotations

from multiprocessing import TimeoutError

from ipyremote.util.multiprocessing.pool import Pool

__all__ = ["Pool", "TimeoutError"]
