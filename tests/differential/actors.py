"""Actors: creation, order, names, concurrency, ends and restarts."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from typing import Any

import ipyremote as ray
from tests.differential.behaviours import Program, comes_true, raised

program = Program()


class Plain:
    def __init__(self, start: int = 0) -> None:
        self.count = start

    def add(self, number: int = 1) -> int:
        self.count += number
        return self.count

    def fail(self) -> None:
        raise ValueError("no")

    def die(self) -> None:
        os._exit(1)

    def pid(self) -> int:
        return os.getpid()

    def leave(self) -> None:
        ray.actor.exit_actor()

    @staticmethod
    def static() -> str:
        return "static"

    @classmethod
    def named(cls) -> str:
        return cls.__name__

    def __call__(self, value: Any) -> Any:
        return value


Counter = ray.remote(Plain)


@program
def calls_keep_state_and_order() -> Any:
    counter = Counter.remote(10)
    return ray.get([counter.add.remote(number) for number in range(5)])


@program
def classes_and_methods_are_not_called_directly() -> Any:
    counter = Counter.remote()
    return raised(Counter), raised(counter.add), raised(getattr, counter, "unknown")


@program
def arguments_are_checked_at_the_call() -> Any:
    counter = Counter.remote()
    return raised(Counter.remote, 1, 2), raised(counter.add.remote, 1, 2), raised(counter.add.remote, other=1)


@program
def an_actor_class_is_no_base_class() -> Any:
    def derive() -> None:
        class Derived(Counter):  # type: ignore[misc, valid-type]
            pass

    return raised(derive)


@program
def handles_say_what_they_are() -> Any:
    counter = Counter.remote()
    return repr(counter).startswith("Actor(Plain"), {"add", "pid"} <= set(dir(counter)), type(counter)


@program
def all_kinds_of_methods_work() -> Any:
    counter = Counter.remote()
    return ray.get([counter.static.remote(), counter.named.remote(), counter.__call__.remote(5)])


@program
def a_method_that_raises_leaves_the_actor_alive() -> Any:
    counter = Counter.remote()
    return raised(ray.get, counter.fail.remote()), ray.get(counter.add.remote())


@program
def an_actor_whose_init_raises_is_dead() -> Any:
    @ray.remote
    class Broken:
        def __init__(self) -> None:
            raise KeyError("in init")

        def method(self) -> None: ...

    broken = Broken.remote()
    try:
        ray.get(broken.method.remote(), timeout=60)
    except ray.exceptions.RayActorError as error:
        return error, error.actor_init_failed, "in init" in str(error)
    return "nothing"


@program
def a_killed_actor_is_dead() -> Any:
    counter = Counter.remote()
    ray.get(counter.add.remote())
    ray.kill(counter)
    # In Ray, a call that follows at once may still run before the kill.
    ended = comes_true(lambda: raised(ray.get, counter.add.remote(), timeout=60) != "nothing")
    return ended, raised(ray.get, counter.add.remote(), timeout=60), raised(ray.kill, "counter")


@program
def an_actor_that_crashes_is_dead() -> Any:
    counter = Counter.remote()
    ray.get(counter.add.remote())
    return raised(ray.get, counter.die.remote(), timeout=60), raised(
        ray.get, counter.add.remote(), timeout=60
    )


@program
def an_actor_leaves_on_purpose() -> Any:
    counter = Counter.options(max_restarts=3).remote()
    told = raised(ray.get, counter.leave.remote(), timeout=60)
    return told, raised(ray.get, counter.add.remote(), timeout=60), raised(ray.actor.exit_actor)


@program
def an_actor_restarts_with_a_new_state() -> Any:
    counter = Counter.options(max_restarts=1, max_task_retries=-1).remote()
    first = ray.get([counter.add.remote(), counter.add.remote()])
    pid = ray.get(counter.pid.remote())
    os.kill(pid, 9)
    return first, ray.get(counter.add.remote(), timeout=60), ray.get(counter.pid.remote()) != pid


@program
def the_order_of_calls_holds_while_arguments_are_awaited() -> Any:
    @ray.remote
    def slow() -> int:
        time.sleep(0.3)
        return 100

    counter = Counter.remote()
    return ray.get([counter.add.remote(slow.remote()), counter.add.remote(1)])


@program
def a_handle_can_be_given_to_tasks() -> Any:
    @ray.remote
    def use(counter: Any) -> int:
        sum_of_both: int = ray.get(counter.add.remote(5))
        return sum_of_both

    counter = Counter.remote()
    return ray.get(use.remote(counter)), ray.get(counter.add.remote())


@program
def a_call_right_after_the_creation_works() -> Any:
    return ray.get(Counter.remote().add.remote(3), timeout=60)


@program
def named_actors_are_found() -> Any:
    counter = Counter.options(name="known").remote()
    ray.get(counter.add.remote())
    found = ray.get_actor("known")
    return found == counter, ray.get(found.add.remote()), "known" in ray.util.list_named_actors()


@program
def names_are_checked() -> Any:
    holder = Counter.options(name="taken").remote()
    ray.get(holder.add.remote())
    return [
        raised(ray.get_actor, "nobody"),
        raised(ray.get_actor, ""),
        raised(Counter.options(name="taken").remote),
        raised(lambda: Counter.options(name="").remote()),
        raised(lambda: Counter.options(name=3).remote()),  # type: ignore[arg-type]
        raised(lambda: Counter.options(get_if_exists=True).remote()),
    ]


@program
def get_if_exists_gives_the_one_there_is() -> Any:
    first = Counter.options(name="single", get_if_exists=True).remote()
    ray.get(first.add.remote())
    second = Counter.options(name="single", get_if_exists=True).remote()
    return first == second, ray.get(second.add.remote())


@program
def a_name_is_free_again_after_the_end() -> Any:
    first = Counter.options(name="again").remote()
    ray.get(first.add.remote())
    ray.kill(first)
    comes_true(lambda: raised(ray.get_actor, "again") != "nothing")
    return ray.get(Counter.options(name="again").remote().add.remote())


@program
def an_actor_ends_with_its_last_handle() -> Any:
    counter = Counter.options(name="gone").remote()
    ray.get(counter.add.remote())
    del counter
    return comes_true(lambda: raised(ray.get_actor, "gone") != "nothing")


@program
def coroutines_run_at_a_time() -> Any:
    @ray.remote
    class Meeting:
        def __init__(self) -> None:
            self.event = asyncio.Event()

        async def wait(self) -> str:
            await self.event.wait()
            return "met"

        async def come(self) -> None:
            self.event.set()

    meeting = Meeting.remote()
    waiting = meeting.wait.remote()
    return ray.get([meeting.come.remote(), waiting], timeout=60)


@program
def threads_run_at_a_time() -> Any:
    @ray.remote(max_concurrency=2)
    class Meeting:
        def __init__(self) -> None:
            self.barrier = threading.Barrier(2)

        def meet(self) -> int:
            return self.barrier.wait(30) >= 0

    meeting = Meeting.remote()
    return ray.get([meeting.meet.remote(), meeting.meet.remote()], timeout=60)


@program
def groups_of_methods_do_not_hold_up_each_other() -> Any:
    @ray.remote(concurrency_groups={"io": 1})
    class Worker:
        def __init__(self) -> None:
            self.event = threading.Event()

        @ray.method(concurrency_group="io")
        def release(self) -> None:
            self.event.set()

        def wait(self) -> bool:
            return self.event.wait(30)

    worker = Worker.remote()
    waiting = worker.wait.remote()
    return ray.get([worker.release.remote(), waiting], timeout=60)


@program
def methods_have_options() -> Any:
    @ray.remote
    class Two:
        @ray.method(num_returns=2)
        def pair(self) -> Any:
            return 1, 2

    two = Two.remote()
    return ray.get(two.pair.remote()), ray.get(two.pair.options(num_returns=1).remote())


@program
def a_method_can_stream() -> Any:
    @ray.remote
    class Source:
        def items(self) -> Any:
            yield 0
            yield 1

    source = Source.remote()
    return [ray.get(ref) for ref in source.items.options(num_returns="streaming").remote()]


@program
def too_many_pending_calls_are_refused() -> Any:
    @ray.remote(max_pending_calls=1)
    class Slow:
        def sleep(self) -> None:
            time.sleep(1000)

    slow = Slow.remote()
    first = slow.sleep.remote()
    told = raised(slow.sleep.remote)
    ray.kill(slow)
    return told, raised(ray.get, first, timeout=60) != "nothing"


@program
def an_idle_actor_needs_no_cpu() -> Any:
    counters = [Counter.remote() for _ in range(4)]
    return ray.get([counter.add.remote() for counter in counters], timeout=60)


@program
def any_function_can_be_called_in_an_actor() -> Any:
    counter = Counter.remote(7)
    return ray.get(counter.__ray_call__.remote(lambda self, more: self.count + more, 3)), ray.get(
        counter.__ray_ready__.remote()
    )


@program
def a_call_of_an_actor_is_not_cancelled_by_force() -> Any:
    @ray.remote
    class Slow:
        def sleep(self) -> None:
            time.sleep(1000)

    slow = Slow.remote()
    told = raised(ray.cancel, slow.sleep.remote(), force=True)
    ray.kill(slow)
    return told


@program
def an_actor_knows_itself() -> Any:
    @ray.remote
    class Knows:
        def ids(self) -> Any:
            context = ray.get_runtime_context()
            return len(context.get_actor_id() or "") > 0, context.current_actor

    knows = Knows.remote()
    has_id, handle = ray.get(knows.ids.remote())
    return has_id, handle == knows


if __name__ == "__main__":
    ray.init(num_cpus=2, log_to_driver=False)
    program.report()
    ray.shutdown()
