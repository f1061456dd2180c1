"""The tree of exceptions, the combined classes, and the text of tracebacks."""

from __future__ import annotations

import asyncio
import linecache
import pickle
import sys
import types
from typing import Any

import pytest

from ipyremote import exceptions
from ipyremote.exceptions import FAILURES, IPyRemoteError, TaskError, from_failure
from ipyremote.exceptions.tracebacks import Likeness


def _raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


def _combined(error: BaseException) -> TaskError:
    return TaskError.capture(_raised(error), "square#3", 17).as_instanceof_cause()


class _Bad:
    """Class whose `repr` must not be called, because it is not known to be quick."""

    def __repr__(self) -> str:
        raise AssertionError("it is not asked")


class WithInit(Exception):
    """Exception whose `__init__` needs two arguments."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__(a, b)
        self.total = a + b

    def doubled(self) -> int:
        return 2 * self.total


class WithNew(ValueError):
    """Exception whose `__new__` needs an argument."""

    def __new__(cls, needed: int) -> WithNew:
        return super().__new__(cls, needed)


class NoException(BaseException):
    """Exception that `except Exception` does not catch."""


class WithSlots(Exception):
    """Exception with a field in `__slots__`."""

    __slots__ = ("code",)


class Final(Exception):
    """Exception class that forbids subclasses."""

    def __init_subclass__(cls) -> None:
        raise TypeError("final")


@pytest.mark.parametrize("kind", sorted(FAILURES))
def test_each_kind_of_failure_has_an_exception_that_survives_pickling(kind: str) -> None:
    error = from_failure(kind, "what happened")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is FAILURES[kind]
    assert "what happened" in str(again)


def test_an_unknown_kind_of_failure_is_a_system_error() -> None:
    assert type(from_failure("something new", "text")) is exceptions.IPyRemoteSystemError


def test_the_error_of_a_dead_actor_has_the_exception_of_its_init() -> None:
    error = from_failure("actor_died", "text", TaskError("A#1", ValueError("no")))
    assert isinstance(error, exceptions.ActorError)
    assert error.actor_init_failed
    assert repr(error.cause) == "ValueError('no')"


def test_the_exception_names_of_ray_are_aliases() -> None:
    assert exceptions.RayError is IPyRemoteError
    assert exceptions.RayTaskError is TaskError
    assert exceptions.RayActorError is exceptions.ActorError
    assert issubclass(exceptions.GetTimeoutError, TimeoutError)
    assert issubclass(exceptions.ActorHandleNotFoundError, ValueError)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("bad"),
        KeyError("k"),
        OSError(2, "no such file", "name"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad start"),
        StopIteration(3),
        SyntaxError("bad", ("file", 1, 2, "text")),
        ImportError("no", name="module", path="path"),
        AttributeError("no", name="field", obj=None),
        exceptions.GetTimeoutError("slow"),
        WithInit(1, 2),
        WithNew(5),
        NoException("of my own"),
        ExceptionGroup("many", [ValueError(1)]),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_combined_error_is_an_instance_of_both_before_and_after_pickling(error: Exception) -> None:
    combined = _combined(error)
    for one in (combined, pickle.loads(pickle.dumps(combined))):
        assert isinstance(one, TaskError)
        assert isinstance(one, type(error))
        assert type(one).__name__ == f"TaskError({type(error).__name__})"
        assert str(one).startswith(str(error))
        assert (one.label, one.pid, len(one.args)) == ("square#3", 17, 1)
        assert repr(one.args[0]) == repr(one.cause) == repr(error)


def test_a_combined_error_has_the_fields_and_methods_of_its_cause() -> None:
    missing: Any = _combined(OSError(2, "no such file", "name"))
    assert (missing.errno, missing.strerror, missing.filename) == (2, "no such file", "name")
    custom: Any = _combined(WithInit(1, 2))
    assert (custom.total, custom.doubled()) == (3, 6)
    slotted = WithSlots()
    slotted.code = 4  # type: ignore[attr-defined]
    combined: Any = _combined(slotted)
    assert combined.code == 4
    with pytest.raises(AttributeError):
        custom.nothing


def test_each_exception_class_has_one_combined_class() -> None:
    assert type(_combined(ValueError(1))) is type(_combined(ValueError(2)))


def test_a_combined_exception_group_keeps_its_members() -> None:
    combined: Any = _combined(ExceptionGroup("many", [ValueError(1), KeyError(2)]))
    matched, rest = combined.split(ValueError)
    assert [type(error) for error in matched.exceptions] == [ValueError]
    assert [type(error) for error in rest.exceptions] == [KeyError]


def test_a_cause_whose_class_forbids_subclasses_leaves_a_plain_task_error() -> None:
    with pytest.warns(RuntimeWarning, match="Final cannot be combined"):
        error = _combined(Final("x"))
    assert type(error) is TaskError
    assert isinstance(error.cause, Final)


@pytest.mark.parametrize(
    "error",
    [KeyboardInterrupt(), SystemExit(1), GeneratorExit(), asyncio.CancelledError(), Exception("plain")],
)
def test_control_exceptions_and_plain_exceptions_are_not_combined(error: BaseException) -> None:
    assert type(_combined(error)) is TaskError


def test_an_exception_whose_str_raises_can_be_shown() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert str(_combined(Mute())).startswith("Mute")


def test_an_error_without_its_cause_keeps_its_text() -> None:
    error = TaskError.capture(_raised(ValueError("bad")), "square#3", 1).without_cause()
    assert error.cause is None
    assert error.as_instanceof_cause() is error
    assert "ValueError: bad" in str(pickle.loads(pickle.dumps(error)))


def _cell(source: str, filename: str) -> types.FunctionType:
    """Return a function of a notebook cell."""
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    names: dict[str, Any] = {}
    exec(compile(source, filename, "exec"), names)
    fn: types.FunctionType = names["f"]
    return fn


@pytest.fixture
def from_cell() -> Any:
    """Return a function that runs code of cell 4 and captures its exception."""

    def capture(source: str, *args: Any) -> TaskError:
        filename = "/tmp/ipykernel_1/4.py"
        try:
            _cell(source, filename)(*args)
        except Exception as error:
            return TaskError.capture(error, "f#1", 99, hide=__file__, display_names={filename: "In [4]"})
        raise AssertionError("nothing was raised")

    yield capture
    linecache.cache.pop("/tmp/ipykernel_1/4.py", None)


def test_the_traceback_text_names_the_cell_and_no_process(from_cell: Any) -> None:
    error = from_cell("def f(x):\n    raise ValueError(x)\n", "bad")
    assert str(error) == (
        "bad\n\nf#1 raised:\nTraceback (most recent call last):\n"
        "  In [4], line 2, in f\n    raise ValueError(x)\nValueError: bad"
    )
    frame = exceptions.Frame("In [4]", 2, "f", "raise ValueError(x)", "f#1", (("x", "bad"),))
    assert error.frames == (frame,)


def test_variables_of_the_innermost_frames_are_sent_as_values_or_likenesses(from_cell: Any) -> None:
    error = from_cell(
        "def f(depth, bad):\n"
        "    import numpy as np, sys\n"
        "    if depth:\n"
        "        return f(depth - 1, bad)\n"
        "    return g(3, np.arange(5), bad)\n"
        "def g(n, data, bad):\n"
        "    ratio = n / 0\n",
        20,
        _Bad(),
    )
    assert len(error.frames) == 22
    assert dict(error.frames[-1].values) == {
        "n": 3,
        "data": Likeness("array([0, 1, 2, 3, 4])"),
        "bad": Likeness(f"<{__name__}._Bad>"),
    }
    # Modules are left out, and so are variables of frames far from the failure.
    assert set(dict(error.frames[-2].values)) == {"depth", "bad"}
    assert error.frames[0].values == ()
    again = pickle.loads(pickle.dumps(error))
    assert again.frames == error.frames
    assert repr(again.frames[-1].values[1][1]) == "array([0, 1, 2, 3, 4])"


def test_the_number_and_size_of_sent_variables_are_bounded(from_cell: Any) -> None:
    names = [f"v{number}" for number in range(60)]
    lines = "".join(f"    {name} = {['x' * 1000]!r} * 1000000\n" for name in names[:2])
    lines += "".join(f"    {name} = 'y' * 300\n" for name in names[2:])
    error = from_cell(f"def f():\n{lines}    1 / 0\n")
    (frame,) = error.frames
    assert 10 < len(frame.values) < 20
    assert len(pickle.dumps(frame)) < 8_000


def test_sys_tracebacklimit_only_drops_the_variables(from_cell: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "tracebacklimit", 1, raising=False)
    error = from_cell("def f(x):\n    g(x)\ndef g(x):\n    raise ValueError(x)\n", 1)
    assert str(error.cause) == "1"
    assert all(frame.values == () for frame in error.frames)


def test_causes_and_notes_are_in_the_traceback_text(from_cell: Any) -> None:
    error = from_cell(
        "def f():\n"
        "    try:\n"
        "        {}['k']\n"
        "    except KeyError as cause:\n"
        "        error = ValueError('worse')\n"
        "        error.add_note('a note')\n"
        "        raise error from cause\n"
    )
    text = str(error)
    assert "KeyError: 'k'" in text
    assert "direct cause" in text
    assert text.endswith("ValueError: worse\na note")
    assert text.count("In [4], line") == 2


def test_an_error_of_a_nested_task_shows_the_frames_of_both_tasks(from_cell: Any) -> None:
    inner = from_cell("def f():\n    raise ValueError('deep')\n").as_instanceof_cause()
    outer = from_cell("def f(error):\n    raise error\n", inner)
    assert isinstance(outer.cause, ValueError)
    assert not isinstance(outer.cause, TaskError)
    assert [(frame.task, frame.lineno) for frame in outer.frames] == [("f#1", 2), ("f#1", 2)]
    assert str(outer).endswith(
        "  In [4], line 2, in f\n    raise error\n"
        "  in task f#1:\n"
        "  In [4], line 2, in f\n    raise ValueError('deep')\nValueError: deep"
    )


def test_the_traceback_in_ipython_continues_into_the_task_without_frames_of_ipyremote(from_cell: Any) -> None:
    error = from_cell("def f():\n    raise ValueError('bad')\n").as_instanceof_cause()
    shown = _raised(error)._render_traceback_()  # type: ignore[attr-defined]
    assert shown[1].startswith("ValueError ")
    assert shown[1].endswith("Traceback (most recent call last)")
    assert shown[2].startswith(f'  File "{__file__}", line ')
    assert shown[-4:] == [
        "  in task f#1:",
        "  In [4], line 2, in f",
        "    raise ValueError('bad')",
        "ValueError: bad",
    ]


def test_other_errors_are_shown_without_frames_of_ipyremote() -> None:
    import ipyremote

    with pytest.raises(exceptions.IPyRemoteError) as caught:
        ipyremote.get(ipyremote.ObjectRef.nil())
    shown = "\n".join(caught.value._render_traceback_())
    assert "ipyremote.get(" in shown
    assert "api.py" not in shown
    assert shown.endswith("ipyremote.exceptions.ObjectLostError: ObjectRef(nil) names no object.")


@pytest.mark.parametrize(
    ("as_cause", "link"),
    [
        (True, "The error above caused this error:"),
        (False, "This error was raised while the error above was handled:"),
    ],
)
def test_the_context_of_an_error_is_shown_before_the_error(as_cause: bool, link: str) -> None:
    first = _raised(KeyError("first"))
    error = exceptions.GetTimeoutError("slow")
    error.__cause__ = first if as_cause else None
    error.__context__ = first
    error.__suppress_context__ = as_cause
    shown = error._render_traceback_()
    assert shown.index("KeyError: 'first'") < shown.index(link) < len(shown) - 1
    error.__cause__ = None
    error.__suppress_context__ = True
    assert "KeyError: 'first'" not in error._render_traceback_()


def test_a_cell_of_this_process_has_the_name_that_its_shell_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    class Compiler:
        def format_code_name(self, name: str) -> tuple[str, str] | None:
            return ("Cell", "In[7]") if name == "cell-file" else None

    shell = types.SimpleNamespace(compile=Compiler())
    fake = types.SimpleNamespace(get_ipython=lambda: shell)
    monkeypatch.setitem(sys.modules, "IPython", fake)
    assert exceptions.tracebacks.display_name("cell-file") == "In [7]"
    assert exceptions.tracebacks.display_name("other") is None
