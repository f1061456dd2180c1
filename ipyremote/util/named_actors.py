"""The names of living actors."""

from __future__ import annotations

from typing import Any

from ipyremote.backend import current, required

__all__ = ["list_named_actors"]


def list_named_actors(all_namespaces: bool = False) -> list[Any]:
    """Return the names of the living actors of this namespace, sorted. As `ray.util.list_named_actors`.

    Parameters
    ----------
    all_namespaces : bool, default False
        Whether to look in all namespaces.

    Returns
    -------
    list of str, or list of dict
        The names; with `all_namespaces` records such as `{"name": "counter", "namespace": "mine"}`.

    Examples
    --------
    >>> from ipyremote.util import list_named_actors
    >>> @ray.remote
    ... class Clerk:
    ...     pass
    >>> clerk = Clerk.options(name="clerk").remote()
    >>> "clerk" in list_named_actors()
    True
    """
    backend = current.backend()
    found = required(backend.named_actors, backend.capabilities.named_actors).all(everywhere=all_namespaces)
    if all_namespaces:
        return [{"name": named.name, "namespace": named.namespace} for named in found]
    return [named.name for named in found]
