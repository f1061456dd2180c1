"""`RuntimeEnv`: what tasks and actors ask for beyond what all of a session have, as in `ray.runtime_env`.

A dictionary with checks. Rules. What cannot be meant is said where it is written, before anything is started: a wrong
type is a TypeError, a wrong value or an unknown key a ValueError, a key of Ray's without its effect here a
NotImplementedError. Paths are made absolute, modules become their paths and files of requirements their lines, so that
a checked one means the same in every process. What it comes to on this machine is worked out by the client that asks.
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

#: For how long packages may take to be installed, as in Ray.
SETUP_SECONDS: Final = 600
_MODULE_KINDS: Final = (".py", ".whl")

#: Keys of Ray's that have no effect here, and what to use instead.
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
    """How an environment is set up: `setup_timeout_seconds` (-1: no limit) and `eager_install`, as in Ray.

    `eager_install`: the environment of `init` is set up at once, and not when the first task needs it.
    """

    def __init__(self, setup_timeout_seconds: int = SETUP_SECONDS, eager_install: bool = True) -> None:
        """Raises TypeError and ValueError."""
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

    `env_vars`: environment variables, names to texts; `${NAME}` in a text is what NAME was before.
    `working_dir`: a directory, or a .zip file, a copy of which is the working directory and the first place for
    imports. It is taken when it is first used, without what its `.gitignore` files and `excludes` (patterns like those)
    name, and may have 500 MiB. `py_modules`: modules, or paths of packages, .py files and wheels, to be imported.
    `pip`, `uv`: what to install on top of what is installed here: a list, the path of a file of requirements, or a
    dictionary: `packages`, `pip_check`, `pip_version` and `pip_install_options`, or `packages`, `uv_check`,
    `uv_version` and `uv_pip_install_options`. It is installed once and kept in the user's cache directory. pip installs
    what is missing here, uv all that the packages need.
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
        # Not key by key: what was checked is not checked again elsewhere.
        return RuntimeEnv._of, (dict(self),)

    def to_dict(self) -> dict[str, Any]:
        """A plain dictionary."""
        return dict(self)

    def serialize(self) -> str:
        """As JSON; a function is its name."""
        # Imported here, since every program imports this module.
        import json

        return json.dumps(self, sort_keys=True, default=_name_of)

    @classmethod
    def deserialize(cls, text: str) -> RuntimeEnv:
        """What `serialize` gave. Nothing is checked."""
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
    """What a user has written as `runtime_env`; None: nothing is asked for. Raises as `RuntimeEnv` does."""
    if value is None or isinstance(value, RuntimeEnv):
        # A copy: whoever wrote it may change it.
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
    """What a child has that asks for this where its parent has that: `env_vars` together, of others the child's."""
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
            raise ValueError(f"{key} cannot have {name!r}: {text!r}: no variable is called or is like that")
        try:
            f"{name}{text}".encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"{key}[{name!r}] is no text that can be sent: {error}") from None
    return dict(value)


def _path(key: str, value: Any) -> Path:
    """An absolute path. Raises for what is none."""
    if not isinstance(value, str | os.PathLike) or not isinstance(os.fspath(value), str):
        raise TypeError(f"{key} is a path, not {type(value).__name__}: {value!r:.80}")
    text = os.fspath(value)
    if "://" in text:
        raise NotImplementedError(
            f"{key}={text!r}: nothing is fetched from elsewhere; download it, and give its path here"
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
                f"{key}: the module {value.__name__} has no file; it cannot be given to processes"
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
    """What `pip` or `uv` means, as a dictionary."""
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
                "A single package is a list of one."
            ) from None
        lines = [line.split(" #")[0].strip() for line in lines]
        return [_local(line, path.parent) for line in lines if line and not line.startswith("#")]
    return [_local(item, Path.cwd()) for item in _texts(key, value, "requirements, such as 'numpy==2.1'")]


def _local(requirement: str, beside: Path) -> str:
    """A requirement that is the path of something here means the same in another working directory."""
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
            raise ValueError(f"{key}={value!r} names no function: it is like 'module.function'")
        return value
    if not callable(value):
        raise TypeError(f"{key} is a function, or 'module.function', not {value!r:.80}")
    hook: Callable[[], Any] = value
    # A function in C may not say what it takes.
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
