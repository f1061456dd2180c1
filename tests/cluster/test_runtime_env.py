"""`runtime_env` on real clusters: each environment has its own worker processes with the requested surroundings."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ipyremote as ray
from ipyremote.backend import current
from ipyremote.exceptions import RuntimeEnvSetupError
from ipyremote.runtime_env import RuntimeEnv
from tests.chaos.sessions import scheduler
from tests.support.packages import make_wheel, slow_package
from tests.support.sources import ROOT
from tests.support.waiting import until

SECONDS = 60


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the test its own cache directory and return its path."""
    place = tmp_path / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(place))
    return place


@ray.remote
def variable(name: str) -> str | None:
    return os.environ.get(name)


@ray.remote
def pid() -> int:
    return os.getpid()


def env_vars(**variables: str) -> dict[str, Any]:
    return {"env_vars": variables}


# ---- variables, and whose environment is whose


@pytest.mark.usefixtures("cluster")
def test_env_vars_are_set_before_libraries_are_imported_and_only_in_their_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    @ray.remote(runtime_env=env_vars(OMP_NUM_THREADS="3", PYTHONHASHSEED="7", TZ="Asia/Tokyo"))
    def look() -> Any:
        import time

        return os.environ["OMP_NUM_THREADS"], hash("a fixed text"), time.tzname[0], os.getpid()

    threads, first, zone, one = ray.get(look.remote(), timeout=SECONDS)
    assert (threads, zone) == ("3", "JST")
    # Only a fresh interpreter reads the seed of string hashes.
    other = look.options(runtime_env=env_vars(OMP_NUM_THREADS="3", PYTHONHASHSEED="8", TZ="Asia/Tokyo"))
    assert ray.get(other.remote(), timeout=SECONDS)[1] != first
    again = ray.get([look.remote() for _ in range(5)], timeout=SECONDS)
    assert {found[1] for found in again} == {first}
    assert ray.get(variable.remote("OMP_NUM_THREADS"), timeout=SECONDS) is None
    assert "OMP_NUM_THREADS" not in os.environ
    assert one != ray.get(pid.remote(), timeout=SECONDS)


def test_an_env_var_can_refer_to_its_earlier_value(
    start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EXAMPLE", "a")
    start(num_cpus=1, runtime_env=env_vars(EXAMPLE="${EXAMPLE}:b${NO_SUCH_VARIABLE}"))
    assert ray.get(variable.remote("EXAMPLE"), timeout=SECONDS) == "a:b"


def test_the_runtime_env_of_a_task_is_merged_with_that_of_init_and_of_its_parent(
    start: Callable[..., Any],
) -> None:
    start(num_cpus=2, runtime_env=env_vars(OUTER="init", BOTH="init"))

    @ray.remote
    def look() -> Any:
        return os.environ.get("OUTER"), os.environ.get("BOTH"), os.environ.get("INNER")

    @ray.remote(runtime_env=env_vars(BOTH="task"))
    def nest() -> Any:
        own = ray.get(look.remote())
        more = ray.get(look.options(runtime_env=env_vars(INNER="child")).remote())
        return own, more

    assert ray.get(look.remote(), timeout=SECONDS) == ("init", "init", None)
    own, more = ray.get(nest.remote(), timeout=SECONDS)
    assert own == ("init", "task", None)
    assert more == ("init", "task", "child")


@pytest.mark.usefixtures("cluster")
def test_an_actor_runs_in_its_environment_and_its_tasks_inherit_the_environment() -> None:
    @ray.remote(runtime_env=env_vars(WHERE="actor"), max_restarts=1, max_task_retries=1)
    class Looker:
        def look(self) -> Any:
            return os.environ["WHERE"], ray.get(variable.remote("WHERE"))

        def crash(self) -> None:
            if not ray.get_runtime_context().was_current_actor_reconstructed:
                os._exit(1)

    looker = Looker.remote()
    assert ray.get(looker.look.remote(), timeout=SECONDS) == ("actor", "actor")
    ray.get(looker.crash.remote(), timeout=SECONDS)
    assert ray.get(looker.look.remote(), timeout=SECONDS) == ("actor", "actor")
    other = Looker.options(runtime_env=env_vars(WHERE="other"), name="named").remote()
    assert ray.get(other.look.remote(), timeout=SECONDS) == ("other", "other")


@pytest.mark.usefixtures("cluster")
def test_the_runtime_context_has_the_requested_environment() -> None:
    @ray.remote
    def look() -> Any:
        context = ray.get_runtime_context()
        return context.runtime_env, context.get_runtime_env_string()

    assert ray.get(look.remote(), timeout=SECONDS) == ({}, "{}")
    env, text = ray.get(look.options(runtime_env=env_vars(A="1")).remote(), timeout=SECONDS)
    assert isinstance(env, RuntimeEnv)
    assert env == {"env_vars": {"A": "1"}}
    assert text == '{"env_vars": {"A": "1"}}'
    assert ray.get_runtime_context().runtime_env == {}


@pytest.mark.usefixtures("cluster")
def test_equal_environments_written_differently_share_worker_processes() -> None:
    written = [
        env_vars(A="1", B="2"),
        env_vars(B="2", A="1"),
        RuntimeEnv(env_vars={"A": "1", "B": "2"}),
        {"env_vars": {"A": "1", "B": "2"}, "pip": None, "config": {"eager_install": False}},
    ]
    # The tasks run one after the other, so one process is enough.
    pids = {ray.get(pid.options(runtime_env=env).remote(), timeout=SECONDS) for env in written}
    assert len(pids) == 1


@pytest.mark.usefixtures("cluster")
def test_streams_and_ref_arguments_and_large_values_cross_environments() -> None:
    @ray.remote(runtime_env=env_vars(A="1"))
    def count(limit: int) -> Any:
        for number in range(limit):
            yield os.environ["A"] * number

    @ray.remote(runtime_env=env_vars(A="2"))
    def join(parts: Any, *more: str) -> Any:
        return len(parts), "".join(more) + os.environ["A"]

    assert [ray.get(ref) for ref in count.remote(3)] == ["", "1", "11"]
    large = ray.put(b"x" * 1_000_000)
    assert ray.get(join.remote(large, variable.remote("HOME"), "!"), timeout=SECONDS) == (
        1_000_000,
        f"{os.environ['HOME']}!2",
    )


@pytest.mark.usefixtures("cluster")
def test_a_sweep_over_many_environments_leaves_few_processes() -> None:
    refs = [variable.options(runtime_env=env_vars(SEED=str(number))).remote("SEED") for number in range(14)]
    assert ray.get(refs, timeout=2 * SECONDS) == [str(number) for number in range(14)]
    # One of the processes belongs to the session's own environment.
    until(lambda: len(scheduler().children()) <= 9, "most environments are closed", SECONDS)


@pytest.mark.usefixtures("cluster")
def test_env_vars_can_choose_devices_and_search_paths(tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text("NAME = 'beside'\n")

    @ray.remote(runtime_env=env_vars(CUDA_VISIBLE_DEVICES="7", PYTHONPATH=str(tmp_path)))
    def look() -> Any:
        import beside  # type: ignore[import-not-found]  # on PYTHONPATH

        return os.environ["CUDA_VISIBLE_DEVICES"], beside.NAME

    assert ray.get(look.remote(), timeout=SECONDS) == ("7", "beside")


def test_a_joining_driver_has_its_own_environment(start: Callable[..., Any]) -> None:
    context = start(num_cpus=2)
    program = f"""
import os
import ipyremote as ray
ray.init(address={context.address_info["address"]!r}, runtime_env={{"env_vars": {{"GUEST": "1"}}}})
print(ray.get(ray.remote(lambda: os.environ["GUEST"]).remote(), timeout=60))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=SECONDS)
    assert (done.stdout, done.stderr) == ("1\n", "")
    assert ray.get(variable.remote("GUEST"), timeout=SECONDS) is None


# ---- directories and modules


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a directory with a module, data, and files that must not be copied."""
    root = tmp_path / "project"
    (root / "data" / "raw").mkdir(parents=True)
    (root / "helper.py").write_text("VALUE = 1\n")
    (root / "data" / "small.txt").write_text("small")
    (root / "data" / "raw" / "large.bin").write_text("large")
    (root / "notes.log").write_text("a log")
    (root / ".gitignore").write_text("*.log\n/data/raw/\n")
    return root


@ray.remote
def look_around() -> Any:
    import helper  # type: ignore[import-not-found]  # in the working directory

    files = [path.as_posix() for path in sorted(Path().rglob("*")) if "__pycache__" not in path.parts]
    return helper.VALUE, os.getcwd(), files


@pytest.mark.usefixtures("cluster")
def test_a_working_directory_is_a_copy_without_ignored_files(project: Path) -> None:
    inside = look_around.options(runtime_env={"working_dir": str(project)})
    value, cwd, files = ray.get(inside.remote(), timeout=SECONDS)
    assert value == 1
    assert Path(cwd) != project
    assert files == [".gitignore", "data", "data/small.txt", "helper.py"]
    # The copy keeps the content of its first use.
    (project / "helper.py").write_text("VALUE = 22\n")
    assert ray.get(inside.remote(), timeout=SECONDS)[:2] == (1, cwd)
    excluding = look_around.options(runtime_env={"working_dir": project, "excludes": ["data/*"]})
    value, other, files = ray.get(excluding.remote(), timeout=SECONDS)
    assert (value, files) == (22, [".gitignore", "helper.py"])
    assert other != cwd


def test_the_working_directory_of_init_applies_to_all_tasks_and_resolves_relative_paths(
    start: Callable[..., Any], project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    start(num_cpus=2, runtime_env={"working_dir": "."})
    monkeypatch.chdir("/")

    @ray.remote
    def nest() -> Any:
        # The environment is merged with the parent's, so the task uses the same copy.
        child = look_around.options(runtime_env=env_vars(A="1"))
        return ray.get(child.remote()), os.getcwd()

    (value, cwd, _), own = ray.get(nest.remote(), timeout=SECONDS)
    assert (value, cwd) == (1, own)
    assert ray.get_runtime_context().runtime_env == {"working_dir": str(project)}
    assert os.getcwd() == "/"


def test_modules_beside_the_program_can_be_imported_in_another_working_directory(
    tmp_path: Path, project: Path
) -> None:
    (tmp_path / "beside.py").write_text("def name():\n    return 'beside'\n")
    program = f"""
import sys
sys.path[0] = ""
import beside
import ipyremote as ray
ray.init(num_cpus=1, runtime_env={{"working_dir": {str(project)!r}}}, keep_alive="1m")

def look():
    import helper
    return beside.name(), helper.VALUE

print(ray.get(ray.remote(look).remote(), timeout=60))
ray.shutdown()
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert (done.stdout, done.stderr) == ("('beside', 1)\n", "")


@pytest.mark.usefixtures("cluster")
def test_a_task_can_give_its_children_a_working_directory_that_it_created(tmp_path: Path) -> None:
    @ray.remote
    def make(place: Path) -> Any:
        place.mkdir()
        (place / "helper.py").write_text("VALUE = 5\n")
        return ray.get(look_around.options(runtime_env={"working_dir": place}).remote())

    value, _, files = ray.get(make.remote(tmp_path / "made"), timeout=SECONDS)
    assert (value, files) == (5, ["helper.py"])


@pytest.mark.usefixtures("cluster")
def test_an_archive_can_be_a_working_directory(project: Path, tmp_path: Path) -> None:
    packed = tmp_path / "project.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        archive.write(project / "helper.py", "helper.py")
    value, _, files = ray.get(
        look_around.options(runtime_env={"working_dir": packed}).remote(), timeout=SECONDS
    )
    assert (value, files) == (1, ["helper.py"])


@pytest.mark.usefixtures("cluster")
def test_py_modules_can_be_modules_packages_and_wheels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "apart" / "mypackage"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("from mypackage.inner import NAME\n")
    (package / "inner.py").write_text("NAME = 'package'\n")
    single = tmp_path / "elsewhere" / "single.py"
    single.parent.mkdir()
    single.write_text("NAME = 'single'\n")
    wheel = make_wheel(tmp_path, "wheeled", "1.0")

    @ray.remote
    def names() -> list[str]:
        import mypackage  # type: ignore[import-not-found]  # given by py_modules
        import single  # type: ignore[import-not-found]  # the same
        import wheeled  # type: ignore[import-not-found]  # the same

        return [mypackage.NAME, single.NAME, wheeled.VERSION]

    paths = [str(package), str(single), str(wheel)]
    found = ray.get(names.options(runtime_env={"py_modules": paths}).remote(), timeout=SECONDS)
    assert found == ["package", "single", "1.0"]
    monkeypatch.syspath_prepend(str(package.parent))
    import mypackage

    assert RuntimeEnv(py_modules=[mypackage])["py_modules"] == [str(package)]


# ---- packages


@ray.remote
def installed() -> Any:
    import msgspec  # a package of the parent's environment
    import tiny  # type: ignore[import-not-found]  # installed for the environment

    return tiny.VERSION, sys.prefix, msgspec.__name__


@pytest.mark.usefixtures("cluster")
def test_packages_are_installed_once_and_add_to_the_packages_of_the_driver(
    tmp_path: Path, cache: Path
) -> None:
    old, new = make_wheel(tmp_path, "tiny", "1.0"), make_wheel(tmp_path, "tiny", "2.0")
    first = installed.options(runtime_env={"pip": ["--no-index", str(old)]})
    version, prefix, _ = ray.get(first.remote(), timeout=SECONDS)
    assert version == "1.0"
    assert Path(prefix).is_relative_to(cache)
    made = (Path(prefix) / "complete").stat().st_ctime_ns
    # The same package list, written in another way, uses the same installation.
    requirements = tmp_path / "requirements.txt"
    requirements.write_text(f"# what is needed\n--no-index\n{old}\n")
    second = installed.options(runtime_env={"pip": str(requirements)})
    assert ray.get(second.remote(), timeout=SECONDS)[:2] == ("1.0", prefix)
    assert (Path(prefix) / "pyvenv.cfg").stat().st_ctime_ns < made
    third = installed.options(
        runtime_env={
            "pip": {
                "packages": ["tiny==2.0"],
                "pip_install_options": ["--no-index", f"--find-links={tmp_path}"],
            }
        }
    )
    version, other, _ = ray.get(third.remote(), timeout=SECONDS)
    assert version == "2.0"
    assert other != prefix
    assert new.exists()
    with pytest.raises(ModuleNotFoundError):
        ray.get(installed.remote(), timeout=SECONDS)


@pytest.mark.usefixtures("cluster")
def test_a_failed_set_up_says_why_and_the_next_environment_works(tmp_path: Path) -> None:
    bad = {"pip": ["--no-index", "no-such-package-anywhere"]}
    ref = variable.options(runtime_env=bad).remote("HOME")
    with pytest.raises(RuntimeEnvSetupError, match="no-such-package-anywhere") as caught:
        ray.get(ref, timeout=SECONDS)
    text = str(caught.value)
    assert "pip ended with exit code 1" in text
    assert "variable#1 cannot run: its environment (pip: --no-index, no-such-package-anywhere)" in text
    # The second task fails at once with the remembered error.
    with pytest.raises(RuntimeEnvSetupError):
        ray.get(variable.options(runtime_env=bad).remote("HOME"), timeout=5)
    good = variable.options(runtime_env=env_vars(A="1"))
    assert ray.get(good.remote("A"), timeout=SECONDS) == "1"

    @ray.remote(runtime_env=bad)
    class Actor:
        def method(self) -> None:
            """Do nothing; the method is never called."""

    with pytest.raises(RuntimeEnvSetupError):
        ray.get(Actor.remote().method.remote(), timeout=SECONDS)


@pytest.mark.usefixtures("cluster")
def test_a_task_says_that_it_waits_for_a_set_up_and_a_set_up_has_a_timeout(tmp_path: Path) -> None:
    slow = slow_package(tmp_path, seconds=30)
    env = {
        "pip": {
            "packages": [str(slow)],
            "pip_install_options": ["--no-index", "--no-build-isolation", "--no-deps"],
        },
        "config": {"setup_timeout_seconds": 5},
    }
    ref = variable.options(runtime_env=env).remote("HOME")
    backend: Any = current.backend()
    until(
        lambda: "waits for its environment (pip: " in backend.explain(ref._id), "the task says that it waits"
    )
    # Tasks without the environment are not delayed.
    assert ray.get(variable.remote("HOME"), timeout=5) == os.environ["HOME"]
    with pytest.raises(RuntimeEnvSetupError, match="took too long"):
        ray.get(ref, timeout=SECONDS)


def test_a_running_installation_ends_with_its_session(
    start: Callable[..., Any], tmp_path: Path, cache: Path
) -> None:
    slow = slow_package(tmp_path, seconds=60)
    options = ["--no-index", "--no-build-isolation", "--no-deps"]
    start(num_cpus=1, runtime_env={"pip": {"packages": [str(slow)], "pip_install_options": options}})
    # The installation began at once, although no task was submitted.
    building = tmp_path / "building"
    until(lambda: building.exists() and building.read_text() != "", "it is being built", SECONDS)
    builder = int(building.read_text())
    ray.shutdown()
    until(lambda: not Path(f"/proc/{builder}").exists(), "the build process is gone")
    until(
        lambda: [] == list((cache / "ipyremote").glob("environments/*/complete")), "it is not taken as whole"
    )


# ---- hooks


@pytest.mark.usefixtures("cluster")
def test_a_setup_hook_is_called_first_in_each_worker_process(capfd: pytest.CaptureFixture[str]) -> None:
    def hook() -> None:
        print("the hook was here")
        os.environ["HOOKED"] = str(os.getpid())

    @ray.remote(runtime_env={"worker_process_setup_hook": hook})
    def look() -> Any:
        return os.environ["HOOKED"], str(os.getpid()), ray.get_runtime_context().runtime_env

    hooked, own, env = ray.get(look.remote(), timeout=SECONDS)
    assert hooked == own
    assert env["worker_process_setup_hook"].endswith("hook")
    until(lambda: "the hook was here" in capfd.readouterr().out, "the hook's text is shown")

    named = look.options(runtime_env={"worker_process_setup_hook": "os.getcwd"})
    with pytest.raises(KeyError):
        ray.get(named.remote(), timeout=SECONDS)


@pytest.mark.usefixtures("cluster")
def test_a_setup_hook_that_raises_fails_the_waiting_tasks() -> None:
    def hook() -> None:
        raise ValueError("nothing is set up")

    failing = variable.options(runtime_env={"worker_process_setup_hook": hook})
    with pytest.raises(RuntimeEnvSetupError, match="ValueError: nothing is set up"):
        ray.get(failing.remote("HOME"), timeout=SECONDS)

    def early() -> None:
        ray.get(variable.remote("HOME"))

    asking = variable.options(runtime_env={"worker_process_setup_hook": early})
    with pytest.raises(RuntimeEnvSetupError, match="Do it in a task"):
        ray.get(asking.remote("HOME"), timeout=SECONDS)


# ---- limits of what is copied


@pytest.mark.usefixtures("cluster")
def test_a_working_directory_that_is_too_large_is_refused_at_submission(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ipyremote.client.snapshots.LIMIT_BYTES", 10)
    with pytest.raises(ValueError, match="Leave files out by runtime_env"):
        look_around.options(runtime_env={"working_dir": project}).remote()


def test_init_fails_and_leaves_no_session_if_its_environment_fails(
    project: Path, monkeypatch: pytest.MonkeyPatch, leakless: Any
) -> None:
    monkeypatch.setattr("ipyremote.client.snapshots.LIMIT_BYTES", 10)
    with pytest.raises(ValueError, match="Leave files out"):
        ray.init(num_cpus=1, runtime_env={"working_dir": project})
    assert not ray.is_initialized()


def test_init_again_with_the_same_environment_returns_the_same_session(start: Callable[..., Any]) -> None:
    first = start(num_cpus=1, runtime_env=env_vars(A="1"))
    assert ray.init(num_cpus=1, runtime_env=env_vars(A="1")) is first
    with pytest.raises(RuntimeError, match="twice"):
        ray.init(num_cpus=1, runtime_env=env_vars(A="2"))
