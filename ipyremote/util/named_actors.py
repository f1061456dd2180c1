"""Which actors have names."""

from __future__ import annotations

from typing import Any

from ipyremote.backend import current, required

__all__ = ["list_named_actors"]


def list_named_actors(all_namespaces: bool = False) -> list[Any]:
    """The names of the living actors of this namespace, sorted.

    With `all_namespaces`, as in Ray: records such as `{"name": "counter", "namespace": "mine"}`, of all of them.
    """
    backend = current.backend()
    found = required(backend.named_actors, backend.capabilities.named_actors).all(everywhere=all_namespaces)
    if all_namespaces:
        return [{"name": named.name, "namespace": named.namespace} for named in found]
    return [named.name for named in found]
