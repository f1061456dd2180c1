"""`RuntimeEnv`, the environment that tasks and actors ask for besides that of the session, as in `ray.runtime_env`.

A `RuntimeEnv` is a dictionary with checks. Rules. Errors are raised where the dictionary is written, before anything is
started: a wrong type is a TypeError, a wrong value or an unknown key a ValueError, and a key of Ray's without effect
here a NotImplementedError. Paths are made absolute, modules become their paths and files of requirements their lines,
so that a checked `RuntimeEnv` means the same in every process. The client that asks for the environment works out its
contents on this machine, such as copies of directories.
"""

from __future__ import annotations

import contextlib
import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Final

__all__ = ["RuntimeEnv", "RuntimeEnvConfig", "checked", "merged"]

#: Default time limit for the installation of packages, in seconds, as in Ray.
SETUP_SECONDS: Final = 600
#: Suffixes of files that `py_modules` accepts.
_MODULE_KINDS: Final = (".py", ".whl")

#: Keys of Ray's that have no effect here, with the replacement to name in the error.
_ABSENT: Final = {
    "conda": "pip or uv, which install into an environment of their own on top of this one",
    "container": "pip or uv; workers are processes of this machine, or of the container that the kernel runs in",
    "image_uri": "pip or uv; workers are processes of this machine, or of the container that the kernel runs in",
    "java_jars": "Python functions",
    "mpi": "actors, or mpi4py started by a task",
    "nsight": "env_vars for the profiler's own settings",
    "rocprof_sys": "env_vars for the profiler's own settings",
    "_nsight": "env_vars for the profiler's own settings",
    "_rocprof_sys": "env_vars for the profiler's own settings",
}


class RuntimeEnvConfig(dict[str, Any]):
    """The setup of an environment: `setup_timeout_seconds` (-1: no limit) and `eager_install`, as in Ray.

    With `eager_install` the environment of `init` is set up at once, and not when the first task needs it.
    """

    def __init__(self, setup_timeout_seconds: int = SETUP_SECONDS, eager_install: bool = True) -> None:
        """Check the arguments. Raises TypeError and ValueError."""
        if not isinstance(setup_timeout_seconds, int) or isinstance(setup_timeout_seconds, bool):
            raise TypeError(
                f"setup_timeout_seconds is a whole number of seconds, not {setup_timeout_seconds!r}"
            )
        if setup_timeout_seconds < 1 and setup_timeout_seconds != -1:
            raise ValueError(
                f"setup_timeout_seconds is above 0, or -1 for no limit, not {setup_timeout_seconds}"
            )
        if not isinstance(eager_install, bool):
            raise TypeError(f"eager_install is True or False, not {eager_install!r}")
        super().__init__(setup_timeout_seconds=setup_timeout_seconds, eager_install=eager_install)


class RuntimeEnv(dict[str, Any]):
    """The environment of tasks and actors, for `init`, `@remote` and `.options`; a plain dictionary does as well.

    `env_vars`: environment variables, names to texts; `${NAME}` in a text is the former value of NAME.
    `working_dir`: a directory or a .zip file, a copy of which is the working directory and the first place for imports.
    The copy is made at the first use, has at most 500 MiB, and leaves out the files that `.gitignore` files and
    `excludes` (patterns as in a .gitignore) name.
    `py_modules`: modules, or paths of packages, .py files and wheels, to be imported.
    `pip`, `uv`: packages to install on top of those installed here: a list, the path of a file of requirements, or a
    dictionary: `packages`, `pip_check`, `pip_version` and `pip_install_options`, or `packages`, `uv_check`,
    `uv_version` and `uv_pip_install_options`. Packages are installed once and kept in the user's cache directory. pip
    installs only the packages that are missing here, uv all packages that the given ones need.
    `worker_process_setup_hook`: a function without arguments, or "module.function", that each process calls first.
    `config`: a `RuntimeEnvConfig`.

    Raises TypeError, ValueError and NotImplementedError.
    """

    def __init__(self, **given: Any) -> None:
        super().__init__()
        for key, value in given.items():
            self[key] = value
        if "pip" in self and "uv" in self:
            raise ValueError("runtime_env has pip and uv: give one of the two")
        if "excludes" in self and not {"working_dir", "py_modules"} & self.keys():
            raise ValueError("runtime_env has excludes, but nothing is copied: there is no working_dir")

    def __setitem__(self, key: str, value: Any) -> None:
        check = _CHECKS.get(key)
        if check is None:
            _refuse(key, value)
        elif value is None:
            self.pop(key, None)
        else:
            super().__setitem__(key, check(key, value))

    def __reduce__(self) -> tuple[Any, ...]:
        # Not key by key, which would check the values again in the other process.
        return RuntimeEnv._of, (dict(self),)

    def to_dict(self) -> dict[str, Any]:
        """Return a plain dictionary."""
        return dict(self)

    def serialize(self) -> str:
        """Return the environment as JSON, with functions as their names."""
        # Imported here, because every program imports this module.
        import json

        return json.dumps(self, sort_keys=True, default=_name_of)

    @classmethod
    def deserialize(cls, text: str) -> RuntimeEnv:
        """Return the environment that `serialize` has made JSON of. Nothing is checked."""
        import json

        return cls._of(json.loads(text))

    @classmethod
    def _of(cls, fields: Mapping[str, Any]) -> RuntimeEnv:
        env = cls()
        env.update(fields)
        return env

    def __repr__(self) -> str:
        return f"RuntimeEnv({', '.join(f'{key}={value!r}' for key, value in self.items())})"


def checked(value: Any) -> RuntimeEnv | None:
    """Return a user's `runtime_env`, checked; None if it asks for nothing. Raises as `RuntimeEnv` does."""
    if value is None or isinstance(value, RuntimeEnv):
        # A copy, because the user may change the original.
        return RuntimeEnv._of(value) if value else None
    if not isinstance(value, Mapping):
        raise TypeError(
            f"runtime_env is a dictionary or a RuntimeEnv, not {type(value).__name__}: {value!r:.80}"
        )
    odd = [key for key in value if not isinstance(key, str)]
    if odd:
        raise TypeError(f"runtime_env has texts for keys, not {odd[0]!r}")
    return RuntimeEnv(**value) or None


def merged(parent: Mapping[str, Any], child: Mapping[str, Any]) -> RuntimeEnv:
    """Return the environment of a child task: `env_vars` of both, and of the other keys those of the child first."""
    both = {**parent, **child}
    if "env_vars" in parent and "env_vars" in child:
        both["env_vars"] = {**parent["env_vars"], **child["env_vars"]}
    if "pip" in child or "uv" in child:
        both.pop("uv" if "pip" in child else "pip", None)
    return RuntimeEnv._of(both)


def _name_of(value: Any) -> str:
    if callable(value):
        return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', repr(value))}"
    return str(value)


def _refuse(key: str, value: Any) -> None:
    if key in _ABSENT:
        if value is not None:
            raise NotImplementedError(f"runtime_env[{key!r}] has no effect here. Use {_ABSENT[key]}.")
    else:
        raise ValueError(f"{key!r} is no key of runtime_env. Keys are: {', '.join(sorted(_CHECKS))}")


def _env_vars(key: str, value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise TypeError(
            f"{key} is a dictionary of names and texts, not {type(value).__name__}: {value!r:.80}"
        )
    for name, text in value.items():
        if not isinstance(name, str) or not isinstance(text, str):
            raise TypeError(
                f"{key} has texts for names and values, not {name!r}: {text!r} ({type(text).__name__})"
            )
        if not name or "=" in name or "\0" in name or "\0" in text:
            raise ValueError(f"{key} cannot have {name!r}: {text!r}: no variable has such a name or value")
        try:
            f"{name}{text}".encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"{key}[{name!r}] cannot be encoded as UTF-8: {error}") from None
    return dict(value)


def _path(key: str, value: Any) -> Path:
    """Return an absolute path. Raises TypeError, ValueError or NotImplementedError for a wrong value."""
    if not isinstance(value, str | os.PathLike) or not isinstance(os.fspath(value), str):
        raise TypeError(f"{key} is a path, not {type(value).__name__}: {value!r:.80}")
    text = os.fspath(value)
    if "://" in text:
        raise NotImplementedError(
            f"{key}={text!r}: nothing is downloaded here; download the file, and give its path"
        )
    if not text:
        raise ValueError(f"{key} is empty; the directory of this program is '.'")
    return Path(os.path.abspath(os.path.expanduser(text)))


def _working_dir(key: str, value: Any) -> str:
    path = _path(key, value)
    if not path.exists():
        raise ValueError(f"{key}={os.fspath(value)!r} does not exist")
    if not path.is_dir() and path.suffix != ".zip":
        raise ValueError(f"{key}={os.fspath(value)!r} is neither a directory nor a .zip file")
    return str(path)


def _py_modules(key: str, value: Any) -> list[str]:
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise TypeError(f"{key} is a list of modules and paths, not {type(value).__name__}: {value!r:.80}")
    return [_module_path(f"{key}[{index}]", item) for index, item in enumerate(value)]


def _module_path(key: str, value: Any) -> str:
    if isinstance(value, ModuleType):
        places = list(getattr(value, "__path__", ()))
        place = places[0] if places else getattr(value, "__file__", None)
        if place is None:
            raise ValueError(
                f"{key}: the module {value.__name__} has no file, so it cannot be given to other processes"
            )
        return os.path.abspath(str(place))
    path = _path(key, value)
    if not path.exists():
        raise ValueError(f"{key}={os.fspath(value)!r} does not exist")
    if not path.is_dir() and path.suffix not in _MODULE_KINDS:
        raise ValueError(
            f"{key}={os.fspath(value)!r} is neither a package's directory nor a .py or .whl file"
        )
    return str(path)


def _excludes(key: str, value: Any) -> list[str]:
    return _texts(key, value, "patterns like those of a .gitignore")


def _texts(key: str, value: Any, what: str) -> list[str]:
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise TypeError(f"{key} is a list of {what}, not {type(value).__name__}: {value!r:.80}")
    for item in value:
        if not isinstance(item, str):
            raise TypeError(f"{key} is a list of {what}, and has {item!r:.80}")
    return list(value)


def _installer(key: str, value: Any) -> dict[str, Any]:
    """Return the value of `pip` or `uv` as a dictionary."""
    fields = dict(value) if isinstance(value, Mapping) else {"packages": value}
    options = {
        "packages": _packages,
        f"{key}_check": _switch,
        f"{key}_version": _version,
        "pip_install_options" if key == "pip" else "uv_pip_install_options": _options,
    }
    unknown = [str(name) for name in fields if name not in options]
    if unknown:
        raise ValueError(f"{key} has no {', '.join(unknown)}. It has: {', '.join(options)}")
    if fields.get("packages") is None:
        raise ValueError(f"{key} has no packages")
    return {
        name: options[name](f"{key}[{name!r}]" if isinstance(value, Mapping) else key, item)
        for name, item in fields.items()
        if item is not None
    }


def _packages(key: str, value: Any) -> list[str]:
    if isinstance(value, str | os.PathLike):
        path = _path(key, value)
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(
                f"{key}={os.fspath(value)!r} is not a file of requirements that can be read: {error}. "
                "Write a single package as a list of one."
            ) from None
        lines = [line.split(" #")[0].strip() for line in lines]
        return [_local(line, path.parent) for line in lines if line and not line.startswith("#")]
    return [_local(item, Path.cwd()) for item in _texts(key, value, "requirements, such as 'numpy==2.1'")]


def _local(requirement: str, beside: Path) -> str:
    """Return a requirement with an absolute path, if it is a path that exists: workers have other directories."""
    if requirement.startswith((".", "~")):
        path = beside / os.path.expanduser(requirement)
        if path.exists():
            return os.path.abspath(path)
    return requirement


def _switch(key: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{key} is True or False, not {value!r:.80}")
    return value


def _version(key: str, value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{key} is a text such as '==24.0', not {value!r:.80}")
    return value


def _options(key: str, value: Any) -> list[str]:
    return _texts(key, value, "options of the command line")


def _hook(key: str, value: Any) -> Callable[[], Any] | str:
    if isinstance(value, str):
        if "." not in value.strip("."):
            raise ValueError(f"{key}={value!r} is not the name of a function, such as 'module.function'")
        return value
    if not callable(value):
        raise TypeError(f"{key} is a function, or 'module.function', not {value!r:.80}")
    hook: Callable[[], Any] = value
    # A function in C may have no signature.
    with contextlib.suppress(ValueError):
        try:
            inspect.signature(hook).bind()
        except TypeError:
            raise TypeError(f"{key} is called without arguments, and {value!r:.80} needs some") from None
    return hook


def _config(key: str, value: Any) -> RuntimeEnvConfig:
    if not isinstance(value, Mapping):
        raise TypeError(f"{key} is a dictionary or a RuntimeEnvConfig, not {value!r:.80}")
    known = ("setup_timeout_seconds", "eager_install")
    unknown = [str(name) for name in value if name not in known]
    if unknown:
        raise ValueError(f"{key} has no {', '.join(unknown)}. It has: {', '.join(known)}")
    return RuntimeEnvConfig(**{name: item for name, item in value.items() if item is not None})


_CHECKS: Final[Mapping[str, Callable[[str, Any], Any]]] = {
    "env_vars": _env_vars,
    "working_dir": _working_dir,
    "py_modules": _py_modules,
    "excludes": _excludes,
    "pip": _installer,
    "uv": _installer,
    "worker_process_setup_hook": _hook,
    "config": _config,
}
