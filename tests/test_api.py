"""Start and end of sessions, and the argument checks of the public functions."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import ipyremote as ray
from ipyremote import api
from ipyremote.backend import current, registry
from ipyremote.backends.inline.backend import CAPABILITIES, InlineBackend
from ipyremote.exceptions import GetTimeoutError, IPyRemoteSystemError


@pytest.fixture(autouse=True)
def no_session() -> Iterator[None]:
    """End the session before and after each test."""
    ray.shutdown()
    yield
    ray.shutdown()


@pytest.fixture
def inline() -> ray.ClusterContext:
    """Start an inline session."""
    return ray.init(backend="inline", num_cpus=2)


# ---- init and shutdown


def test_init_again_with_the_same_arguments_or_none_returns_the_running_session() -> None:
    context = ray.init(backend="inline", num_cpus=2)
    assert ray.init(backend="inline", num_cpus=2) is context
    assert ray.init() is context
    assert ray.init(address="auto") is context


def test_init_again_with_other_arguments_is_refused_unless_errors_are_ignored() -> None:
    context = ray.init(backend="inline", num_cpus=2)
    with pytest.raises(RuntimeError, match=r"init twice by accident.*ignore_reinit_error"):
        ray.init(num_cpus=3)
    assert ray.init(num_cpus=3, ignore_reinit_error=True) is context


def test_init_replaces_a_tentative_session_only_while_it_is_unused() -> None:
    first = api.init_tentatively(backend="inline", num_cpus=2)
    second = ray.init(backend="inline", num_cpus=3)
    assert second is not first
    ray.shutdown()
    third = api.init_tentatively(backend="inline", num_cpus=2)
    ray.put(1)
    with pytest.raises(RuntimeError, match="twice"):
        ray.init(backend="inline", num_cpus=3)
    assert ray.init() is third


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        ({"local_mode": True}, RuntimeError, 'backend="inline"'),
        ({"nonsense": 1}, RuntimeError, r"Unknown keyword argument\(s\): nonsense"),
        ({"_nonsense": 1}, RuntimeError, "Unknown"),
        ({"namespace": 3}, TypeError, "namespace"),
        ({"namespace": ""}, ValueError, "namespace"),
        ({"num_cpus": "2"}, TypeError, "num_cpus"),
        ({"num_cpus": -2}, ValueError, "num_cpus"),
        ({"resources": {"CPU": 2}}, ValueError, "num_cpus"),
        ({"object_store_memory": 0}, ValueError, "object_store_memory"),
        ({"object_store_memory": 1.5}, TypeError, "object_store_memory"),
        ({"backend": "cloud"}, ValueError, "'local', 'inline'"),
        ({"address": "auto"}, ConnectionError, "no running session"),
        ({"address": "/nowhere"}, ConnectionError, "no running session of this user"),
        ({"address": "ray://host:1"}, NotImplementedError, "other machines"),
        ({"address": 5}, TypeError, "address"),
        ({"labels": {"a b": "c"}}, ValueError, "key of a label"),
        ({"labels": ["a"]}, TypeError, "dictionary of labels"),
        ({"runtime_env": {"conda": "x"}}, NotImplementedError, "conda"),
        ({"runtime_env": {"env_vars": {"A": 1}}}, TypeError, "texts"),
        ({"runtime_env": {"working_dir": "/nowhere"}}, ValueError, "does not exist"),
        ({"runtime_env": {"env_vars": {"A": "1"}}, "backend": "inline"}, NotImplementedError, "processes"),
    ],
)
def test_wrong_arguments_of_init_are_refused_and_start_no_session(
    given: Any, error: Any, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Use a runtime directory where no other program has a session.
    monkeypatch.setenv("IPYREMOTE_TEMP_DIR", str(tmp_path))
    with pytest.raises(error, match=text):
        ray.init(**given)
    assert not ray.is_initialized()


def test_runtime_environments_are_refused_by_an_engine_without_processes(inline: ray.ClusterContext) -> None:
    env = {"env_vars": {"A": "1"}}

    @ray.remote(runtime_env=env)
    def task() -> None:
        """Do nothing; the task is never run."""

    class Plain:
        """Class of an actor that is never started."""

    for ask in (task.remote, ray.remote(Plain).options(runtime_env=env).remote):
        with pytest.raises(NotImplementedError, match="backend='inline' runs everything in this one"):
            ask()
    assert ray.get_runtime_context().runtime_env == {}


def test_resource_amounts_are_refused_when_joining_a_session(inline: ray.ClusterContext) -> None:
    with pytest.raises(ValueError, match="num_cpus cannot be chosen"):
        ray.init(address="auto", num_cpus=2)


def test_arguments_of_rays_init_without_effect_are_accepted() -> None:
    ray.init(backend="inline", include_dashboard=False, logging_level=10, _temp_dir="/tmp", namespace="mine")
    assert ray.is_initialized()


def test_the_cluster_context_describes_its_session_and_ends_it(inline: ray.ClusterContext) -> None:
    assert repr(inline) == "ClusterContext(inline)"
    assert "this process" in inline._repr_html_()
    assert inline.address_info["address"] == "inline"
    assert inline.ray_version == ray.__version__
    with pytest.warns(DeprecationWarning, match="address_info"):
        assert inline["address"] == "inline"
    with inline:
        assert ray.is_initialized()
    assert not ray.is_initialized()


def test_the_context_of_an_old_session_does_not_end_a_newer_session(inline: ray.ClusterContext) -> None:
    ray.shutdown()
    ray.init(backend="inline")
    inline.disconnect()
    assert ray.is_initialized()


def test_shutdown_without_a_session_does_nothing() -> None:
    ray.shutdown()
    ray.shutdown(wait_for_processes=True)


def test_a_lost_session_is_replaced_by_the_next_init() -> None:
    first = ray.init(backend="inline")
    backend = current.peek()
    assert isinstance(backend, InlineBackend)
    backend.ended = "lost"
    assert not ray.is_initialized()
    with pytest.raises(IPyRemoteSystemError, match="lost"):
        ray.put(1)
    assert ray.init(backend="inline") is not first
    assert ray.get(ray.put(1)) == 1


def test_the_first_use_of_the_api_starts_a_session(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []

    class Engine:
        """Engine that starts inline sessions and records the arguments."""

        capabilities = CAPABILITIES
        keeper = None

        def start(self, arguments: Any) -> InlineBackend:
            started.append(arguments)
            return InlineBackend()

    monkeypatch.setitem(registry._registered, "local", Engine())
    assert ray.get(ray.put(3)) == 3
    assert started == [{}]
    assert ray.init() is not None
    assert started == [{}]


def test_the_first_use_starts_no_session_if_auto_connect_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IPYREMOTE_ENABLE_AUTO_CONNECT", "0")
    with pytest.raises(IPyRemoteSystemError, match=r"call ipyremote\.init"):
        ray.put(1)


@pytest.mark.parametrize("name", ["cluster_resources", "available_resources", "nodes", "timeline"])
def test_functions_that_only_query_start_no_session(name: str) -> None:
    with pytest.raises((IPyRemoteSystemError, RuntimeError), match="needs a running session"):
        getattr(ray, name)()


@pytest.mark.processes
def test_using_the_session_in_a_forked_child_is_a_clear_error(inline: ray.ClusterContext) -> None:
    ref = ray.put(1)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            for use in (lambda: ray.get(ref), lambda: ray.put(1), ray.init):
                try:
                    use()
                except (IPyRemoteSystemError, RuntimeError) as error:
                    if "forked" not in str(error):
                        break
                else:
                    break
            else:
                code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert ray.get(ref) == 1


# ---- get, put, wait, cancel, kill


@pytest.mark.parametrize("wrong", [3, "ref", None, (), {}])
def test_get_refuses_an_argument_that_is_no_ref(inline: ray.ClusterContext, wrong: Any) -> None:
    with pytest.raises(ValueError, match="takes an ObjectRef or a list"):
        ray.get(wrong)


def test_get_refuses_lists_of_other_values_and_wrong_timeouts(inline: ray.ClusterContext) -> None:
    ref = ray.put(1)
    with pytest.raises(TypeError, match="but the list has int: 3"):
        ray.get([ref, 3])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"get\(list"):
        ray.get((ref,))  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="timeout"):
        ray.get(ref, timeout=-1)
    with pytest.raises(TypeError, match="timeout"):
        ray.get(ref, timeout="1")  # type: ignore[call-overload]
    assert ray.get([]) == []
    assert ray.get([ref, ref]) == [1, 1]
    assert issubclass(GetTimeoutError, TimeoutError)


def test_put_refuses_refs_and_owners(inline: ray.ClusterContext) -> None:
    with pytest.raises(TypeError, match="names a stored value already"):
        ray.put(ray.put(1))
    with pytest.raises(ValueError, match="_owner"):
        ray.put(1, _owner=object())


def test_wait_refuses_wrong_arguments(inline: ray.ClusterContext) -> None:
    a, b = ray.put(1), ray.put(2)
    wrong: list[tuple[Any, dict[str, Any], type[Exception], str]] = [
        (a, {}, TypeError, "single"),
        ((a, b), {}, TypeError, "not tuple"),
        ([a, 3], {}, TypeError, "list has int"),
        ([a, a], {}, ValueError, "twice"),
        ([a, b], {"num_returns": 0}, ValueError, "num_returns"),
        ([a, b], {"num_returns": 3}, ValueError, "num_returns"),
        ([a, b], {"num_returns": 1.0}, TypeError, "num_returns"),
        ([a, b], {"timeout": -1}, ValueError, "timeout"),
    ]
    for refs, options, error, text in wrong:
        with pytest.raises(error, match=text):
            ray.wait(refs, **options)
    assert ray.wait([a, b]) == ([a], [b])


def test_cancel_and_kill_refuse_each_others_arguments(inline: ray.ClusterContext) -> None:
    class A:
        def m(self) -> None: ...

    handle = ray.remote(A).remote()
    with pytest.raises(TypeError, match="handle of an actor"):
        ray.cancel(handle)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"use cancel\(\)"):
        ray.kill(ray.put(1))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"list has .*handle of an actor"):
        ray.get([handle])  # type: ignore[arg-type]


def test_get_gpu_ids_returns_the_gpus_of_the_running_task(inline: ray.ClusterContext) -> None:
    assert ray.get_gpu_ids() == []


# ---- the package


@pytest.mark.processes
def test_importing_the_package_loads_neither_ipython_nor_a_scheduler() -> None:
    program = (
        "import sys, ipyremote\n"
        "bad = [n for n in sys.modules if n.split('.')[0] in ('IPython', 'anywidget', 'ipywidgets', 'zmq')\n"
        "       or n.startswith(('ipyremote.scheduler', 'ipyremote.core', 'ipyremote.notebook'))]\n"
        "sys.exit(' '.join(bad) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_each_public_name_exists() -> None:
    assert sorted(ray.__all__) == ray.__all__
    for name in ray.__all__:
        assert getattr(ray, name) is not None
