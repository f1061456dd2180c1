"""`ClusterContext`, the result of `init`.

A `ClusterContext` describes the session, and is a context manager whose end shuts the session down. Rules. Making and
showing a `ClusterContext` sends no request, so neither waits for a cluster that is still starting. The text of a
`ClusterContext` has no id, path or time.
"""

from __future__ import annotations

import platform
import socket
import warnings
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any

__all__ = ["ClusterContext"]


class ClusterContext(Mapping[str, Any]):
    """The running session, as `init` returns it. As a context manager, a `ClusterContext` ends the session.

    Reading a `ClusterContext` as a mapping is deprecated: use `address_info`.

    Attributes
    ----------
    address_info : dict
        `address` (for `init` in other programs), `node_ip_address`, `hostname`, `node_id` and `webui_url`.
    dashboard_url : None
        There is no dashboard on the network; see `ipyremote.dashboard`.
    python_version, ipyremote_version : str
        Versions.

    Examples
    --------
    >>> context = ray.init()
    >>> context.address_info["node_ip_address"]
    '127.0.0.1'
    """

    def __init__(
        self, *, kind: str, node_id: str, version: str, stop: Callable[[], None], address: str = ""
    ) -> None:
        """Describe a session. `kind` is the backend's name, `stop` ends the session, other programs join `address`."""
        self._kind = kind
        self._stop = stop
        #: Address of the dashboard for programs written for Ray; None, because no dashboard is on the network.
        self.dashboard_url: str | None = None
        self.python_version = platform.python_version()
        #: Version of ipyremote; `ray_version` is the name in programs written for Ray.
        self.ipyremote_version = self.ray_version = version
        self.address_info: dict[str, Any] = {
            "address": address or kind,
            "node_ip_address": "127.0.0.1",
            "hostname": socket.gethostname(),
            "node_id": node_id,
            "webui_url": None,
        }

    def disconnect(self) -> None:
        """Shut the session down."""
        self._stop()

    def __enter__(self) -> ClusterContext:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def __getitem__(self, name: str) -> Any:
        warnings.warn(
            f'context["{name}"] is deprecated: use context.address_info["{name}"]',
            DeprecationWarning,
            stacklevel=2,
        )
        return self.address_info[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.address_info)

    def __len__(self) -> int:
        return len(self.address_info)

    # Contexts are compared by identity, not as mappings: equal information does not mean the same session.
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return f"ClusterContext({self._kind})"

    def _repr_html_(self) -> str:
        where = {"local": "processes on this machine", "inline": "this process, synchronously"}
        return (
            '<div class="ipyremote-context"><b>ipyremote</b> '
            f"{self.ipyremote_version}: tasks run in {where.get(self._kind, self._kind)}</div>"
        )
