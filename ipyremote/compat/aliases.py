"""ipyremote under the name `ray`, as PyMySQL offers itself under the name `MySQLdb`.

Each module `ray.x` is the module of ours that has that part of Ray's API: the same object, so that classes and
exceptions are one. Rules. Ray itself and this cannot be in one process. What Ray has and ipyremote has not is an
`AbsentModule`, which says what to use instead. Workers do the same before they run a function from such a process.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Final

from ipyremote.compat.absent import AbsentModule, advice
from ipyremote.declare import exports
from ipyremote.serialization import pickling

__all__ = ["install_as_ray"]

_RAY: Final = "ray"
_OURS: Final = "ipyremote"

#: Modules of Ray's whose part of the API lies under another name here. The rest is found under its own.
_MOVED: Final = {
    "ray.experimental": "ipyremote.util",
    "ray.experimental.tqdm_ray": "ipyremote.util.bars",
    "ray.remote_function": "ipyremote.remote",
    "ray.util.state.common": "ipyremote.util.state.state_records",
}


class _Aliases(MetaPathFinder, Loader):
    """A finder of `ray` and of the modules below it among the modules of ipyremote."""

    def __init__(self) -> None:
        #: The modules' own specs, which the import system is about to replace.
        self._specs: dict[str, ModuleSpec | None] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        top, _, below = fullname.partition(".")
        if top != _RAY:
            return None
        _refuse(below)
        try:
            found = importlib.util.find_spec(_counterpart(fullname))
        except ModuleNotFoundError:  # below a module that is no package
            found = None
        if found is None:
            return None
        return ModuleSpec(fullname, self, is_package=path is None)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(_counterpart(spec.name))
        self._specs[spec.name] = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        # It has been executed under its own name; the import system has given it the spec of the other one.
        assert module.__spec__ is not None, "the import system has just set it"
        name = module.__spec__.name
        module.__spec__ = self._specs.pop(name)
        # A function may have the name of the submodule that it is from. The import system would put the module in its
        # place, if it had to look for that.
        for child, value in vars(module).items():
            submodule = sys.modules.get(f"{module.__name__}.{child}")
            if submodule is not None and submodule is not value:
                sys.modules[f"{name}.{child}"] = submodule


class _Absences(MetaPathFinder):
    """A finder that is asked last: `from ray import serve` looks for `ipyremote.serve`, as the module is named."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        top, _, below = fullname.partition(".")
        if top == _OURS:
            _refuse(below)
        return None


def _refuse(below: str) -> None:
    sentence = advice(below)
    if sentence is not None:
        raise AbsentModule(sentence)


def _counterpart(name: str) -> str:
    return _MOVED.get(name) or _OURS + name.removeprefix(_RAY)


_aliases = _Aliases()


def install_as_ray() -> None:
    """Give ipyremote under the name `ray`, in this process and in the functions that it sends to workers.

    A second call changes nothing. Raises RuntimeError when Ray itself has been imported.
    """
    if _aliases in sys.meta_path:
        return
    present = sys.modules.get(_RAY)
    if present is not None:
        raise RuntimeError(
            "Ray itself has been imported already, and one process cannot have both under the name ray. Call "
            "ipyremote.install_as_ray() before the first `import ray` (in a notebook: after a restart of the kernel)."
        )
    sys.meta_path.insert(0, _aliases)
    sys.meta_path.append(_Absences())
    pickling.before_loading(_RAY, install_as_ray)
    # What was exported before does not know it.
    exports.bump_epoch()
