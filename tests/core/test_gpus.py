"""GPUs: whole devices, shared devices, and the devices of actors."""

from __future__ import annotations

from ipyremote import messages as m
from ipyremote.core import StartWorker
from tests.core.transcript import (
    CPU,
    W2,
    W3,
    W4,
    W5,
    Transcript,
    create,
    define,
    done,
    exited,
    ident,
    ready,
    run,
    started,
    submit,
    task,
)


def gpu(number: int, amount: float) -> m.TaskSpec:
    return task(number, resources={"GPU": amount})


def test_whole_devices_are_given_to_one_task_each() -> None:
    t = Transcript(cpus=3, gpus=2)
    t >> submit(gpu(1, 1)) << define(W4) << run(W4, gpu(1, 1), 1, gpus=(0,))
    t >> submit(gpu(2, 1)) << define(W3) << run(W3, gpu(2, 1), 1, gpus=(1,))
    t >> submit(gpu(3, 1))
    assert "f#3 waits for 1 GPU: 2 of 2 are used by f#2, f#1." == t.core.explain(ident(3))
    t >> done(W3, gpu(2, 1)) << ready(2) << run(W3, gpu(3, 1), 2, gpus=(1,))


def test_fractions_of_a_gpu_share_a_device() -> None:
    t = Transcript(cpus=4, gpus=2)
    t >> submit(gpu(1, 0.5)) << define(W5) << run(W5, gpu(1, 0.5), 1, gpus=(0,))
    t >> submit(gpu(2, 0.5)) << define(W4) << run(W4, gpu(2, 0.5), 1, gpus=(0,))
    t >> submit(gpu(3, 0.25)) << define(W3) << run(W3, gpu(3, 0.25), 1, gpus=(1,))
    t >> submit(gpu(4, 1))
    assert "f#4 waits for 1 GPU: 1.25 of 2 are used by f#3, f#2, f#1." == t.core.explain(ident(4))


def test_a_fraction_that_fits_on_no_single_gpu_waits() -> None:
    t = Transcript(cpus=4, gpus=2)
    for number, worker in ((1, W5), (2, W4)):
        t >> submit(gpu(number, 0.75)) << define(worker)
        t << run(worker, gpu(number, 0.75), 1, gpus=(number - 1,))
    t >> submit(gpu(3, 0.5))
    assert "f#3 waits for a GPU with 0.5 free." == t.core.explain(ident(3))


def test_a_task_can_get_several_gpus() -> None:
    t = Transcript(cpus=1, gpus=3)
    t >> submit(gpu(1, 2)) << define(W2) << run(W2, gpu(1, 2), 1, gpus=(0, 1))


def test_no_task_is_sent_ahead_behind_a_task_with_a_gpu() -> None:
    t = Transcript(cpus=1, gpus=1)
    t.run_away(W2, gpu(9, 1))
    t >> [submit(gpu(1, 1)), submit(gpu(2, 1))] << run(W2, gpu(1, 1), 2, gpus=(0,))
    t >> done(W2, gpu(1, 1)) << ready(1) << run(W2, gpu(2, 1), 3, gpus=(0,))


def test_an_actor_keeps_its_gpu_and_gives_back_the_gpu_of_its_creation() -> None:
    t = Transcript(cpus=1, gpus=2)
    make = task(1, name="A", number="1", resources={"GPU": 2})
    t >> create(make, resources=(("GPU", CPU),)) << define(W2)
    t << run(W2, make, 1, gpus=(0, 1), actor=m.ActorSpec("A", (("GPU", CPU),))) << StartWorker(W3)
    t >> done(W2, make) << ready(1)
    assert (("CPU", CPU), ("GPU", CPU)) == t.core.status().available
    t >> started(W3)
    t >> submit(gpu(2, 1)) << define(W3) << run(W3, gpu(2, 1), 1, gpus=(1,))
    t >> exited(W2, 1, 1)
    t >> done(W3, gpu(2, 1)) << ready(2)
    assert (("CPU", CPU), ("GPU", 2 * CPU)) == t.core.status().available
