"""Unretrieved failures: the driver is told of failures of tasks without refs, a few times for each cell."""

from __future__ import annotations

from ipyremote import messages as m
from ipyremote.core import Received, Send
from ipyremote.ids import DRIVER
from tests.core.transcript import W2, Transcript, done, ident, ready, submit, task

BAD = m.Failure("task_error", "bad\n\nf#1 raised:\nValueError: bad")


def release(number: int) -> Received:
    return Received(DRIVER, m.Release((ident(number),)))


def test_a_failure_that_nobody_can_retrieve_is_told_under_its_cell() -> None:
    t = Transcript(cpus=1)
    spec = task(1, cell=7)
    t >> submit(spec)
    t.taken()
    t >> release(1)
    t >> done(W2, spec, BAD)
    t << Send(DRIVER, m.Notice("f#1 failed, and nobody has asked for its result. ValueError: bad", 7))


def test_a_failure_with_a_ref_is_left_to_the_holder_of_the_ref() -> None:
    t = Transcript(cpus=1)
    spec = task(1, cell=7)
    t >> submit(spec)
    t.taken()
    t >> done(W2, spec, BAD) << ready(1, BAD)
    t >> release(1)
    t.quiet()


def test_a_success_and_a_cancelled_task_without_refs_are_not_told() -> None:
    t = Transcript(cpus=1)
    one, two = task(1), task(2)
    t >> submit(one)
    t.taken()
    t >> release(1)
    t >> done(W2, one)
    t >> submit(two)
    t.taken()
    t >> release(2)
    t >> done(W2, two, m.Failure("task_cancelled", "f#2 was cancelled."))
    t.quiet()


def test_of_many_unretrieved_failures_of_a_cell_a_few_are_told() -> None:
    t = Transcript(cpus=1)
    notices: list[str] = []
    for number in range(1, 11):
        spec = task(number, cell=7)
        t >> submit(spec)
        t.taken()
        t >> release(number)
        t >> done(W2, spec, BAD)
        notices += [
            command.message.text
            for command in t.taken()
            if isinstance(command, Send) and isinstance(command.message, m.Notice)
        ]
    assert 6 == len(notices)
    assert notices[-1].startswith("More tasks failed")
