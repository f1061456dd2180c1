"""The environments (`runtime_env`) of a client's submissions, worked out for this machine.

A submission that asks for no environment has the environment of the code that submits it: in a driver the environment
of `init`, in a worker the environment that the worker was started in. A submission's own wishes are merged with it.

Rules. An environment is worked out and announced to the scheduler when it is first used, and again in each notebook
cell, because files may have changed; further tasks of a cell cost next to nothing. Directories and modules are copied
at the same time (`snapshots.py`).
"""

from __future__ import annotations

import hashlib
import importlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from ipyremote.client.channel import Channel
from ipyremote.declare import exports
from ipyremote.engine_kit.failures import check_size
from ipyremote.messages import DefineEnvironment, EnvironmentSpec, Packages
from ipyremote.runtime_env import SETUP_SECONDS, RuntimeEnv, RuntimeEnvConfig, merged
from ipyremote.serialization import pickling
from ipyremote.store.directory import SPILL_LINK

__all__ = ["EnvironmentRequests", "run_hook"]

_HOOK: Final = "worker_process_setup_hook"
#: Largest number of environments whose keys are remembered.
_KNOWN: Final = 1_000


class EnvironmentRequests:
    """The environments of one client's submissions. Thread-safe."""

    def __init__(self, channel: Channel, directory: Path) -> None:
        self._channel = channel
        self._directory = directory
        #: Environment of the code here, which a driver's submissions have, too.
        self._own = EnvironmentSpec()
        #: Key of this environment.
        self.key = ""
        #: Environments that were asked for, with their keys, by text, id of the setup hook, and epoch of exports.
        self._known: dict[tuple[str, int, int], tuple[RuntimeEnv, str]] = {}
        #: Keys that the scheduler knows.
        self._announced: set[str] = {""}

    @property
    def runtime_env(self) -> RuntimeEnv:
        """Environment of the code here, which a driver's submissions have, too."""
        return RuntimeEnv.deserialize(self._own.text)

    def sets(self, name: str) -> bool:
        """Return whether the environment of the code here sets this variable."""
        return any(variable == name for variable, _ in self._own.variables)

    def use(self, asked: RuntimeEnv) -> None:
        """Give this environment to submissions of this driver that ask for no other. Raises ValueError and OSError."""
        environment = self._resolved(asked)
        config = asked.get("config") or RuntimeEnvConfig()
        self._announce(environment, eager=config["eager_install"])
        self.inherit(environment)

    def inherit(self, environment: EnvironmentSpec) -> None:
        """Take note of the environment that the code here runs in."""
        self._own, self.key = environment, environment.key
        self._announced.add(environment.key)
        self._known.clear()

    def key_of(self, asked: RuntimeEnv | None) -> str:
        """Return the key of a task's environment, and announce it to the scheduler. Raises ValueError and OSError."""
        if not asked:
            return self.key
        # A hook is known by its `id`, and `_known` keeps the hook alive, so that no other function gets the same `id`.
        signature = (asked.serialize(), id(asked.get(_HOOK)), exports.epoch())
        known = self._known.get(signature)
        if known is None:
            environment = self._resolved(asked)
            self._announce(environment)
            if len(self._known) >= _KNOWN:
                self._known.clear()
            known = self._known[signature] = (asked, environment.key)
        return known[1]

    def _announce(self, environment: EnvironmentSpec, *, eager: bool = False) -> None:
        with self._channel.lock:
            if environment.key not in self._announced:
                self._announced.add(environment.key)
                self._channel.connection.queue(DefineEnvironment(environment, eager))
                self._channel.wake()

    # --------------------------------------------------------------------------------------------------- working out

    def _resolved(self, asked: Mapping[str, Any]) -> EnvironmentSpec:
        """Return an environment on top of the environment of the code here."""
        # Imported here, because most programs copy nothing, and all programs would wait for the import.
        from ipyremote.client import snapshots

        own = self._own
        both = merged(RuntimeEnv.deserialize(own.text), asked)
        excludes = asked.get("excludes") or ()
        place = self._copies_directory()
        directory, modules, packages, hook = own.directory, own.modules, own.packages, own.hook
        if "working_dir" in asked:
            directory = os.fsencode(snapshots.copy_working_dir(Path(asked["working_dir"]), place, excludes))
        if "py_modules" in asked:
            modules = tuple(
                os.fsencode(snapshots.copy_module(Path(path), place, excludes))
                for path in asked["py_modules"]
            )
        if "pip" in asked or "uv" in asked:
            packages = _packages(asked)
        if _HOOK in asked:
            hook = _pickled(asked[_HOOK])
        variables = tuple(sorted({**dict(own.variables), **(asked.get("env_vars") or {})}.items()))
        parts = (variables, directory, modules, packages, hook)
        if not any(parts):
            return EnvironmentSpec()
        config = both.get("config") or {}
        return EnvironmentSpec(
            key=hashlib.blake2b(repr(parts).encode("utf-8", "surrogateescape"), digest_size=10).hexdigest(),
            title=_title(both),
            text=both.serialize(),
            variables=variables,
            directory=directory,
            modules=modules,
            packages=packages,
            hook=hook,
            seconds=float(config.get("setup_timeout_seconds", SETUP_SECONDS)),
        )

    def _copies_directory(self) -> Path:
        """Return the directory for copies, which is on a disk if the session has a directory there."""
        linked = self._directory / SPILL_LINK
        return linked.resolve() if linked.is_dir() else self._directory


def run_hook(environment: EnvironmentSpec) -> None:
    """Call the setup hook of an environment, as its workers do first. Raises whatever the hook raises."""
    if environment.hook:
        pickling.loads_function(environment.hook)()


def _packages(asked: Mapping[str, Any]) -> Packages | None:
    installer = "pip" if "pip" in asked else "uv"
    fields = asked[installer]
    if not fields["packages"]:
        return None
    options = fields.get("pip_install_options" if installer == "pip" else "uv_pip_install_options") or ()
    return Packages(
        installer,
        tuple(fields["packages"]),
        tuple(options),
        bool(fields.get(f"{installer}_check")),
        fields.get(f"{installer}_version") or "",
        tuple(_fingerprint(requirement) for requirement in fields["packages"]),
    )


def _fingerprint(requirement: str) -> str:
    """Return digits that change with the files of a requirement that is a path; empty for other requirements."""
    from ipyremote.client import snapshots

    path = requirement.removeprefix("-e ").removeprefix("--editable ").split("[")[0].strip()
    return snapshots.fingerprint(Path(path)) if os.path.isabs(path) and os.path.exists(path) else ""


def _pickled(hook: Callable[[], Any] | str) -> bytes:
    if isinstance(hook, str):
        name = hook

        def hook() -> Any:
            module, _, function = name.rpartition(".")
            return getattr(importlib.import_module(module), function)()

    payload, _ = pickling.dumps_function(hook)
    check_size(getattr(hook, "__name__", _HOOK), len(payload))
    return payload


def _title(env: Mapping[str, Any]) -> str:
    """Return a few words that tell environments apart."""
    words = []
    for installer in ("pip", "uv"):
        if installer in env:
            words.append(f"{installer}: {_first_names(env[installer]['packages'])}")
    if "working_dir" in env:
        words.append(f"working_dir: {os.path.basename(env['working_dir']) or '/'}")
    if "py_modules" in env:
        words.append(f"py_modules: {_first_names([os.path.basename(path) for path in env['py_modules']])}")
    if "env_vars" in env:
        words.append(f"env_vars: {_first_names(list(env['env_vars']))}")
    return "; ".join(words) or "a setup hook"


def _first_names(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
