"""Text, displays and progress of tasks go to the driver and cell that submitted the tasks, in order."""

from __future__ import annotations

from ipyremote import messages as m
from ipyremote.core import ClientGone, ClientJoined, Received, Send
from ipyremote.ids import DRIVER, NOBODY, ClientId
from tests.core.transcript import W2, W3, Transcript, define, done, ident, ready, run, submit, task

#: Client id of another driver of the session.
OTHER = ClientId(70_000)


def bar(number: int, done: float, *, closed: bool = False) -> m.Progress:
    return m.Progress(ident(1), number, "epoch", done, 10.0, "it", closed)


def test_text_displays_and_progress_of_a_task_keep_their_order() -> None:
    t = Transcript()
    spec = task(1, cell=9)
    t >> submit(spec) << define(W3) << run(W3, spec, 1)
    content = b'{"kind":"display_data","data":{"text/plain":"3"}}'
    t >> [
        Received(W3, m.Output(ident(1), 1, "before")),
        Received(W3, m.Display(ident(1), content)),
        Received(W3, m.Output(ident(1), 1, "after")),
        Received(W3, bar(1, 3.0, closed=True)),
        done(W3, spec),
    ]
    t << Send(DRIVER, m.OutputText(9, "f#1", 1, "before", ident(1)))
    t << Send(DRIVER, m.DisplayContent(9, "f#1", ident(1), content))
    t << Send(DRIVER, m.OutputText(9, "f#1", 1, "after", ident(1)))
    t << Send(DRIVER, m.ProgressUpdate(9, "f#1", ident(1), 1, "epoch", 3.0, 10.0, "it", True))
    t << ready(1)


def test_output_of_no_task_goes_to_the_driver_of_the_session() -> None:
    t = Transcript()
    t >> Received(W3, m.Display(NOBODY, b"{}")) << Send(DRIVER, m.DisplayContent(0, "", NOBODY, b"{}"))
    t >> Received(W3, bar(1, 1.0))
    t << Send(DRIVER, m.ProgressUpdate(0, "", ident(1), 1, "epoch", 1.0, 10.0, "it", False))


def test_the_displays_of_a_child_task_go_to_the_driver_of_its_parent() -> None:
    t = Transcript()
    t >> ClientJoined(OTHER)
    parent = task(1, client=OTHER, driver=OTHER, cell=4)
    t >> submit(parent, OTHER) << define(W3) << run(W3, parent, 1)
    child = task(1, client=W3, parent=ident(1, OTHER), driver=OTHER, cell=4, name="g", number="1.1")
    t >> submit(child, W3) << define(W2) << run(W2, child, 1)
    t >> Received(W2, m.Display(ident(1, W3), b"{}"))
    t << Send(OTHER, m.DisplayContent(4, "g#1.1", ident(1, W3), b"{}"))


def test_output_for_a_driver_that_has_left_is_dropped() -> None:
    t = Transcript()
    t >> ClientJoined(OTHER)
    spec = task(1, client=OTHER, driver=OTHER)
    t >> submit(spec, OTHER) << define(W3) << run(W3, spec, 1)
    t >> ClientGone(OTHER)
    t.taken()
    t >> Received(W3, m.Display(ident(1, OTHER), b"{}"))
    t.quiet()
