"""What a notebook may configure: `c.IPyRemote.num_workers = 4` in a file, `%config IPyRemote.num_workers=4` in a cell.

A value that nobody can mean is refused where it is set. Those about the cluster are the arguments of the one that
`%load_ext` or the first `.remote()` starts; set later, they take effect at once as long as that one has had no work.
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
    """What a notebook may configure; `%config IPyRemote` lists it."""

    num_workers = Float(
        None, allow_none=True, min=0, help="CPUs of the cluster that is started; None: all that may be used"
    ).tag(config=True)
    object_store_memory = Integer(
        None,
        allow_none=True,
        min=1,
        help="bytes for objects in that cluster; None: 30 % of the memory that may be used",
    ).tag(config=True)
    autostart = Bool(True, help="start a cluster at %load_ext; else the first .remote() does").tag(
        config=True
    )
    static = Bool(
        None, allow_none=True, help="displays wait until they are final; None: as IPYREMOTE_STATIC says"
    ).tag(config=True)
    widgets = Bool(True, help="live displays are widgets; else their HTML is updated").tag(config=True)
    keep_alive = Union(
        [Float(), Unicode()],
        default_value="",
        help='for how long that cluster outlives the kernel: "10m", or seconds; empty: not at all',
    ).tag(config=True)
    cancel_on_rerun = Bool(
        False, help="running a cell again cancels what its earlier runs have started and has not ended"
    ).tag(config=True)
    large_value = Integer(
        LARGE,
        min=0,
        help="bytes above which a value that a %%remote cell reads is stored once and used again",
    ).tag(config=True)

    @validate("keep_alive")
    def _check_duration(self, proposal: dict[str, Any]) -> Any:
        try:
            init_arguments.seconds_of(proposal["value"] or None)
        except ValueError as error:
            raise TraitError(str(error)) from None
        return proposal["value"]

    def init_arguments(self) -> dict[str, Any]:
        """Arguments for `init`."""
        given = {
            "num_cpus": self.num_workers,
            "object_store_memory": self.object_store_memory,
            "keep_alive": self.keep_alive or None,
        }
        return {name: value for name, value in given.items() if value is not None}
