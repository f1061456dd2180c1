"""`install_as_ray`: programs with `import ray`, each in its own process, on a real cluster."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from ipyremote.compat.absent import ABSENT
from tests.support.sources import ROOT

pytestmark = pytest.mark.processes


def run(program: str) -> subprocess.CompletedProcess[str]:
    """Run a program after `install_as_ray`."""
    text = "import ipyremote\nipyremote.install_as_ray()\n" + textwrap.dedent(program)
    return subprocess.run(
        [sys.executable, "-c", text], cwd=ROOT, capture_output=True, text=True, timeout=100, check=False
    )


def printed(program: str) -> list[str]:
    """Return the lines that a program prints after `install_as_ray`; the program must succeed."""
    done = run(program)
    assert not done.returncode, done.stderr
    return done.stdout.splitlines()


def test_a_program_for_ray_runs_unchanged() -> None:
    program = """
        import ray
        from ray.exceptions import GetTimeoutError, RayTaskError

        ray.init(num_cpus=1)

        @ray.remote
        def half(x):
            if x % 2:
                raise ValueError(f"{x} is odd")
            return x // 2

        @ray.remote
        class Counter:
            def __init__(self):
                self.value = 0
            def add(self, n):
                self.value += n
                return self.value

        print(ray.get([half.remote(4), half.remote(6)]))
        try:
            ray.get(half.remote(3))
        except RayTaskError as error:
            print(type(error).__name__, isinstance(error, ValueError), error.cause)
        counter = Counter.remote()
        print(ray.get([counter.add.remote(n) for n in (1, 2, 3)]))
        ready, rest = ray.wait([half.remote(2)])
        print(len(ready), len(rest), issubclass(GetTimeoutError, ray.exceptions.RayError))
        ray.shutdown()
    """
    expected = ["[2, 3]", "TaskError(ValueError) True 3 is odd", "[1, 3, 6]", "1 0 True"]
    assert expected == printed(program)


def test_modules_of_ray_are_modules_of_ipyremote_and_keep_their_names() -> None:
    program = """
        import ray
        import ray.exceptions
        import ray.actor
        import ray.remote_function
        import sys
        from ray.exceptions import RayError
        print(ray is ipyremote, ray.exceptions is ipyremote.exceptions, RayError is ipyremote.exceptions.IPyRemoteError)
        print(ray.__name__, ray.__spec__.name, ray.exceptions.__spec__.name)
        print(sys.modules["ray.actor"] is sys.modules["ipyremote.actor"], ray.remote_function.RemoteFunction.__name__)
    """
    expected = [
        "True True True",
        "ipyremote ipyremote ipyremote.exceptions",
        "True RemoteFunction",
    ]
    assert expected == printed(program)


def test_a_task_can_import_ray_even_in_a_session_that_started_earlier() -> None:
    text = """
        import ipyremote
        ipyremote.init(num_cpus=1)

        @ipyremote.remote
        def early():
            return "early"

        @ipyremote.remote
        def where():
            import ray
            from ray.exceptions import RayError
            return ray.__name__, ray.get(early.remote()), RayError.__name__

        print(ipyremote.get(early.remote()))
        ipyremote.install_as_ray()
        print(*ipyremote.get(where.remote()))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(text)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stdout.splitlines()) == (0, ["early", "ipyremote early IPyRemoteError"])


def test_install_as_ray_can_be_called_twice_but_not_after_an_import_of_ray() -> None:
    program = """
        import sys, types
        before = list(sys.meta_path)
        ipyremote.install_as_ray()
        print(before == sys.meta_path)
    """
    assert ["True"] == printed(program)
    text = (
        "import sys, types; sys.modules['ray'] = types.ModuleType('ray')\n"
        "import ipyremote\n"
        "try:\n    ipyremote.install_as_ray()\n"
        "except RuntimeError as error:\n    print(str(error)[:36])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", text], cwd=ROOT, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.stdout == "Ray itself has been imported already\n"


def test_the_error_of_an_absent_feature_says_what_to_use_instead() -> None:
    program = """
        import ray
        def tried(statement):
            try:
                exec(statement, {"ray": ray})
            except NotImplementedError as error:
                print(type(error).__bases__[1].__name__, "|", error)
        tried("ray.data")
        tried("import ray.data")
        tried("from ray import serve")
        tried("from ray.tune import Tuner")
        tried("import ray.util.collective")
        print(hasattr(ray, "data"))
    """
    lines = printed(program)
    assert ["AttributeError", "ImportError", "ImportError", "ImportError", "ImportError"] == [
        line.partition(" | ")[0] for line in lines[:-1]
    ]
    assert lines[0].partition(" | ")[2].startswith("ray.data has no counterpart in ipyremote. Use pandas")
    assert "False" == lines[-1]


def test_a_name_that_ray_does_not_have_is_not_found() -> None:
    done = run("import ray.nonsense")
    assert "ModuleNotFoundError: No module named 'ray.nonsense'" in done.stderr
    done = run("import ray\nray.nonsense")
    assert "AttributeError: module 'ipyremote' has no attribute 'nonsense'" in done.stderr


def test_placement_groups_have_the_names_of_ray() -> None:
    program = """
        import ray
        from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
        import ray.util.placement_group
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        ray.init(num_cpus=2)
        group = ray.util.placement_group([{"CPU": 1}])
        print(isinstance(group, PlacementGroup), ray.util.placement_group is placement_group)
        ray.get(group.ready())

        @ray.remote
        def where():
            import ray
            from ray.util.placement_group import get_current_placement_group
            return get_current_placement_group() == ray.util.get_current_placement_group()

        strategy = PlacementGroupSchedulingStrategy(placement_group=group, placement_group_bundle_index=0)
        print(ray.get(where.options(scheduling_strategy=strategy).remote()))
        print(list(ray.util.placement_group_table()) == [group.id.hex()], ray.util.scheduling_strategies.__name__)
        remove_placement_group(group)
        ray.shutdown()
    """
    expected = ["True True", "True", "True ipyremote.util.scheduling_strategies"]
    assert expected == printed(program)


@pytest.mark.parametrize("name", sorted(ABSENT))
def test_each_absent_name_has_advice(name: str) -> None:
    assert ABSENT[name].strip() == ABSENT[name]
    assert not ABSENT[name].endswith(".")


def test_state_queries_have_the_names_of_ray() -> None:
    program = """
        import ray
        from ray.util.state import list_tasks
        from ray.util.state.common import TaskState
        from ray.util.state.exception import RayStateApiException

        ray.init(num_cpus=1, logging_config=ray.LoggingConfig(encoding="TEXT", log_level="WARNING"))

        @ray.remote
        def f():
            return [task["name"] for task in list_tasks(filters=[("state", "=", "RUNNING")])]

        print(ray.get(f.remote()), isinstance(list_tasks()[0], TaskState))
        try:
            from ray.util.state import get_log
        except ImportError as error:
            print(error)
    """
    advice = (
        "ray.util.state.get_log has no counterpart in ipyremote. "
        "Use %remote_log, which has what a task has printed."
    )
    assert ["['f'] True", advice] == printed(program)
