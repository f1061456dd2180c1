"""The command line of the benchmark, checked completely before an engine starts."""

import argparse
import sys
from collections.abc import Sequence

from ipyremote.benchmark.cases import BY_NAME, CASES, FULL, QUICK, Case
from ipyremote.benchmark.engines import OURS, PEERS, SPECS
from ipyremote.benchmark.profiling import profile
from ipyremote.benchmark.report import table, to_json
from ipyremote.benchmark.results import CaseStatus, Results
from ipyremote.benchmark.rounds import Plan, run


def peers(text: str) -> list[str]:
    """Return the names of peers after --against."""
    return _names(text, PEERS, "engine")


def cases(text: str) -> list[Case]:
    """Return the cases after --cases, in the order of the report."""
    names = _names(text, tuple(BY_NAME), "case")
    return [case for case in CASES if case.name in names]


def _names(text: str, known: Sequence[str], what: str) -> list[str]:
    """Return the comma-separated names in `text`, each once; an unknown name is an ArgumentTypeError."""
    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    for name in names:
        if name not in known:
            raise argparse.ArgumentTypeError(f"no {what} is called {name!r}; there are {', '.join(known)}")
    if not names:
        raise argparse.ArgumentTypeError(f"name at least one {what}: {', '.join(known)}")
    return names


def positive(text: str) -> int:
    """Return the whole number in `text`, which must be above zero."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above zero")
    return int(text)


def seconds(text: str) -> float:
    """Return the number of seconds in `text`, which must be above zero."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above zero")
    return value


def parser() -> argparse.ArgumentParser:
    """Return the parser with all options."""
    made = argparse.ArgumentParser(
        prog="python -m ipyremote.benchmark",
        description="How fast ipyremote is on this machine, alone or beside other engines.",
    )
    made.add_argument("--against", type=peers, default=[], metavar="A,B", help=f"peers: {','.join(PEERS)}")
    made.add_argument("--cases", type=cases, default=None, metavar="A,B", help="run these only")
    made.add_argument("--list", action="store_true", help="name the cases and exit")
    made.add_argument("--rounds", type=positive, metavar="N", help="turns of every engine (3; quick: 1)")
    made.add_argument("--workers", type=positive, default=2, metavar="N", help="workers of every engine (2)")
    made.add_argument("--limit", type=seconds, metavar="SECONDS", help="time for one case (180; quick: 30)")
    made.add_argument("--quick", action="store_true", help="smaller sizes, one sample of each case")
    made.add_argument("--json", action="store_true", help="print JSON instead of a table")
    made.add_argument("--profile", action="store_true", help="run one case of ipyremote under cProfile")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status: 1 if ipyremote failed at a case, else 0."""
    made = parser()
    asked = made.parse_args(argv)
    if asked.list:
        sizes = QUICK if asked.quick else FULL
        width = max(len(name) for name in BY_NAME)
        print("\n".join(f"{case.name.ljust(width)}  {case.row(sizes).title}, {case.unit}" for case in CASES))
        return 0
    if asked.profile:
        if asked.against or asked.json:
            made.error("--profile runs ipyremote alone and prints text: leave out --against and --json")
        if asked.cases is None or len(asked.cases) != 1 or asked.cases[0].name in ("startup", "memory"):
            made.error("--profile needs --cases with one case, other than startup and memory")
        print(profile(asked.cases[0], SPECS[OURS].load(), asked.workers, asked.quick))
        return 0
    plan = Plan(
        engines=[SPECS[name] for name in (OURS, *asked.against)],
        cases=CASES if asked.cases is None else asked.cases,
        rounds=asked.rounds or (1 if asked.quick else 3),
        workers=asked.workers,
        quick=asked.quick,
        limit=asked.limit or (30.0 if asked.quick else 180.0),
    )
    results = run(plan, lambda text: print(text, file=sys.stderr, flush=True))
    print(to_json(results) if asked.json else table(results))
    return exit_status(results)


def exit_status(results: Results) -> int:
    """Return 1 if a case of ipyremote raised or hung, else 0; failures of peers do not count."""
    bad = (CaseStatus.ERROR, CaseStatus.TIMEOUT)
    return int(any(cell.status in bad for cell in results.columns[0].cells.values()))
