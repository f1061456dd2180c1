"""What `init` is asked about logging: the level and form of this process's own records, or a `LoggingConfig` for all.

Rules. Nobody's logging is touched unless something is asked for, and the end of the session undoes it. A process that
runs tasks takes a `LoggingConfig` over with the first function that comes from a program which has one; where several
programs share a session, the latest counts. A record is written to where `sys.stderr` is at that moment, so that those
of a task appear below its cell, and making one never waits for the scheduler.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from ipyremote.backend import Backend, current, current_task
from ipyremote.declare import exports

__all__ = ["OPTIONS", "LoggingConfig", "check", "configure"]

#: The arguments of `init` that are dealt with here.
OPTIONS: Final = frozenset({"configure_logging", "logging_level", "logging_format", "logging_config"})
#: As in Ray.
FORMAT: Final = "%(asctime)s\t%(levelname)s %(filename)s:%(lineno)s -- %(message)s"
ENCODINGS: Final = ("TEXT", "JSON")
#: What a record knows of itself.
_ATTRIBUTES: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}
#: Those that are always written.
_ALWAYS: Final = ("asctime", "levelname", "message", "filename", "lineno")
_OURS: Final = "ipyremote"


@dataclass(frozen=True)
class LoggingConfig:
    """The form of the log records of a program, of its tasks and of its actors: for `init(logging_config=...)`.

    Beside time, level, place and message, a record has the ids of the job, node, process, task and actor. As in Ray.

    Parameters
    ----------
    encoding : str, default "TEXT"
        "TEXT" or "JSON"; one line for each record.
    log_level : str or int, default "INFO"
        Level of the root logger.
    additional_log_standard_attrs : list of str, optional
        Fields of a record that are added, such as "name" or "thread".

    Raises
    ------
    ValueError, TypeError
        An argument does not fit.

    Examples
    --------
    >>> ray.LoggingConfig(encoding="JSON", log_level="WARNING")
    LoggingConfig(encoding='JSON', log_level='WARNING', additional_log_standard_attrs=[])
    """

    encoding: str = "TEXT"
    log_level: str | int = "INFO"
    additional_log_standard_attrs: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.encoding not in ENCODINGS:
            raise ValueError(f"encoding is one of {', '.join(ENCODINGS)}, not {self.encoding!r}")
        _level_of(self.log_level, "log_level")
        for name in self.additional_log_standard_attrs:
            if name not in _ATTRIBUTES:
                raise ValueError(
                    f"a log record has no field {name!r}; it has {', '.join(sorted(_ATTRIBUTES))}"
                )

    def apply(self) -> None:
        """Have this process write its records so. A second call changes nothing."""
        formatter = _ContextFormatter(self.encoding, tuple(self.additional_log_standard_attrs))
        _attach(logging.getLogger(), formatter, _level_of(self.log_level, "log_level"))


class _Handler(logging.StreamHandler[Any]):
    """Writes to what `sys.stderr` is when a record comes."""

    @property
    def stream(self) -> Any:
        return sys.stderr

    @stream.setter
    def stream(self, value: Any) -> None:
        """The base class sets one."""


class _ContextFormatter(logging.Formatter):
    """Time, level, place and message of a record, and the ids of the job, process, task and actor that made it."""

    def __init__(self, encoding: str, more: tuple[str, ...]) -> None:
        super().__init__()
        self._more = tuple(name for name in more if name not in _ALWAYS)
        self._json = _json_formatter((*_ALWAYS, *self._more)) if encoding == "JSON" else None

    def format(self, record: logging.LogRecord) -> str:
        context = _context()
        message = record.getMessage()
        if self._json is not None:
            # A copy, because other handlers get the same record. A message of any type becomes text, as in Ray.
            copy = logging.makeLogRecord({**vars(record), **context, "msg": message, "args": None})
            return self._json.format(copy)
        fields = {name: getattr(record, name, None) for name in self._more} | context
        pairs = " ".join(f"{name}={value}" for name, value in fields.items())
        place = f"{record.filename}:{record.lineno}"
        line = f"{self.formatTime(record)}\t{record.levelname} {place} -- {message} {pairs}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def _json_formatter(fields: tuple[str, ...]) -> logging.Formatter:
    """Return a formatter that writes these fields of a record and its `extra` ones as one line of JSON."""
    # Imported here, because importing the package should cost little.
    from pythonjsonlogger.json import JsonFormatter

    return JsonFormatter(
        " ".join(f"%({name})s" for name in fields),
        json_default=str,
        # The name that Ray has for the traceback.
        rename_fields={"exc_info": "exc_text"},
    )


def _context() -> dict[str, str]:
    """What is known, without asking anybody, of where the calling code runs."""
    backend = current.peek()
    if backend is None:
        return {}
    identity = current_task.identity()
    found = {
        "job_id": backend.hex_of("job", 0),
        "node_id": backend.hex_of("node", 0),
        "worker_id": backend.hex_of("process", identity.client),
        "task_id": backend.hex_of("task", identity.task) if identity.task else "",
        "task_name": identity.task_name,
        "task_func_name": identity.function,
        "actor_id": backend.hex_of("actor", identity.actor) if identity.actor else "",
    }
    return {name: value for name, value in found.items() if value}


# ------------------------------------------------------------------------------------------------- arguments of init


def check(given: Mapping[str, Any]) -> None:
    """Raise TypeError or ValueError for what cannot be meant."""
    level, form, config = (given.get(f"logging_{name}") for name in ("level", "format", "config"))
    if level is not None:
        _level_of(level, "logging_level")
    if form is not None:
        if not isinstance(form, str):
            raise TypeError(f"logging_format is a text such as {FORMAT!r}, not {form!r}")
        logging.Formatter(form)
    if config is not None and not isinstance(config, LoggingConfig):
        raise TypeError(f"logging_config is a LoggingConfig, not {type(config).__name__}: {config!r:.80}")


def configure(given: Mapping[str, Any]) -> None:
    """Do what checked arguments of `init` ask for, until the session that is running ends."""
    fresh = not _undo
    level, form = given.get("logging_level"), given.get("logging_format")
    config: LoggingConfig | None = given.get("logging_config")
    if given.get("configure_logging", True) and not (level is None and form is None):
        number = _level_of(logging.INFO if level is None else level, "logging_level")
        _attach(logging.getLogger(_OURS), logging.Formatter(form or FORMAT), number)
    if config is not None:
        config.apply()
        _have_workers(partial(LoggingConfig.apply, config))
    if fresh and _undo:
        current.observe(_on_session)


#: How to undo what was done to a logger, by its name. While a session runs, its end is waited for if there is any.
_undo: dict[str, Callable[[], None]] = {}


def _on_session(backend: Backend, begins: bool) -> None:
    if begins:
        return
    current.unobserve(_on_session)
    for name in list(_undo):
        _undo.pop(name)()
    _have_workers(None)


def _have_workers(prepare: Callable[[], object] | None) -> None:
    """Call this wherever functions of this process arrive from now on."""
    # Imported here, because importing the package should cost little.
    from ipyremote.serialization import pickling

    pickling.before_loading(__name__, prepare)
    # What was exported before does not know it.
    exports.bump_epoch()


def _attach(logger: logging.Logger, formatter: logging.Formatter, level: int) -> None:
    """Have a logger write through one handler of ours, from this level on."""
    before = _undo.pop(logger.name, None)
    if before is not None:
        before()
    handler = _Handler()
    handler.setFormatter(formatter)
    old_level, old_propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(level)
    logger.propagate = False

    def undo() -> None:
        logger.removeHandler(handler)
        logger.setLevel(old_level)
        logger.propagate = old_propagate

    _undo[logger.name] = undo


def _level_of(level: Any, what: str) -> int:
    if isinstance(level, str):
        number = logging.getLevelNamesMapping().get(level.upper())
        if number is not None:
            return number
        raise ValueError(f"{what} is a level such as 'INFO' or logging.INFO, not {level!r}")
    if not isinstance(level, int) or isinstance(level, bool):
        raise TypeError(f"{what} is a level such as 'INFO' or logging.INFO, not {level!r}")
    return level
