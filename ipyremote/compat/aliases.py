"""ipyremote under the name `ray`, as PyMySQL offers itself under the name `MySQLdb`.

Each module `ray.x` is the module of ipyremote that has that part of Ray's API. Both names are the same module object,
so classes and exceptions are the same, too. Rules. Ray and the aliases cannot be in one process. Importing a module
that only Ray has raises an `AbsentModule`, whose text has the replacement. Workers install the aliases before they run
a function from a process that has installed the aliases.
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

#: Modules of Ray whose counterpart in ipyremote has another name. All other modules have the same name.
_MOVED: Final = {
    "ray.experimental": "ipyremote.util",
    "ray.experimental.tqdm_ray": "ipyremote.util.bars",
    "ray.remote_function": "ipyremote.remote",
    "ray.util.state.common": "ipyremote.util.state.state_records",
}


class _Aliases(MetaPathFinder, Loader):
    """A finder and loader of `ray` and its submodules that returns the modules of ipyremote."""

    def __init__(self) -> None:
        #: Original spec of each module that is being imported, because the import system replaces the spec; by alias.
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
        except ModuleNotFoundError:  # the parent module is no package
            found = None
        if found is None:
            return None
        return ModuleSpec(fullname, self, is_package=path is None)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(_counterpart(spec.name))
        self._specs[spec.name] = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        # The module was executed under its own name. The import system has replaced its spec by the spec of the alias.
        assert module.__spec__ is not None, "the import system has just set the spec"
        name = module.__spec__.name
        module.__spec__ = self._specs.pop(name)
        # A function may have the same name as its submodule. A later import of the submodule's alias would replace the
        # function by the submodule, unless `sys.modules` has the alias already.
        for child, value in vars(module).items():
            submodule = sys.modules.get(f"{module.__name__}.{child}")
            if submodule is not None and submodule is not value:
                sys.modules[f"{name}.{child}"] = submodule


class _Absences(MetaPathFinder):
    """The last finder, for names that no module has: `from ray import serve` looks for `ipyremote.serve`."""

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
    """Make ipyremote importable under the name `ray`, in this process and in workers that run its functions.

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
    # Functions exported before would not install the aliases in workers, so each must be exported again.
    exports.bump_epoch()
