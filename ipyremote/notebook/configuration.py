"""The settings of a notebook: `c.IPyRemote.num_workers = 4` in a file, `%config IPyRemote.num_workers=4` in a cell.

An impossible value is refused where it is set. Settings of the cluster are arguments for the cluster that `%load_ext`
or the first `.remote()` starts. When they are set later, they take effect at once if the cluster has had no work yet.
"""

from __future__ import annotations

from typing import Any, Final

from traitlets import Bool, Float, Integer, TraitError, Unicode, Union, validate
from traitlets.config import Configurable

from ipyremote.notebook.cells.inputs import LARGE
from ipyremote.session import init_arguments

__all__ = ["OF_CLUSTERS", "IPyRemote"]

#: Traits that are arguments of a cluster.
OF_CLUSTERS: Final = ("num_workers", "object_store_memory", "keep_alive")


class IPyRemote(Configurable):
    """The settings of ipyremote in this notebook. `%config IPyRemote` lists them."""

    num_workers = Float(
        None,
        allow_none=True,
        min=0,
        help="number of CPUs of the cluster; None for all that this process may use",
    ).tag(config=True)
    object_store_memory = Integer(
        None,
        allow_none=True,
        min=1,
        help="memory for objects of the cluster, in bytes; None for 30 % of the memory that this process may use",
    ).tag(config=True)
    autostart = Bool(True, help="whether %load_ext starts a cluster; if not, the first .remote() does").tag(
        config=True
    )
    static = Bool(
        None,
        allow_none=True,
        help="whether displays wait until they are final; None to follow the variable IPYREMOTE_STATIC",
    ).tag(config=True)
    widgets = Bool(
        True, help="whether live displays are widgets; if not, the HTML of the output is replaced"
    ).tag(config=True)
    keep_alive = Union(
        [Float(), Unicode()],
        default_value="",
        help='time that the cluster outlives the kernel, as "10m" or in seconds; empty for not at all',
    ).tag(config=True)
    cancel_on_rerun = Bool(
        False, help="whether running a cell again cancels the unfinished tasks that earlier runs have started"
    ).tag(config=True)
    large_value = Integer(
        LARGE,
        min=0,
        help="size above which a value that a %%remote cell reads is stored once and used again, in bytes",
    ).tag(config=True)

    @validate("keep_alive")
    def _check_duration(self, proposal: dict[str, Any]) -> Any:
        try:
            init_arguments.seconds_of(proposal["value"] or None)
        except ValueError as error:
            raise TraitError(str(error)) from None
        return proposal["value"]

    def init_arguments(self) -> dict[str, Any]:
        """Return the arguments of `init` that are set."""
        given = {
            "num_cpus": self.num_workers,
            "object_store_memory": self.object_store_memory,
            "keep_alive": self.keep_alive or None,
        }
        return {name: value for name, value in given.items() if value is not None}
