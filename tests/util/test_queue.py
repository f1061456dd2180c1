"""`Queue`, as in Ray: shared by tasks, bounded, with timeouts, batches and coroutines."""

from __future__ import annotations

import asyncio
import queue
import signal
import threading
import time
from typing import Any

import pytest

import ipyremote as ray
from ipyremote.exceptions import ActorDiedError
from ipyremote.util.queue import Empty, Full, Queue
from tests.support.waiting import until

pytestmark = pytest.mark.usefixtures("cluster")


def test_items_of_a_queue_come_in_order() -> None:
    shared = Queue()
    for item in range(10):
        shared.put(item)
    assert len(shared) == shared.size() == shared.qsize() == 10
    assert [shared.get() for _ in range(10)] == list(range(10))
    assert shared.empty()
    assert not shared.full()
    assert bool(shared)


def test_put_and_get_without_block_do_not_wait() -> None:
    shared = Queue(maxsize=1)
    with pytest.raises(Empty):
        shared.get_nowait()
    with pytest.raises(queue.Empty):
        shared.get(block=False)
    shared.put_nowait("first")
    assert shared.full()
    with pytest.raises(Full):
        shared.put_nowait("second")
    with pytest.raises(queue.Full):
        shared.put("second", block=False)
    assert shared.get() == "first"


def test_put_and_get_end_at_their_timeout() -> None:
    shared = Queue(maxsize=1)
    with pytest.raises(Empty):
        shared.get(timeout=0.05)
    shared.put(1, timeout=0)
    with pytest.raises(Full):
        shared.put(2, timeout=0.05)
    assert shared.get(timeout=0) == 1
    for timeout in (-1, -0.5):
        with pytest.raises(ValueError, match="non-negative"):
            shared.put(1, timeout=timeout)
        with pytest.raises(ValueError, match="non-negative"):
            shared.get(timeout=timeout)


def test_batches_are_put_and_taken_whole_or_not_at_all() -> None:
    shared = Queue(maxsize=4)
    shared.put_nowait_batch(iter([1, 2, 3]))
    with pytest.raises(Full, match=r"Cannot add 2 items to queue of size 3 and maxsize 4\."):
        shared.put_nowait_batch([4, 5])
    with pytest.raises(Empty, match=r"Cannot get 4 items from queue of size 3\."):
        shared.get_nowait_batch(4)
    assert shared.get_nowait_batch(3) == [1, 2, 3]
    assert shared.get_nowait_batch(0) == []
    with pytest.raises(TypeError):
        shared.put_nowait_batch(1)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        shared.get_nowait_batch("1")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="nonnegative"):
        shared.get_nowait_batch(-1)


def test_tasks_can_share_a_queue() -> None:
    @ray.remote
    def produce(shared: Queue, count: int) -> None:
        for i in range(count):
            shared.put(i)

    @ray.remote
    def consume(shared: Queue, count: int) -> list[int]:
        return [shared.get(timeout=30) for _ in range(count)]

    shared = Queue(maxsize=3)
    consumed = consume.remote(shared, 20)
    ray.get(produce.remote(shared, 20), timeout=60)
    assert ray.get(consumed, timeout=60) == list(range(20))
    again = ray.get(ray.put(shared))
    again.put("for the other")
    assert shared.get() == "for the other"


def test_coroutines_can_use_a_queue() -> None:
    shared = Queue(maxsize=1)

    async def both() -> list[Any]:
        async def produce() -> None:
            for i in range(5):
                await shared.put_async(i)

        async def consume() -> list[Any]:
            return [await shared.get_async() for _ in range(5)]

        items: list[Any]
        _, items = await asyncio.gather(produce(), consume())
        with pytest.raises(Empty):
            await shared.get_async(timeout=0.01)
        with pytest.raises(Empty):
            await shared.get_async(block=False)
        await shared.put_async("full")
        with pytest.raises(Full):
            await shared.put_async("too much", timeout=0.01)
        return items

    assert asyncio.run(both()) == list(range(5))


def test_a_put_succeeds_while_many_gets_wait() -> None:
    shared = Queue()
    assert shared.actor is not None
    waiting = [shared.actor.get.remote(True, None) for _ in range(1100)]
    shared.put_nowait_batch(range(1100))
    assert sorted(item for (item,) in ray.get(waiting, timeout=60)) == list(range(1100))


def test_an_interrupted_get_takes_no_item_from_the_queue() -> None:
    shared = Queue()
    main = threading.get_ident()
    timer = threading.Timer(0.3, lambda: signal.pthread_kill(main, signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        shared.get(timeout=30)
    timer.join()
    shared.put("kept")
    assert shared.get(timeout=10) == "kept"


def test_a_cancelled_coroutine_takes_no_item_from_the_queue() -> None:
    shared = Queue()

    async def cancelled() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(shared.get_async(), 0.1)

    asyncio.run(cancelled())
    shared.put("kept")
    assert shared.get(timeout=10) == "kept"


@pytest.mark.parametrize("force", [False, True])
def test_a_queue_after_its_shutdown_raises_a_clear_error(force: bool) -> None:
    shared = Queue(actor_options={"num_cpus": 1})
    other = ray.get(ray.put(shared))
    shared.put(1)
    shared.shutdown(force=force)
    shared.shutdown(force=force)
    with pytest.raises(ActorDiedError, match="shut down"):
        shared.put(1)
    with pytest.raises(ActorDiedError):
        other.get(timeout=5)
    until(lambda: ray.available_resources().get("CPU") == 2.0, "the CPU of the queue's actor is free")


def test_wrong_queue_sizes_are_refused() -> None:
    with pytest.raises(TypeError, match="maxsize"):
        Queue("3")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no_such_option"):
        Queue(actor_options={"no_such_option": 1})


def test_a_put_waits_for_room_in_the_queue() -> None:
    shared = Queue(maxsize=1)
    shared.put(1)
    took: list[Any] = []
    began = time.monotonic()
    timer = threading.Timer(0.2, lambda: took.append(shared.get()))
    timer.start()
    shared.put(2, timeout=20)
    assert time.monotonic() - began >= 0.2
    timer.join()
    assert [*took, shared.get()] == [1, 2]
