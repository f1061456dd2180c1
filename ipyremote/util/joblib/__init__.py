"""joblib on the cluster, and with it scikit-learn and whatever else uses joblib, as in `ray.util.joblib`:

    from ipyremote.util.joblib import register_ipyremote

    register_ipyremote()
    with joblib.parallel_config("ipyremote"):
        GridSearchCV(model, parameters).fit(X, y)

joblib itself is needed only for that; it comes with scikit-learn.
"""

# Layout: joblib_backend.py (imports joblib), batches.py (the worker's side), joblib_progress.py

from __future__ import annotations

__all__ = ["register_ipyremote", "register_ray"]


def register_ipyremote() -> None:
    """Make the backend "ipyremote" known to joblib, for scikit-learn and whatever else uses joblib.

    Raises
    ------
    ImportError
        joblib 1.3 or newer is not installed.

    Examples
    --------
    >>> import joblib, math
    >>> from ipyremote.util.joblib import register_ipyremote
    >>> register_ipyremote()
    >>> with joblib.parallel_config("ipyremote"):
    ...     joblib.Parallel(n_jobs=2)(joblib.delayed(math.sqrt)(x) for x in (1, 4, 9))
    [1.0, 2.0, 3.0]
    """
    _register("ipyremote")


def register_ray() -> None:
    """Make the backend known to joblib as "ipyremote" and as "ray", for code that was written for Ray.

    Raises
    ------
    ImportError
        joblib 1.3 or newer is not installed.

    Examples
    --------
    >>> import joblib
    >>> from ipyremote.util.joblib import register_ray
    >>> register_ray()
    >>> with joblib.parallel_config("ray"):
    ...     joblib.Parallel(n_jobs=2)(joblib.delayed(abs)(x) for x in (-1, 2))
    [1, 2]
    """
    _register("ipyremote")
    _register("ray")


def _register(name: str) -> None:
    try:
        from joblib import parallel

        from ipyremote.util.joblib.joblib_backend import IPyRemoteBackend
    except ImportError as error:
        raise ImportError(
            f'register_{name}() needs joblib 1.3 or newer: pip install -U "joblib>=1.3" ({error})'
        ) from error
    parallel.register_parallel_backend(name, IPyRemoteBackend)
