"""Hooks on the import of other packages' modules: a function is called with a module right after the module's code ran.

With hooks a worker adapts modules when user code imports them, and imports no module by itself. A hook that fails,
because the module has a version that we do not know, is dropped: the module then behaves as it does elsewhere.
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
    """A finder that finds modules by the other finders, and has the modules' hooks called."""

    def __init__(self) -> None:
        #: Hooks by full name of their module; the import of a module removes its hooks.
        self.waiting: dict[str, list[Hook]] = {}

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
        """Have the module's loader call the hooks. The loader keeps its type, because other code checks the type."""
        loader = spec.loader
        if loader is None or not hasattr(loader, "exec_module"):
            return
        execute = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            vars(loader).pop("exec_module", None)
            execute(module)
            for hook in self.waiting.pop(spec.name, ()):
                _call(hook, module)

        try:
            loader.exec_module = exec_module  # type: ignore[method-assign]
        except AttributeError:  # a loader without a dictionary, which loaders of files have
            log.debug("cannot follow the import of %s", spec.name)

    def cancel(self, name: str, hook: Hook) -> None:
        """Forget a hook that has not been called yet."""
        hooks = self.waiting.get(name, [])
        if hook in hooks:
            hooks.remove(hook)
        if not hooks:
            self.waiting.pop(name, None)


def _call(hook: Hook, module: ModuleType) -> None:
    try:
        hook(module)
    except Exception:  # see the module docstring
        log.debug("the hook on %s failed", module.__name__, exc_info=True)


_hooks = _Hooks()


def after_import(name: str, hook: Hook) -> Callable[[], None]:
    """Call `hook(module)` after the first import of a module; now, if the module has been imported.

    Returns a function that forgets a hook which has not been called yet.
    """
    hooks = _hooks
    module = sys.modules.get(name)
    if module is not None:
        _call(hook, module)
        return lambda: None
    hooks.waiting.setdefault(name, []).append(hook)
    if hooks not in sys.meta_path:
        sys.meta_path.insert(0, hooks)
    return lambda: hooks.cancel(name, hook)
