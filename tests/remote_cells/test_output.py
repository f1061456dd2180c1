"""Text that user code prints is reported in order, in few pieces, and always in a form that can be sent."""

from __future__ import annotations

import threading

import pytest

from ipyremote.backend.reporter import STDERR, STDOUT
from ipyremote.remote_cells import output as module
from ipyremote.remote_cells.output import CHUNK
from tests.remote_cells.capture import Clock, Recorder


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def test_the_first_line_is_reported_at_once_and_the_next_lines_together(
    recorder: Recorder, clock: Clock
) -> None:
    print("one", file=recorder.out, flush=False)
    recorder.out.write("two\n")
    recorder.out.write("three\n")
    recorder.capture.send_all()
    assert "".join(text for _, _, text in recorder.sent) == "one\ntwo\nthree\n"
    assert len(recorder.sent) <= 3
    assert not recorder.capture.waiting


def test_text_without_a_line_end_waits_until_it_is_late(recorder: Recorder, clock: Clock) -> None:
    recorder.out.write("progress")
    assert recorder.wakes == 1
    assert recorder.capture.send_late()
    assert recorder.sent == []
    clock.now += 1
    assert not recorder.capture.send_late()
    assert recorder.sent == [(7, STDOUT, "progress")]


def test_both_streams_keep_their_order(recorder: Recorder) -> None:
    recorder.out.write("a")
    recorder.err.write("b")
    recorder.out.write("c")
    recorder.capture.send_all()
    assert recorder.sent == [(7, STDOUT, "a"), (7, STDERR, "b"), (7, STDOUT, "c")]


def test_lines_of_threads_stay_whole(recorder: Recorder) -> None:
    begun = threading.Barrier(4)

    def say(word: str) -> None:
        recorder.out.write(word)
        begun.wait(10)
        recorder.out.write(f"-{word}")
        begun.wait(10)
        recorder.out.write("\n")

    threads = [threading.Thread(target=say, args=(word,)) for word in ("one", "two", "three", "four")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    recorder.capture.send_all()
    text = "".join(text for _, _, text in recorder.sent)
    assert sorted(text.splitlines()) == ["four-four", "one-one", "three-three", "two-two"]


def test_a_long_line_is_reported_before_its_end(recorder: Recorder) -> None:
    for _ in range(CHUNK):
        recorder.out.write("x")
    assert recorder.sent == [(7, STDOUT, "x" * CHUNK)]


def test_text_of_two_tasks_is_kept_apart(recorder: Recorder) -> None:
    recorder.out.write("a")
    recorder.task = 8
    recorder.out.write("b")
    recorder.capture.send_all()
    assert recorder.sent == [(7, STDOUT, "a"), (8, STDOUT, "b")]


def test_much_text_is_reported_in_pieces_without_waiting(recorder: Recorder) -> None:
    for _ in range(10):
        recorder.out.write("x" * (CHUNK // 2))
    assert len(recorder.sent) == 5


def test_a_flush_reports_the_waiting_text(recorder: Recorder) -> None:
    print("no end", end="", file=recorder.out, flush=True)
    assert recorder.sent == [(7, STDOUT, "no end")]
    recorder.out.flush()
    assert len(recorder.sent) == 1


def test_bytes_and_text_that_cannot_be_encoded_are_shown_with_replacements(recorder: Recorder) -> None:
    recorder.out.buffer.write(b"caf\xc3\xa9 \xff\n")
    recorder.out.write("name \udc80\n")
    recorder.capture.send_all()
    text = "".join(text for _, _, text in recorder.sent)
    assert text == "café �\nname ?\n"
    text.encode()


def test_a_stream_behaves_like_a_text_stream(recorder: Recorder) -> None:
    assert recorder.out.write("äö") == 2
    assert recorder.out.buffer.write(memoryview(b"abc")) == 3
    assert (recorder.out.writable(), recorder.out.isatty(), recorder.out.fileno()) == (True, False, STDOUT)
    assert recorder.err.fileno() == STDERR
    with pytest.raises(TypeError, match="bytes"):
        recorder.out.write(b"bytes")  # type: ignore[arg-type]  # the wrong type under test


def test_threads_write_whole_pieces(recorder: Recorder) -> None:
    def write(letter: str) -> None:
        for _ in range(200):
            recorder.out.write(letter * 10 + "\n")

    threads = [threading.Thread(target=write, args=(letter,)) for letter in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    recorder.capture.send_all()
    lines = "".join(text for _, _, text in recorder.sent).splitlines()
    assert sorted(lines) == sorted(letter * 10 for letter in "abcd" for _ in range(200))
