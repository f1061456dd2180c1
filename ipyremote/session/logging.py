"""The arguments of `init` for logging: level and format of ipyremote's own records, or a `LoggingConfig` for all.

Rules. No logger is changed without such an argument, and the end of the session undoes the changes. A process that runs
tasks adopts a `LoggingConfig` with the first function that comes from a program with one; where several programs share
a session, the latest counts. A record is written to `sys.stderr` of the moment, so that the records of a task appear
below the task's cell. Formatting a record never waits for the scheduler.
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

#: The arguments of `init` that this module handles.
OPTIONS: Final = frozenset({"configure_logging", "logging_level", "logging_format", "logging_config"})
#: Default format of ipyremote's own records, as in Ray.
FORMAT: Final = "%(asctime)s\t%(levelname)s %(filename)s:%(lineno)s -- %(message)s"
ENCODINGS: Final = ("TEXT", "JSON")
#: Names of the fields of a log record.
_ATTRIBUTES: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}
#: Names of the fields that are always written.
_ALWAYS: Final = ("asctime", "levelname", "message", "filename", "lineno")
_OURS: Final = "ipyremote"


@dataclass(frozen=True)
class LoggingConfig:
    """The format of log records in a program, its tasks and its actors: for `init(logging_config=...)`.

    Besides time, level, place and message, a record has the ids of the job, node, process, task and actor. As in Ray.

    Parameters
    ----------
    encoding : str, default "TEXT"
        "TEXT" or "JSON"; one line for each record.
    log_level : str or int, default "INFO"
        Level of the root logger.
    additional_log_standard_attrs : list of str, optional
        More fields of a record, such as "name" or "thread".

    Raises
    ------
    ValueError, TypeError
        An argument is wrong.

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
        """Have this process write its records in this format. A second call changes nothing."""
        formatter = _ContextFormatter(self.encoding, tuple(self.additional_log_standard_attrs))
        _attach(logging.getLogger(), formatter, _level_of(self.log_level, "log_level"))


class _Handler(logging.StreamHandler[Any]):
    """A handler that writes each record to `sys.stderr` of the moment."""

    @property
    def stream(self) -> Any:
        return sys.stderr

    @stream.setter
    def stream(self, value: Any) -> None:
        """Ignore the stream that the base class sets."""


class _ContextFormatter(logging.Formatter):
    """A formatter of records with time, level, place, message, and the ids of job, process, task and actor."""

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
        # Ray's name for the traceback.
        rename_fields={"exc_info": "exc_text"},
    )


def _context() -> dict[str, str]:
    """Return the ids of the calling code's job, node, process, task and actor, without a request to the scheduler."""
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
    """Raise TypeError or ValueError for a wrong argument."""
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
    """Configure logging as checked arguments of `init` say, until the running session ends."""
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


#: Functions that undo the change of a logger, by the logger's name. The end of the session calls them.
_undo: dict[str, Callable[[], None]] = {}


def _on_session(backend: Backend, begins: bool) -> None:
    if begins:
        return
    current.unobserve(_on_session)
    for name in list(_undo):
        _undo.pop(name)()
    _have_workers(None)


def _have_workers(prepare: Callable[[], object] | None) -> None:
    """Have `prepare` called in each worker before a function of this process is unpickled there; None: nothing."""
    # Imported here, because importing the package should cost little.
    from ipyremote.serialization import pickling

    pickling.before_loading(__name__, prepare)
    # Functions that were exported before were pickled without `prepare`, and must be exported again.
    exports.bump_epoch()


def _attach(logger: logging.Logger, formatter: logging.Formatter, level: int) -> None:
    """Have a logger write records of this level or higher through one handler of ours."""
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
