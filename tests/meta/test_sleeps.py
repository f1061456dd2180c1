"""No test waits by sleeping: what must have happened is waited for, with a deadline (`tests/support/waiting.py`).

A sleep in code that runs in a task or an actor is work that takes its time, and no wait of the test. A program in a
string sleeps between two looks at a condition, or until somebody ends the sleep: for a moment, or for ages.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.support.sources import ROOT, modules, relative, syntax

#: Longest pause between two looks at a condition, and shortest sleep that somebody else ends, in seconds.
MOMENT: Final = 0.03
AGES: Final = 30.0
#: Functions that may sleep, and why.
MAY = {
    "tests/support/waiting.py::until": "between two looks at a condition",
    "tests/support/leaks.py::leakless": "between two looks at what is left",
    "tests/binder/test_binder.py::peak_of": "between two looks at the memory of a program",
    "tests/benchmark/fake_engine.py::hang": "runs in a process that is to be killed",
    "tests/chaos/faulty_wire.py::_faulty.faulty": "the fault that is tried: a frame that is late",
    "tests/chaos/faulty_wire.py::install.sending": "the fault that is tried: a frame that is late",
    "tests/chaos/test_environments.py::"
    "test_an_actor_of_a_killed_environment_process_is_restarted_or_dead_with_the_reason": (
        "the age of the environment decides, and age is time"
    ),
    "tests/chaos/test_environments.py::"
    "test_tasks_of_a_killed_environment_process_run_again_and_other_tasks_continue": (
        "the age of the environment decides, and age is time"
    ),
    "tests/cluster/test_surroundings.py::test_interrupts_while_sessions_start_and_end_leave_no_processes": (
        "the moments of the interrupts, twenty different ones"
    ),
    "tests/cluster/test_streams.py::test_async_for_over_a_stream_does_not_block_the_event_loop.main": (
        "time in which something wrong could happen; what is right does not depend on it"
    ),
}


def sleeps(path: Path) -> Iterator[str]:
    """Yield the functions, outside of tasks and actors, in which a file sleeps."""
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
    """Yield the sleeps, in programs inside of strings, that are neither for a moment nor for ages."""
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


def test_tests_wait_for_conditions_and_do_not_sleep() -> None:
    found = {f"{relative(path)}::{where}" for path in modules(ROOT / "tests") for where in sleeps(path)}
    assert [] == sorted(found - MAY.keys()), "use tests.support.waiting.until"
    assert [] == sorted(MAY.keys() - found), "these sleep no more: take them from MAY"


def test_programs_inside_of_strings_wait_for_conditions_and_do_not_sleep() -> None:
    others = (path for path in modules(ROOT / "tests") if path != Path(__file__))
    found = {path: list(sleeps_of_programs(syntax(path))) for path in others}
    assert {} == {relative(path): sleeps for path, sleeps in found.items() if sleeps}


def test_a_sleep_of_a_program_is_found_if_it_is_neither_short_nor_endless() -> None:
    source = "run('time.sleep(0.5); time.sleep(0.01)', f'time.sleep({x}); sleep(1.5); time.sleep(60)')"
    assert list(sleeps_of_programs(ast.parse(source))) == ["sleep(0.5)", "sleep(1.5)"]


def test_a_sleep_is_found_outside_of_tasks_only() -> None:
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
