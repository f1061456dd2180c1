"""The opening and closing of environments, and the failure of tasks whose environment cannot be set up.

Rules. An environment is opened when a task in it is ready (an environment with `eager`: at once). Until it is open, its
ready tasks wait outside of the queues that are served. A thousand tasks may ask for a thousand environments, so only as
many are opened at a time as there are processors; environments whose tasks could not start now anyway, only a few. A
set-up that failed, or an environment whose workers cannot be started, fails the tasks that wait for it, and the tasks
that come in the next `AGAIN_SECONDS`; then the set-up is tried again. An environment that has had nothing to do for
`UNNEEDED_SECONDS` is closed, and sooner while there are more than `UNNEEDED` such environments. When the process of an
environment is lost, its workers are reported as lost first; the environment is opened again when a task needs it,
unless the process was lost right after the opening.
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

__all__ = ["EnvironmentLifecycle"]

#: Seconds after a set-up that failed before which it is not tried again.
AGAIN_SECONDS: Final = 10.0
#: Seconds without anything to do after which an environment is closed.
UNNEEDED_SECONDS: Final = 60.0
#: Number of environments with nothing to do that may stay open.
UNNEEDED: Final = 8
#: Number of environments that may be opening, or open without workers, while their tasks cannot start for another
#: reason.
AHEAD: Final = 4
#: Number of environments that may always be set up at a time, even with fewer processors.
OPENING_FLOOR: Final = 2
#: Seconds after the opening within which the loss of an environment counts as a failed set-up.
SETTLED_SECONDS: Final = 1.0
#: Number of failed starts of workers in a row after which the environment counts as failed.
HOPELESS_FAILURES: Final = 2


class EnvironmentLifecycle:
    """The rules in the module docstring. The records are in the ledger; nothing is kept here."""

    def __init__(self, ledger: Ledger, pool: WorkerPool, actors: Actors) -> None:
        self._ledger = ledger
        self._pool = pool
        self._actors = actors

    # --------------------------------------------------------------------------------------------------------- events

    def on_define(self, message: DefineEnvironment) -> None:
        """Note the description of an environment that a client announces."""
        definition = message.environment
        environment = environment_of(self._ledger, definition.key)
        if environment.definition is None and environment is not self._ledger.home:
            environment.definition = definition
        environment.eager = environment.eager or (message.eager and environment.state == CLOSED)

    def on_opened(self, key: str) -> None:
        """React to an environment that is set up: its workers can be started, so its ready tasks are served."""
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
        """React to the end of an environment's process, whether or not it was set up. Its workers are gone before."""
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
        """Open needed environments, fail tasks that wait in vain, close unneeded environments.

        Called before anything is placed.
        """
        for environment in self._ledger.environments.values():
            if environment.state == OPEN:
                self._settle_open(environment)
            elif environment.state != OPENING:
                self._settle_closed(environment)
        self._close_surplus()

    def deadline(self) -> float | None:
        """Return the time at which `settle` has something to do even without events; None: never."""
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
        """Return whether an environment may be opened now, beside the others that are opening or open."""
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
            # Where an actor lives in the environment, the next task causes one more try.
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
        """Close the environments that have had nothing to do for longest, if too many have nothing to do."""
        unneeded = [
            (environment.unneeded_since, number, environment)
            for number, environment in enumerate(self._ledger.environments.values())
            if environment.unneeded_since is not None
        ]
        for _, _, environment in sorted(unneeded)[: max(0, len(unneeded) - UNNEEDED)]:
            self._close(environment)

    def _close(self, environment: Environment) -> None:
        """Stop the workers of an environment with nothing to do, and close it if they have left."""
        ledger = self._ledger
        for worker in list(environment.idle.values()):
            self._pool.stop(worker, kill=False)
        if not environment.members:
            move_environment(environment, CLOSED, ledger.now)
            ledger.out.append(CloseEnvironment(environment.key))

    def _is_hopeless(self, environment: Environment) -> bool:
        """Return whether no worker of the environment is idle or starts, and each with tasks waits for others."""
        return not environment.idle and not environment.starting and self._pool.is_stuck(environment)

    def _unlist(self, environment: Environment) -> None:
        """Take the environment's shapes from the rota: their ready tasks are not served until it is open."""
        ledger = self._ledger
        for shape in [shape for shape in ledger.rota if shape.environment is environment]:
            shape.listed = False
            shape.starved_since = None
            ledger.rota.remove(shape)

    def _fail_ready(self, environment: Environment) -> None:
        """Fail all ready tasks and creations of actors in an environment that could not be set up."""
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
