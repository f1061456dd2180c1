"""Hooks on the import of other people's modules: a function is called with a module right after it was executed.

So a worker adapts what user code imports and imports nothing by itself. A hook that fails, since the module is of
another version than we know, is dropped: the module then behaves as it does elsewhere.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

__all__ = ["after_import"]

log = logging.getLogger(__name__)

Hook = Callable[[ModuleType], object]


class _Hooks(MetaPathFinder):
    """Finds what the other finders find, and remembers to call the hook."""

    def __init__(self) -> None:
        #: By full name of the module; taken out when the module is imported.
        self.waiting: dict[str, Hook] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in self.waiting:
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(fullname, path, target)
            if spec is not None:
                self._tie(spec)
                return spec
        return None

    def _tie(self, spec: ModuleSpec) -> None:
        """Have the module's loader call the hook. The loader itself stays what it is: others look at its type."""
        loader = spec.loader
        if loader is None or not hasattr(loader, "exec_module"):
            return
        execute = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            vars(loader).pop("exec_module", None)
            execute(module)
            hook = self.waiting.pop(spec.name, None)
            if hook is not None:
                _call(hook, module)

        try:
            loader.exec_module = exec_module  # type: ignore[method-assign]
        except AttributeError:  # a loader without a dictionary is no file's
            log.debug("cannot follow the import of %s", spec.name)


def _call(hook: Hook, module: ModuleType) -> None:
    try:
        hook(module)
    except Exception:  # see the module docstring
        log.debug("the hook on %s failed", module.__name__, exc_info=True)


_hooks = _Hooks()


def after_import(name: str, hook: Hook) -> None:
    """Call `hook(module)` after the first import of that module; now, if it has been imported."""
    module = sys.modules.get(name)
    if module is not None:
        _call(hook, module)
        return
    _hooks.waiting[name] = hook
    if _hooks not in sys.meta_path:
        sys.meta_path.insert(0, _hooks)
