"""Behaviours of the session and the utilities."""

from __future__ import annotations

import importlib
from typing import Any

import ipyremote as ray
from tests.differential.behaviours import Program, caught, comes_true, raised

program = Program()


def util(name: str) -> Any:
    """Return a module below the engine's `util`."""
    return importlib.import_module(f"{ray.__name__}.util.{name}")


@ray.remote
def square(number: int) -> int:
    return number * number


@ray.remote
class Squarer:
    def square(self, number: int) -> int:
        return number * number


@program
def before_the_start_nothing_is_there() -> Any:
    ray.shutdown()
    return ray.is_initialized(), raised(ray.cluster_resources), raised(ray.nodes), raised(ray.timeline)


@program
def init_says_what_it_cannot_do() -> Any:
    return raised(ray.init, colour="red")


@program
def init_gives_a_context() -> Any:
    context = ray.init(num_cpus=2, resources={"widget": 1}, log_to_driver=False, namespace="mine")
    return (
        ray.is_initialized(),
        bool(context["address"]),
        bool(context.address_info),
        context.python_version.count("."),
    )


@program
def a_second_start_with_other_arguments_is_refused() -> Any:
    return raised(ray.init, num_cpus=3), raised(ray.init, num_cpus=3, ignore_reinit_error=True)


@program
def resources_are_told() -> Any:
    comes_true(lambda: "widget" in ray.cluster_resources())
    total = ray.cluster_resources()
    return total["CPU"], total["widget"], {"memory", "object_store_memory"} <= set(total)


@program
def what_is_used_up_is_absent() -> Any:
    @ray.remote(num_cpus=0, resources={"widget": 1})
    def look() -> Any:
        # In Ray, the change becomes known after a delay.
        return comes_true(lambda: "widget" not in ray.available_resources())

    return ray.get(look.remote(), timeout=60)


@program
def nodes_are_told() -> Any:
    (node,) = ray.nodes()
    keys = {"NodeID", "Alive", "NodeManagerAddress", "NodeManagerHostname", "Resources", "Labels"}
    return keys <= set(node), node["Alive"], node["Resources"]["CPU"]


@program
def a_driver_has_ids_and_is_no_task() -> Any:
    context = ray.get_runtime_context()
    return (
        len(context.get_job_id()),
        context.get_task_id(),
        context.get_actor_id(),
        context.namespace,
        ray.get_gpu_ids(),
        raised(context.is_canceled),
    )


@program
def a_task_has_ids_and_resources() -> Any:
    @ray.remote(num_cpus=1, resources={"widget": 0.5})
    def ask() -> Any:
        context = ray.get_runtime_context()
        return len(context.get_task_id() or ""), context.get_task_name(), context.get_assigned_resources()

    return ray.get(ask.options(name="asks").remote(), timeout=60)


@program
def a_pool_of_actors_maps() -> Any:
    pool = ray.util.ActorPool([Squarer.remote() for _ in range(2)])
    ordered = list(pool.map(lambda actor, number: actor.square.remote(number), [1, 2, 3]))
    unordered = sorted(pool.map_unordered(lambda actor, number: actor.square.remote(number), [1, 2, 3]))
    return ordered, unordered, pool.has_next(), pool.has_free(), raised(pool.get_next)


@program
def a_pool_of_actors_hands_out_and_takes_back() -> Any:
    pool = ray.util.ActorPool([Squarer.remote()])
    pool.submit(lambda actor, number: actor.square.remote(number), 3)
    pool.submit(lambda actor, number: actor.square.remote(number), 4)
    results = [pool.get_next(), pool.get_next_unordered()]
    idle = pool.pop_idle()
    return results, type(idle), pool.pop_idle(), raised(pool.push, idle)


@program
def a_queue_is_full_and_empty() -> Any:
    queues = util("queue")
    queue = queues.Queue(maxsize=1)
    queue.put(1)
    full = raised(queue.put_nowait, 2), caught(queues.Full, queue.put, 2, timeout=0.1)
    told = [*full, queue.full(), queue.qsize(), queue.get()]
    empty = raised(queue.get_nowait), caught(queues.Empty, queue.get, timeout=0.1)
    return [*told, *empty, queue.empty(), raised(queue.get, True, -1)]


@program
def a_queue_is_shared() -> Any:
    @ray.remote
    def produce(queue: Any) -> None:
        for item in range(3):
            queue.put(item)

    queue = util("queue").Queue()
    ray.get(produce.remote(queue), timeout=60)
    return [queue.get() for _ in range(3)]


@program
def a_pool_of_processes_maps() -> Any:
    pool = util("multiprocessing").Pool(2)
    results = [
        pool.map(abs, [-1, -2, 3]),
        pool.starmap(pow, [(2, 3), (3, 2)]),
        pool.apply(max, (1, 2)),
        pool.apply_async(min, (1, 2)).get(timeout=60),
        list(pool.imap(abs, [-1, 2], chunksize=1)),
        sorted(pool.imap_unordered(abs, [-1, 2])),
    ]
    pool.close()
    pool.join()
    return results, raised(pool.map, abs, [1])


@program
def a_pool_of_processes_raises_what_was_raised() -> Any:
    with util("multiprocessing").Pool(1) as pool:
        return raised(pool.map, int, ["x"])


@program
def what_cannot_be_pickled_is_found() -> Any:
    import contextlib
    import io
    import threading

    lock = threading.Lock()

    def locked() -> None:
        lock.acquire()

    with contextlib.redirect_stdout(io.StringIO()):
        good, nothing = ray.util.inspect_serializability(1, name="one")
        bad, found = ray.util.inspect_serializability(locked, name="locked")
    return good, len(nothing), bad, len(found)


@program
def serializers_can_be_registered() -> Any:
    import threading

    class Locked:
        def __init__(self, value: int) -> None:
            self.value = value
            self.lock = threading.Lock()

    ray.util.register_serializer(Locked, serializer=lambda x: x.value, deserializer=Locked)
    value = ray.get(ray.put(Locked(3))).value
    ray.util.deregister_serializer(Locked)
    return value, raised(ray.put, Locked(3))


@program
def functions_outlive_a_session() -> Any:
    first = ray.get(square.remote(2))
    old = ray.put(1)
    ray.shutdown()
    ray.shutdown()
    ray.init(num_cpus=1, log_to_driver=False)
    again = ray.get([square.remote(3), Squarer.remote().square.remote(4)])
    return first, again, raised(ray.get, old, timeout=5) != "nothing"


@program
def odd_namespaces_are_refused() -> Any:
    told = []
    for odd in ("", 3):
        ray.shutdown()
        told.append(raised(ray.init, namespace=odd, num_cpus=1, log_to_driver=False))
    # At this point, Ray has already started a session.
    ray.shutdown()
    return told


if __name__ == "__main__":
    program.report()
    ray.shutdown()
