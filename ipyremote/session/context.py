"""`ClusterContext`: what `init` returns.

It is a context manager (leaving it shuts the session down) and tells what runs. Rules. Making and showing one asks
nobody, so it never waits for a cluster that is still starting; its text holds no id, path or time.
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
    """The running session, as `init` returns it. As a context manager it ends the session with the block.

    Reading it as a mapping is deprecated: use `address_info`.

    Attributes
    ----------
    address_info : dict
        `address` (for `init` of other programs), `node_ip_address`, `hostname`, `node_id` and `webui_url`.
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
        """Made by `init`; `kind` is the backend's name, `stop` ends the session. `address`: for other programs."""
        self._kind = kind
        self._stop = stop
        #: There is no dashboard.
        self.dashboard_url: str | None = None
        self.python_version = platform.python_version()
        #: Version of ipyremote, also under the name that programs written for Ray read.
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

    # Two contexts with equal information are still not the same thing.
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
