"""The registry of engines. An adapter has a function `engine()` and imports its engine only inside functions."""

import importlib
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from typing import cast

from ipyremote.benchmark.engine import BenchmarkEngine

OURS = "ipyremote"


@dataclass(frozen=True, slots=True)
class Spec:
    """The name, adapter and required modules of an engine."""

    name: str
    #: Name of the adapter's module.
    adapter: str
    #: Modules that must be importable; the first has the name of the distribution whose version is reported.
    requires: tuple[str, ...] = ()

    def version(self) -> str | None:
        """Return the installed version (empty if unknown), or None if a required module is missing."""
        if any(find_spec(module) is None for module in self.requires):
            return None
        try:
            return metadata.version(self.requires[0]) if self.requires else ""
        except metadata.PackageNotFoundError:
            return ""

    def load(self) -> BenchmarkEngine:
        """Return a new engine that is not started."""
        return cast("BenchmarkEngine", importlib.import_module(self.adapter).engine())


SPECS = {
    spec.name: spec
    for spec in (
        Spec(OURS, f"{__name__}.ipyremote", ("ipyremote",)),
        Spec("ray", f"{__name__}.ray", ("ray",)),
        Spec("dask", f"{__name__}.dask", ("distributed", "dask")),
        Spec("ipyparallel", f"{__name__}.ipyparallel", ("ipyparallel",)),
        Spec("loky", f"{__name__}.loky", ("loky",)),
        Spec("pool", f"{__name__}.pool_engine"),
    )
}
PEERS = tuple(name for name in SPECS if name != OURS)
