"""The record of an environment: what its workers have beyond the session's own, and who they are. No decisions.

    CLOSED -> OPENING -> OPEN -> CLOSED        OPENING -> FAILED -> OPENING        OPEN -> FAILED

An environment is open while a process runs that forks its workers. The session's own processes are one, too, with an
empty key: open from the beginning to the end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ipyremote.core.transitions import InvalidTransition
from ipyremote.messages import Environment as Definition

if TYPE_CHECKING:
    from ipyremote.core.state.ledger import Shape, Worker

__all__ = ["CLOSED", "ENVIRONMENT_MOVES", "FAILED", "OPEN", "OPENING", "Environment", "move_environment"]

#: No process runs for it.
CLOSED: Final = "closed"
#: Its process has been asked for, and sets it up.
OPENING: Final = "opening"
OPEN: Final = "open"
#: It could not be set up.
FAILED: Final = "failed"

ENVIRONMENT_MOVES: Final[dict[str, frozenset[str]]] = {
    CLOSED: frozenset((OPENING,)),
    OPENING: frozenset((OPEN, FAILED)),
    OPEN: frozenset((CLOSED, FAILED)),
    FAILED: frozenset((OPENING,)),
}


class Environment:
    """See the module docstring."""

    __slots__ = (
        "definition",
        "eager",
        "failed_at",
        "failures",
        "floor",
        "idle",
        "key",
        "members",
        "pool_size",
        "put_off",
        "reason",
        "shapes",
        "since",
        "start_after",
        "starting",
        "state",
        "unneeded_since",
        "wanted",
    )

    def __init__(self, key: str, now: float, state: str = CLOSED) -> None:
        self.key = key
        #: None until it was announced.
        self.definition: Definition | None = None
        self.state = state
        #: When it came into this state.
        self.since = now
        #: Whether it is to be opened although nobody needs it.
        self.eager = False
        #: What tasks in it need.
        self.shapes: list[Shape] = []
        #: Its workers that have nothing to do; the one that worked last is last.
        self.idle: dict[int, Worker] = {}
        #: All its workers.
        self.members = 0
        #: Those that were asked for and have not greeted.
        self.starting = 0
        #: Those that are, or will be, there for tasks: all but actors and those that stop.
        self.pool_size = 0
        #: How many there are for tasks at least.
        self.floor = 0
        #: How many more could be put to work at once.
        self.wanted = 0
        #: Starts of workers in a row that failed.
        self.failures = 0
        #: Why the last of them did, or the set-up.
        self.reason = ""
        #: When that was.
        self.failed_at = now
        #: No worker is started before this.
        self.start_after = now
        #: Whether a start had to be put off until then.
        self.put_off = False
        #: Since when it has been open with nothing to do; None: it has something, or is not open.
        self.unneeded_since: float | None = None

    @property
    def is_needed(self) -> bool:
        """Whether any task could run in it if it were open."""
        return any(shape.ready for shape in self.shapes)

    @property
    def title(self) -> str:
        """What it is, in a few words."""
        return self.definition.title if self.definition is not None else "unknown"


def move_environment(environment: Environment, state: str, now: float) -> None:
    """Change an environment's state. Raises InvalidTransition."""
    if state not in ENVIRONMENT_MOVES[environment.state]:
        raise InvalidTransition(
            f"environment {environment.title} cannot go from {environment.state} to {state}"
        )
    environment.state = state
    environment.since = now
    environment.unneeded_since = None
