"""Calls of actors on a cluster: groups, limits, cancelling, leaving, restarts, options of methods, titles."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import ipyremote as ray
from ipyremote import exceptions
from ipyremote.actor import exit_actor
from ipyremote.backend.current_task import current_actor, is_canceled
from tests.support.waiting import until

pytestmark = pytest.mark.usefixtures("cluster")


def wait_for(path: Path) -> None:
    """Wait in an actor until the test has created the file."""
    until(path.exists, f"{path} exists", 60)


# ---- concurrency groups


@ray.remote(concurrency_groups={"io": 2, "lone": 1})
class Grouped:
    def __init__(self) -> None:
        self.local = threading.local()
        self.barrier = threading.Barrier(2)

    @ray.method(concurrency_group="io")
    def meet(self) -> str:
        self.barrier.wait(30)
        return "met"

    @ray.method(concurrency_group="io")
    def hold(self, gate: Path, entered: Path) -> None:
        entered.touch()
        wait_for(gate)

    def plain(self) -> int:
        return threading.get_ident()

    @ray.method(concurrency_group="lone")
    def count(self) -> int:
        count: int = getattr(self.local, "count", 0) + 1
        self.local.count = count
        return count

    @ray.method(concurrency_group="lone")
    def thread(self) -> int:
        return threading.get_ident()


def test_a_concurrency_group_runs_as_many_calls_at_a_time_as_its_limit() -> None:
    grouped = Grouped.remote()
    assert ray.get([grouped.meet.remote() for _ in range(4)], timeout=30) == ["met"] * 4


def test_a_full_concurrency_group_does_not_delay_other_groups(tmp_path: Path) -> None:
    grouped = Grouped.remote()
    gate = tmp_path / "gate"
    held = [grouped.hold.remote(gate, tmp_path / str(number)) for number in range(2000)]
    assert isinstance(ray.get(grouped.plain.remote(), timeout=30), int)
    assert ray.get(grouped.count.remote(), timeout=30) == 1
    until(lambda: len(list(tmp_path.iterdir())) == 2, "two of the group run")
    assert ray.get(grouped.plain.options(concurrency_group="lone").remote(), timeout=30)
    assert len(list(tmp_path.iterdir())) == 2
    gate.touch()
    ray.get(held, timeout=60)


def test_each_concurrency_group_has_its_own_threads_and_keeps_them() -> None:
    grouped = Grouped.remote()
    assert [ray.get(grouped.count.remote(), timeout=30) for _ in range(5)] == [1, 2, 3, 4, 5]
    lone = {ray.get(grouped.thread.remote(), timeout=30) for _ in range(3)}
    other = {ray.get(grouped.plain.remote(), timeout=30) for _ in range(3)}
    assert (len(lone), len(other)) == (1, 1)
    assert lone != other
    assert ray.get(grouped.plain.options(concurrency_group="lone").remote(), timeout=30) in lone


def test_a_call_that_waits_in_a_full_concurrency_group_is_cancelled_at_once(tmp_path: Path) -> None:
    grouped = Grouped.remote()
    gate = tmp_path / "gate"
    held = [grouped.hold.remote(gate, tmp_path / str(number)) for number in range(3)]
    until(lambda: len(list(tmp_path.iterdir())) == 2, "two of the group run")
    ray.cancel(held[2])
    with pytest.raises(exceptions.TaskCancelledError):
        ray.get(held[2], timeout=30)
    gate.touch()
    ray.get(held[:2], timeout=30)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1", "gate"]


def test_an_unknown_concurrency_group_is_refused_where_the_code_names_it() -> None:
    class Plain:
        @ray.method(concurrency_group="io")
        def m(self) -> None: ...

    with pytest.raises(ValueError, match=r"Plain\.m is in no concurrency group 'io'"):
        ray.remote(Plain)
    with pytest.raises(ValueError, match="there are: 'io', 'lone'"):
        Grouped.remote().plain.options(concurrency_group="oi")
    with pytest.raises(ValueError, match="belongs to the class itself"):
        Grouped.options(concurrency_groups={"io": 1})


def test_each_concurrency_group_of_an_async_actor_has_its_own_event_loop(tmp_path: Path) -> None:
    @ray.remote(concurrency_groups={"io": 2})
    class Later:
        def __init__(self) -> None:
            self.now = self.most = 0

        @ray.method(concurrency_group="io")
        async def limited(self) -> int:
            self.now += 1
            self.most = max(self.most, self.now)
            await asyncio.sleep(0.01)
            self.now -= 1
            return self.most

        @ray.method(concurrency_group="io")
        def block(self, gate: Path) -> None:
            wait_for(gate)

        async def quick(self) -> str:
            await asyncio.sleep(0)
            return "quick"

    later = Later.remote()
    assert max(ray.get([later.limited.remote() for _ in range(10)], timeout=30)) == 2
    blocked = later.block.remote(tmp_path / "gate")
    assert ray.get([later.quick.remote() for _ in range(10)], timeout=30) == ["quick"] * 10
    (tmp_path / "gate").touch()
    ray.get(blocked, timeout=30)


def test_an_async_actor_with_one_call_at_a_time_can_await() -> None:
    @ray.remote(max_concurrency=1)
    class One:
        async def m(self) -> str:
            await asyncio.sleep(0)
            return "done"

    one = One.remote()
    assert ray.get([one.m.remote() for _ in range(3)], timeout=30) == ["done"] * 3


def test_an_actor_with_out_of_order_execution_runs_ready_calls_first(tmp_path: Path) -> None:
    @ray.remote
    def late(gate: Path) -> int:
        wait_for(gate)
        return 1

    class Plain:
        def m(self, x: int) -> int:
            return x

    plain = ray.remote(allow_out_of_order_execution=True)(Plain).remote()
    waits = plain.m.remote(late.remote(tmp_path / "gate"))
    assert ray.get(plain.m.remote(2), timeout=30) == 2
    (tmp_path / "gate").touch()
    assert ray.get(waits, timeout=30) == 1


# ---- max_pending_calls


def test_calls_beyond_max_pending_calls_of_a_handle_are_refused(tmp_path: Path) -> None:
    @ray.remote(max_pending_calls=3)
    class Slow:
        def hold(self, gate: Path) -> int:
            wait_for(gate)
            return 1

        @ray.method(num_returns=0)
        def silent(self, gate: Path) -> None:
            wait_for(gate)

    @ray.remote
    def fill(handles: list[Any], gate: Path) -> str:
        for _ in range(3):
            handles[0].hold.remote(gate)
        with pytest.raises(exceptions.PendingCallsLimitExceeded):
            handles[0].hold.remote(gate)
        return "its own count"

    slow = Slow.remote()
    gate = tmp_path / "gate"
    refs = [slow.hold.remote(gate), slow.hold.remote(gate)]
    assert slow.silent.remote(gate) is None
    with pytest.raises(exceptions.PendingCallsLimitExceeded, match="max_pending_calls=3"):
        slow.hold.remote(gate)
    assert ray.get(fill.remote([slow], gate), timeout=30) == "its own count"
    gate.touch()
    assert ray.get(refs, timeout=30) == [1, 1]
    until(lambda: _is_taken(slow, gate), "the silent call has ended")
    for _ in range(20):
        ray.get([slow.hold.remote(gate) for _ in range(3)], timeout=30)


def _is_taken(handle: Any, gate: Path) -> bool:
    try:
        return bool(ray.get([handle.hold.remote(gate) for _ in range(3)], timeout=30))
    except exceptions.PendingCallsLimitExceeded:
        return False


# ---- cancel


def test_a_running_method_sees_its_cancellation_and_may_still_return_a_value(tmp_path: Path) -> None:
    @ray.remote
    class Patient:
        def run(self, started: Path) -> str:
            started.touch()
            deadline = time.monotonic() + 60
            while not is_canceled() and time.monotonic() < deadline:
                time.sleep(0.005)
            return f"cleaned up: {is_canceled()}"

        def queued(self, log: Path) -> None:
            log.touch()

        def next(self) -> bool:
            return is_canceled()

    for options in ({}, {"max_concurrency": 2}):
        patient = Patient.options(**options).remote()
        started = tmp_path / f"started {len(options)}"
        ref = patient.run.remote(started)
        until(started.exists, "the call runs")
        if not options:
            queued = patient.queued.remote(tmp_path / "never")
            ray.cancel(queued)
            with pytest.raises(exceptions.TaskCancelledError):
                ray.get(queued, timeout=30)
        ray.cancel(ref)
        assert ray.get(ref, timeout=30) == "cleaned up: True"
        assert ray.get(patient.next.remote(), timeout=30) is False
    assert not (tmp_path / "never").exists()


def test_children_of_a_cancelled_method_are_cancelled(tmp_path: Path) -> None:
    @ray.remote
    def child(started: Path) -> None:
        started.touch()
        time.sleep(1000)

    @ray.remote
    class Parent:
        def run(self, started: Path) -> Any:
            return ray.get(child.remote(started))

        async def never(self) -> None: ...

    @ray.remote
    class Plain:
        def run(self, started: Path) -> Any:
            return ray.get(child.remote(started))

    parent = Plain.remote()
    ref = parent.run.remote(tmp_path / "started")
    until((tmp_path / "started").exists, "the child runs")
    ray.cancel(ref)
    with pytest.raises(exceptions.TaskCancelledError):
        ray.get(ref, timeout=30)


def test_is_canceled_and_current_actor_raise_clear_errors_in_the_wrong_place() -> None:
    with pytest.raises(RuntimeError, match="nobody can cancel this program"):
        is_canceled()
    with pytest.raises(RuntimeError, match="does not run in an actor"):
        current_actor()

    @ray.remote
    class Later:
        async def ask(self) -> bool:
            return is_canceled()

    @ray.remote
    def in_task() -> bool:
        return is_canceled()

    with pytest.raises(RuntimeError, match="not for async actors"):
        ray.get(Later.remote().ask.remote(), timeout=30)
    assert ray.get(in_task.remote(), timeout=30) is False


# ---- leaving


@ray.remote(max_restarts=-1)
class Leaving:
    def __init__(self, log: Path) -> None:
        import atexit

        atexit.register(log.touch)
        self.log = log

    def leave(self) -> None:
        exit_actor()

    def m(self) -> str:
        return "here"

    def ran(self, path: Path) -> None:
        path.touch()


@pytest.mark.parametrize("how", ["leave", "__ray_terminate__"])
@pytest.mark.parametrize("concurrency", [1, 2])
def test_an_actor_can_exit_on_purpose(how: str, concurrency: int, tmp_path: Path) -> None:
    log = tmp_path / "atexit"
    leaving = Leaving.options(max_concurrency=concurrency).remote(log)
    assert ray.get(leaving.m.remote(), timeout=30) == "here"
    left = getattr(leaving, how).remote()
    later = leaving.ran.remote(tmp_path / "ran") if concurrency == 1 else leaving.m.remote()
    with pytest.raises(exceptions.ActorDiedError, match="exit_actor"):
        ray.get(left, timeout=30)
    if concurrency == 1:
        with pytest.raises(exceptions.ActorDiedError, match="exit_actor"):
            ray.get(later, timeout=30)
    until(log.exists, "the atexit functions have run")
    with pytest.raises(exceptions.ActorDiedError, match="exit_actor"):
        ray.get(leaving.m.remote(), timeout=30)
    assert not (tmp_path / "ran").exists()


def test_an_async_actor_can_exit_while_other_calls_wait(tmp_path: Path) -> None:
    @ray.remote
    class Later:
        async def forever(self, log: Path) -> None:
            log.touch()
            await asyncio.Event().wait()

        async def leave(self) -> None:
            await asyncio.sleep(0)
            exit_actor()

        async def pid(self) -> int:
            return os.getpid()

    later = Later.remote()
    pid = ray.get(later.pid.remote(), timeout=30)
    waiting = later.forever.remote(tmp_path / "log")
    until((tmp_path / "log").exists, "the call waits")
    for ref in (later.leave.remote(), waiting):
        with pytest.raises(exceptions.ActorDiedError, match="exit_actor"):
            ray.get(ref, timeout=30)
    started = time.monotonic()
    until(lambda: not Path(f"/proc/{pid}").exists(), "the process of the actor has ended")
    assert time.monotonic() - started < 3.0


def test_an_actor_that_exits_in_its_creation_is_dead() -> None:
    @ray.remote
    class Shy:
        def __init__(self) -> None:
            exit_actor()

        def m(self) -> None: ...

    with pytest.raises(exceptions.ActorDiedError, match="exit_actor"):
        ray.get(Shy.remote().m.remote(), timeout=30)


def test_only_an_actor_can_exit_as_an_actor() -> None:
    with pytest.raises(TypeError, match="does not run in one"):
        exit_actor()

    @ray.remote
    def leave() -> None:
        exit_actor()

    with pytest.raises(TypeError, match="this is a task"):
        ray.get(leave.remote(), timeout=30)


# ---- the actor itself


def test_an_actors_handle_of_itself_is_weak() -> None:
    @ray.remote
    class Me:
        def __init__(self) -> None:
            self.me = current_actor()

        def again(self) -> Any:
            return self.me, current_actor()

        async def never(self) -> None: ...

        def pid(self) -> int:
            return os.getpid()

    me = Me.remote()
    kept, now = ray.get(me.again.remote(), timeout=30)
    assert kept == now == me
    pid = ray.get(kept.pid.remote(), timeout=30)
    del me
    until(lambda: not Path(f"/proc/{pid}").exists(), "the actor's own handles do not keep it alive")


def test_output_of_an_actor_with_a_repr_is_labelled_with_the_repr(capsys: pytest.CaptureFixture[str]) -> None:
    class Plain:
        def __init__(self, index: int) -> None:
            self.index = index

        def say(self, text: str) -> None:
            print(text)

    class Titled(Plain):
        def __repr__(self) -> str:
            return f"Titled(index={self.index})"

    class Broken(Plain):
        def __repr__(self) -> str:
            raise ValueError

    for kind in (Plain, Titled, Broken):
        ray.get(ray.remote(kind).remote(3).say.remote(kind.__name__), timeout=30)
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["(Plain.say#1) Plain", "(Titled(index=3)) Titled", "(Broken.say#1) Broken"]


# ---- restarts


def test_a_call_without_retries_during_a_restart_fails_and_says_that_the_actor_may_come_back(
    tmp_path: Path,
) -> None:
    @ray.remote(max_restarts=-1)
    class Slow:
        def __init__(self, gate: Path, log: Path) -> None:
            if log.exists():
                wait_for(gate)
            log.touch()

        def m(self) -> str:
            return "here"

        def pid(self) -> int:
            return os.getpid()

    gate = tmp_path / "gate"
    slow = Slow.remote(gate, tmp_path / "log")
    os.kill(ray.get(slow.pid.remote(), timeout=30), 9)
    backend: Any = slow._backend
    until(lambda: "restarting" in backend.insight.status().actors, "the actor restarts")
    with pytest.raises(exceptions.ActorUnavailableError, match="is restarting"):
        ray.get(slow.m.remote(), timeout=30)
    patient = slow.m.options(max_task_retries=1).remote()
    gate.touch()
    assert ray.get(patient, timeout=30) == "here"
    assert ray.get(slow.m.remote(), timeout=30) == "here"


def test_a_call_in_flight_at_a_crash_is_retried_or_fails_as_unavailable(tmp_path: Path) -> None:
    @ray.remote(max_restarts=1)
    class Fragile:
        def run(self, started: Path) -> str:
            if started.exists():
                return "again"
            started.touch()
            time.sleep(1000)
            return "never"

        def pid(self) -> int:
            return os.getpid()

    for retries in (0, 1):
        fragile = Fragile.options(max_task_retries=retries, max_concurrency=2).remote()
        pid = ray.get(fragile.pid.remote(), timeout=30)
        started = tmp_path / str(retries)
        ref = fragile.run.remote(started)
        until(started.exists, "the call runs")
        os.kill(pid, 9)
        if retries:
            assert ray.get(ref, timeout=30) == "again"
        else:
            with pytest.raises(exceptions.ActorUnavailableError):
                ray.get(ref, timeout=30)


def test_kill_with_restart_ends_an_actor_that_has_no_restarts_left() -> None:
    class Plain:
        def pid(self) -> int:
            return os.getpid()

    plain = ray.remote(max_restarts=1, max_task_retries=-1)(Plain).remote()
    first = ray.get(plain.pid.remote(), timeout=30)
    ray.kill(plain, no_restart=False)
    until(lambda: ray.get(plain.pid.remote(), timeout=30) != first, "the actor has restarted")
    ray.kill(plain, no_restart=False)
    until(lambda: _is_dead(plain), "the actor is finally dead")


def _is_dead(handle: Any) -> bool:
    try:
        ray.get(handle.pid.remote(), timeout=30)
    except exceptions.ActorDiedError:
        return True
    return False


# ---- options of methods


def test_options_of_a_call_override_options_of_the_method_and_of_the_actor(tmp_path: Path) -> None:
    @ray.remote(max_task_retries=2)
    class Flaky:
        def __init__(self) -> None:
            self.calls = 0

        @ray.method(retry_exceptions=True)
        def fail(self, times: int) -> int:
            self.calls += 1
            if self.calls <= times:
                raise ValueError(self.calls)
            return self.calls

        @ray.method(retry_exceptions=[KeyError], max_task_retries=5)
        def picky(self) -> None:
            self.calls += 1
            raise ValueError("picky")

        @ray.method
        def count(self) -> int:
            return self.calls

        @ray.method(num_returns=2, enable_task_events=True)
        def both(self) -> tuple[int, int]:
            return 1, 2

    flaky = Flaky.remote()
    assert ray.get(flaky.fail.remote(2), timeout=30) == 3
    with pytest.raises(ValueError, match="6"):
        ray.get(flaky.fail.remote(9), timeout=30)
    with pytest.raises(ValueError, match="7"):
        ray.get(flaky.fail.options(max_task_retries=0).remote(9), timeout=30)
    with pytest.raises(ValueError, match="8"):
        ray.get(flaky.fail.options(retry_exceptions=False).remote(9), timeout=30)
    with pytest.raises(ValueError, match="picky"):
        ray.get(flaky.picky.remote(), timeout=30)
    assert ray.get(flaky.count.remote(), timeout=30) == 9
    assert ray.get(flaky.both.remote(), timeout=30) == [1, 2]
    assert repr(flaky.count.options(name="mine").remote()) == "ObjectRef(mine#1)"
    with pytest.raises(AssertionError, match="no option 'speed'"):
        ray.method(speed=1)  # type: ignore[call-overload]
