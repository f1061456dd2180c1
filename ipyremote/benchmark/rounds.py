"""The parent process of the benchmark: runs engines in fresh child processes, in turns, and collects their samples.

Each round runs each engine once, one after another, so that a machine that slows down slows all engines. A child that
reports nothing for `limit` seconds is ended with all processes of its engine: the child's current case is a timeout,
and a new child continues with the next case. A case without a number is not run again in later rounds.
"""

import json
import os
import select
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import IO, Any

from ipyremote.benchmark import engine_processes
from ipyremote.benchmark.cases import FULL, QUICK, Case
from ipyremote.benchmark.child import COMMAND
from ipyremote.benchmark.engines import Spec
from ipyremote.benchmark.results import CaseOutcome, CaseResult, CaseStatus, Column, Results

#: Time limit for stopping an engine, in seconds; all samples have been reported before.
PATIENCE = 20.0


@dataclass(frozen=True, slots=True)
class Plan:
    """The engines, cases and limits of a run; the first engine is ipyremote."""

    engines: Sequence[Spec]
    cases: Sequence[Case]
    rounds: int
    workers: int
    quick: bool
    #: Time limit for one case on one engine in one round, and for the start of an engine, in seconds.
    limit: float


class Child:
    """A running child process: reads its lines, each with a deadline, and ends the process with its engine."""

    def __init__(self, adapter: str, names: Sequence[str], plan: Plan) -> None:
        self._token = uuid.uuid4().hex
        self._reader, writer = os.pipe()
        # `close` closes the file, because the file is read after the child has ended.
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        self._text = b""
        size = "quick" if plan.quick else "full"
        arguments = [adapter, str(writer), str(plan.workers), self._token, size, *names]
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", COMMAND, *arguments],
                env=engine_processes.marked(self._token),
                pass_fds=[writer],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._errors,
                start_new_session=True,
            )
        finally:
            os.close(writer)

    def line(self, seconds: float) -> dict[str, Any] | None:
        """Return the next line, or None if the child has ended; raise TimeoutError if neither happens in time.

        The end of the child is not always the end of the pipe: a process that the child forked may hold the pipe open.
        """
        deadline = monotonic() + seconds
        while b"\n" not in self._text:
            ended = self._process.poll() is not None
            if select.select([self._reader], [], [], 0 if ended else 0.1)[0]:
                chunk = os.read(self._reader, 65536)
                if chunk:
                    self._text += chunk
                    continue
                if not ended:
                    # `select` on a closed pipe would always return at once, so wait for the process instead.
                    self._wait(deadline)
                return None
            if ended:
                return None
            if monotonic() > deadline:
                raise TimeoutError
        text, self._text = self._text.split(b"\n", 1)
        record: dict[str, Any] = json.loads(text)
        return record

    def _wait(self, deadline: float) -> None:
        """Wait for the end of the process, or raise TimeoutError at the deadline."""
        try:
            self._process.wait(max(0.1, deadline - monotonic()))
        except subprocess.TimeoutExpired as late:
            raise TimeoutError from late

    def last_words(self) -> str:
        """Return the child's exit status and the last line of its stderr, as text."""
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        status = self._process.poll()
        return f"the process ended with status {status}" + (f": {lines[-1]}" if lines else "")

    def close(self) -> None:
        """End the child and every process of its engine."""
        # The process id of a child that was waited for may already belong to another process.
        alive = self._process.poll() is None
        engine = engine_processes.family(self._process.pid if alive else None, self._token)
        # The child is killed first, because a living child would replace the workers that it loses.
        self._process.kill()
        self._process.wait()
        engine_processes.end(engine)
        # Processes may have been started after the first search and before the end of the child.
        engine_processes.end(engine_processes.family(None, self._token))
        os.close(self._reader)
        self._errors.close()


def one_child(adapter: str, names: Sequence[str], plan: Plan) -> Iterator[tuple[str, CaseOutcome]]:
    """Run the cases in one child and yield (name, outcome) of each, until the child ends or hangs."""
    child = Child(adapter, names, plan)
    doing = "start"
    try:
        while True:
            line = child.line(PATIENCE if doing in ("stop", "exit") else plan.limit)
            match line:
                case None:
                    yield from _broken(doing, names, CaseOutcome(CaseStatus.ERROR, detail=child.last_words()))
                    return
                case {"doing": step}:
                    doing = step
                case {"failed": text}:
                    yield from _broken("start", names, CaseOutcome(CaseStatus.ERROR, detail=f"start: {text}"))
                    return
                case {"case": name, "status": status, "samples": samples, "detail": detail}:
                    yield name, CaseOutcome(CaseStatus(status), tuple(samples), detail)
                case _:
                    raise AssertionError(f"no such line in the child's protocol: {line}")
    except TimeoutError:
        step = "start" if doing == "start" else "case"
        late = CaseOutcome(CaseStatus.TIMEOUT, detail=f"{step} took longer than {plan.limit:g} s")
        yield from _broken(doing, names, late)
    finally:
        child.close()


def _broken(doing: str, names: Sequence[str], outcome: CaseOutcome) -> Iterator[tuple[str, CaseOutcome]]:
    """Yield the outcome of the current case of a child that ended or hung; of all cases if the engine did not start.

    A child that ended or hung while stopping has reported all its cases already.
    """
    match doing:
        case "start":
            yield from ((name, outcome) for name in names)
        case "stop" | "exit":
            return
        case name:
            yield name, outcome


def one_round(adapter: str, names: Sequence[str], plan: Plan) -> dict[str, CaseOutcome]:
    """Run all cases on one engine and return their outcomes; each child that ends or hangs is followed by another."""
    outcomes: dict[str, CaseOutcome] = {}
    while left := [name for name in names if name not in outcomes]:
        for name, outcome in one_child(adapter, left, plan):
            # A failed start must not replace the outcomes of cases that ran before the start.
            outcomes.setdefault(name, outcome)
        if not any(name in outcomes for name in left):
            for name in left:
                outcomes[name] = CaseOutcome(
                    CaseStatus.ERROR, detail="the process ended before it reported an outcome"
                )
    return outcomes


def run(plan: Plan, progress: Callable[[str], None]) -> Results:
    """Run the plan: each engine once in each round, in turns."""
    versions = {spec.name: spec.version() for spec in plan.engines}
    installed = [spec for spec in plan.engines if versions[spec.name] is not None]
    outcomes: dict[tuple[str, str], list[CaseOutcome]] = {}
    for turn in range(plan.rounds):
        for spec in installed:
            names = [case.name for case in plan.cases if _is_due(outcomes.get((spec.name, case.name)))]
            if names:
                progress(f"round {turn + 1} of {plan.rounds}: {spec.name}")
                for name, outcome in one_round(spec.adapter, names, plan).items():
                    outcomes.setdefault((spec.name, name), []).append(outcome)
    missing = [CaseOutcome(CaseStatus.MISSING)]
    columns = [
        Column(
            spec.name,
            versions[spec.name],
            {
                case.name: CaseResult(tuple(outcomes.get((spec.name, case.name), missing)))
                for case in plan.cases
            },
        )
        for spec in plan.engines
    ]
    sizes = QUICK if plan.quick else FULL
    return Results(plan.workers, plan.rounds, plan.quick, [case.row(sizes) for case in plan.cases], columns)


def _is_due(before: Sequence[CaseOutcome] | None) -> bool:
    """Return whether a case runs in this round: no earlier round of the case went wrong."""
    return not before or before[-1].status is CaseStatus.MEASURED
