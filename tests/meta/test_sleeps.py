"""Search for sleeps in tests: tests wait for conditions with a deadline (`tests/support/waiting.py`), never by a sleep.

A sleep in code that runs in a task or an actor is work that takes time, not a wait of the test. The source text of a
program, in a string, may sleep shortly between two checks of a condition, or long until another process ends the sleep.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.support.sources import ROOT, modules, relative, syntax

#: Maximum pause between two checks of a condition in a program's text, in seconds.
MOMENT: Final = 0.03
#: Minimum sleep that another process ends, in a program's text, in seconds.
AGES: Final = 30.0
#: Reason why a function may sleep.
MAY = {
    "tests/support/waiting.py::until": "between two checks of a condition",
    "tests/support/leaks.py::leakless": "between two checks for leaks",
    "tests/binder/test_binder.py::peak_of": "between two measurements of the memory of a program",
    "tests/benchmark/fake_engine.py::hang": "runs in a process that the test kills",
    "tests/chaos/faulty_wire.py::_faulty.faulty": "the injected fault: a late frame",
    "tests/chaos/faulty_wire.py::install.sending": "the injected fault: a late frame",
    "tests/chaos/test_environments.py::"
    "test_an_actor_of_a_killed_environment_process_is_restarted_or_dead_with_the_reason": (
        "the result depends on the age of the environment"
    ),
    "tests/chaos/test_environments.py::"
    "test_tasks_of_a_killed_environment_process_run_again_and_other_tasks_continue": (
        "the result depends on the age of the environment"
    ),
    "tests/cluster/test_surroundings.py::test_interrupts_while_sessions_start_and_end_leave_no_processes": (
        "twenty different moments of the interrupts"
    ),
    "tests/cluster/test_streams.py::test_async_for_over_a_stream_does_not_block_the_event_loop.main": (
        "time in which an error could happen; a correct result does not depend on the time"
    ),
}


def sleeps(path: Path) -> Iterator[str]:
    """Yield the names of functions in a file that sleep, without tasks and actors."""
    yield from _sleeps(syntax(path), "")


def _sleeps(node: ast.AST, where: str) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        match child:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                if not any(_is_remote(decorator) for decorator in child.decorator_list):
                    yield from _sleeps(child, f"{where}.{child.name}".lstrip("."))
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id="asyncio"), attr="sleep"), args=[ast.Constant(value=0)]
            ):
                pass  # lets other coroutines run, and takes no time
            case ast.Call(func=ast.Attribute(value=ast.Name(id="time" | "asyncio"), attr="sleep")):
                yield where
            case _:
                yield from _sleeps(child, where)


def sleeps_of_programs(tree: ast.AST) -> Iterator[str]:
    """Yield the calls of sleep in programs inside of strings that are longer than MOMENT and shorter than AGES."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            for found in re.finditer(r"\bsleep\((\d[\d.]*)\)", node.value):
                if MOMENT < float(found[1]) < AGES:
                    yield found[0]


def _is_remote(decorator: ast.expr) -> bool:
    """Return whether a decorator makes a task or an actor: `@remote`, `@ray.remote(...)`."""
    if isinstance(decorator, ast.Call):
        decorator = decorator.func
    return ast.unparse(decorator).split(".")[-1] == "remote"


def test_no_test_sleeps_instead_of_waiting_for_a_condition() -> None:
    found = {f"{relative(path)}::{where}" for path in modules(ROOT / "tests") for where in sleeps(path)}
    assert [] == sorted(found - MAY.keys()), "use tests.support.waiting.until"
    assert [] == sorted(MAY.keys() - found), "these functions do not sleep any more: remove them from MAY"


def test_no_program_inside_of_a_string_sleeps_instead_of_waiting() -> None:
    others = (path for path in modules(ROOT / "tests") if path != Path(__file__))
    found = {path: list(sleeps_of_programs(syntax(path))) for path in others}
    assert {} == {relative(path): sleeps for path, sleeps in found.items() if sleeps}


def test_the_search_finds_sleeps_of_programs_that_are_neither_short_nor_long() -> None:
    source = "run('time.sleep(0.5); time.sleep(0.01)', f'time.sleep({x}); sleep(1.5); time.sleep(60)')"
    assert list(sleeps_of_programs(ast.parse(source))) == ["sleep(0.5)", "sleep(1.5)"]


def test_the_search_finds_sleeps_only_outside_of_tasks() -> None:
    source = """
def test():
    @ray.remote(num_cpus=1)
    def task():
        time.sleep(1)
    def here():
        while True:
            time.sleep(2)
    async def there():
        await asyncio.sleep(0)
        await asyncio.sleep(0.1)
"""
    assert list(_sleeps(ast.parse(source), "")) == ["test.here", "test.there"]
