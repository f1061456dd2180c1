"""When environments are set up, what follows from a set-up that failed, and when one is given up that nobody needs.

Rules. An environment is opened when a task in it is ready (one with `eager`: at once), and ready tasks wait outside of
the queues that are served until it is open. A thousand tasks may ask for a thousand environments, so as many are opened
at a time as there are processors, and of those whose tasks could not start now only a few. A set-up that failed, or an
environment whose workers cannot be started, fails the tasks that wait for it, and those that come in the next
`AGAIN_SECONDS`; then it is tried anew. One that has had nothing to do for `UNNEEDED_SECONDS` is closed, or sooner, if
there are more than `UNNEEDED` of them. Of one whose process was lost, the workers are lost first; it is opened again
when a task needs it, unless it was lost right after it had been opened.
"""

from __future__ import annotations

from typing import Final

from ipyremote.core.actors import Actors
from ipyremote.core.commands import CloseEnvironment, Log, OpenEnvironment
from ipyremote.core.queues import enlist
from ipyremote.core.resources import environment_of, fits
from ipyremote.core.state import Environment, Ledger, move_environment
from ipyremote.core.tasks import fail, is_creation
from ipyremote.core.transitions import CLOSED, FAILED, OPEN, OPENING, READY
from ipyremote.core.worker_pool import WorkerPool
from ipyremote.messages import RESOURCE_UNIT, DefineEnvironment, Failure

__all__ = ["EnvironmentRules"]

#: A set-up that failed is not tried again before this.
AGAIN_SECONDS: Final = 10.0
UNNEEDED_SECONDS: Final = 60.0
#: So many that have nothing to do stay open.
UNNEEDED: Final = 8
#: So many are opened, or open, whose tasks cannot start for want of something else.
AHEAD: Final = 4
#: So many are set up at a time at least; and as many as there are processors.
OPENING_FLOOR: Final = 2
#: One that is lost sooner than this after it was opened counts as failed.
SETTLED_SECONDS: Final = 1.0
#: Starts of workers in a row that may fail.
HOPELESS_FAILURES: Final = 2


class EnvironmentRules:
    """See the module docstring. The records are in the ledger."""

    def __init__(self, ledger: Ledger, pool: WorkerPool, actors: Actors) -> None:
        self._ledger = ledger
        self._pool = pool
        self._actors = actors

    # ---------------------------------------------------------------------------------------------- what has happened

    def on_define(self, message: DefineEnvironment) -> None:
        """A client announces an environment."""
        definition = message.environment
        environment = environment_of(self._ledger, definition.key)
        if environment.definition is None and environment is not self._ledger.home:
            environment.definition = definition
        environment.eager = environment.eager or (message.eager and environment.state == CLOSED)

    def on_opened(self, key: str) -> None:
        """It is set up, and its workers can be started."""
        ledger = self._ledger
        environment = ledger.environments.get(key)
        if environment is None or environment.state != OPENING:
            return
        move_environment(environment, OPEN, ledger.now)
        environment.failures = 0
        environment.start_after = ledger.now
        for shape in environment.shapes:
            if shape.ready and not shape.listed and not shape.missing:
                enlist(ledger, shape)

    def on_lost(self, key: str, reason: str) -> None:
        """Its process has ended, or could not set it up. Its workers are gone."""
        ledger = self._ledger
        environment = ledger.environments.get(key)
        if environment is None or environment.state not in (OPENING, OPEN):
            return
        early = environment.state == OPENING or ledger.now - environment.since < SETTLED_SECONDS
        environment.reason = reason
        move_environment(environment, FAILED if early else CLOSED, ledger.now)
        ledger.out.append(Log(f"the environment {environment.title} was lost: {reason}"))
        self._unlist(environment)

    # ------------------------------------------------------------------------------------------------------ decisions

    def settle(self) -> None:
        """Open what is needed, fail what waits in vain, close what nobody needs. Before anything is placed."""
        for environment in self._ledger.environments.values():
            if environment.state == OPEN:
                self._settle_open(environment)
            elif environment.state != OPENING:
                self._settle_closed(environment)
        self._close_surplus()

    def deadline(self) -> float | None:
        """When `settle` has something to do although nothing happened."""
        return min(
            (
                environment.unneeded_since + UNNEEDED_SECONDS
                for environment in self._ledger.environments.values()
                if environment.unneeded_since is not None
            ),
            default=None,
        )

    def _settle_closed(self, environment: Environment) -> None:
        ledger = self._ledger
        needed = environment.is_needed
        if environment.definition is None or not (needed or environment.eager):
            return
        if environment.state == FAILED and ledger.now - environment.since < AGAIN_SECONDS:
            self._fail_ready(environment)
            return
        if not self._may_open(environment):
            return
        environment.eager = False
        move_environment(environment, OPENING, ledger.now)
        ledger.out.append(OpenEnvironment(environment.definition))

    def _may_open(self, environment: Environment) -> bool:
        """Whether it is its turn."""
        ledger = self._ledger
        others = ledger.environments.values()
        opening = sum(other.state == OPENING for other in others)
        if opening >= max(OPENING_FLOOR, ledger.total.get("CPU", 0) // RESOURCE_UNIT):
            return False
        if environment.eager or any(shape.ready and fits(shape) for shape in environment.shapes):
            return True
        ahead = sum(other.state == OPEN and other.is_needed and not other.members for other in others)
        return opening + ahead < AHEAD

    def _settle_open(self, environment: Environment) -> None:
        ledger = self._ledger
        if environment.failures >= HOPELESS_FAILURES and self._is_hopeless(environment):
            # Where an actor lives in it, the next task is one more try.
            environment.failures = HOPELESS_FAILURES - 1
            if not environment.members:
                move_environment(environment, FAILED, ledger.now)
                ledger.out.append(CloseEnvironment(environment.key))
                self._unlist(environment)
            self._fail_ready(environment)
        elif environment.members > len(environment.idle) or environment.is_needed:
            environment.unneeded_since = None
        elif environment.unneeded_since is None:
            environment.unneeded_since = ledger.now
        elif ledger.now >= environment.unneeded_since + UNNEEDED_SECONDS:
            self._close(environment)

    def _close_surplus(self) -> None:
        """Too many have nothing to do: those go that have had nothing for longest."""
        unneeded = [
            (environment.unneeded_since, number, environment)
            for number, environment in enumerate(self._ledger.environments.values())
            if environment.unneeded_since is not None
        ]
        for _, _, environment in sorted(unneeded)[: max(0, len(unneeded) - UNNEEDED)]:
            self._close(environment)

    def _close(self, environment: Environment) -> None:
        """Close one that has nothing to do, when its workers have left."""
        ledger = self._ledger
        for worker in list(environment.idle.values()):
            self._pool.stop(worker, kill=False)
        if not environment.members:
            move_environment(environment, CLOSED, ledger.now)
            ledger.out.append(CloseEnvironment(environment.key))

    def _is_hopeless(self, environment: Environment) -> bool:
        """Whether nobody is there, or about to be, to run a ready task."""
        return not environment.idle and not environment.starting and self._pool.is_stuck(environment)

    def _unlist(self, environment: Environment) -> None:
        """What is ready in it waits outside of the queues that are served."""
        ledger = self._ledger
        for shape in [shape for shape in ledger.rota if shape.environment is environment]:
            shape.listed = False
            shape.starved_since = None
            ledger.rota.remove(shape)

    def _fail_ready(self, environment: Environment) -> None:
        ledger = self._ledger
        ready = [
            task
            for task in ledger.tasks.values()
            if task.state == READY and task.shape is not None and task.shape.environment is environment
        ]
        for task in ready:
            text = (
                f"{task.spec.label} cannot run: its environment ({environment.title}) could not be set up: "
                f"{environment.reason}"
            )
            failure = Failure("runtime_env_setup", text)
            if is_creation(task):
                assert task.actor is not None, "a creation has an actor"
                self._actors.die(task.actor, failure)
            else:
                fail(ledger, task, failure)
