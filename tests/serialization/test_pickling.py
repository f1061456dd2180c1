"""Pickling of values and functions, the refs inside them, and errors that name the unpicklable part."""

import collections
import dataclasses
import enum
import functools
import linecache
import pickle
import subprocess
import sys
import textwrap
import threading
import traceback
from typing import Any

import cloudpickle
import numpy as np
import pandas as pd
import pytest

from ipyremote.client.value_packing import inline
from ipyremote.exceptions import OufOfBandObjectRefSerializationException, tracebacks
from ipyremote.ids import ObjectId
from ipyremote.messages import Inline
from ipyremote.serialization import nested_refs, pickling
from ipyremote.serialization.pickling import (
    PickledOnce,
    Slot,
    dumps,
    dumps_function,
    inline_size,
    loads,
    loads_inline,
)
from tests.support.sources import ROOT


class Ref:
    """Object that reports its id when it is pickled, as a ref does."""

    def __init__(self, number):
        self.number = number

    def __reduce__(self):
        nested_refs.collect(self.number)
        return Ref, (self.number,)


class Strided:
    """Object whose pickle has a buffer that is not contiguous."""

    def __init__(self, data):
        self.data = data

    def __reduce_ex__(self, protocol):
        return Strided, (pickle.PickleBuffer(memoryview(self.data)[::2]),)


def round_trip(value):
    return loads_inline(inline(dumps(value)))


def run(code, stdin=b""):
    """Run a program as `__main__` and return its stdout."""
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=ROOT,
        input=stdin,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr.decode()
    return result.stdout


# ---- values


@pytest.mark.parametrize(
    "value",
    [
        1,
        None,
        "text",
        b"bytes",
        bytearray(b"x"),
        ((1, 2), {"a": [3]}),
        {1, 2},
        range(3),
        b"x" * 200_000,
        b"__main__",
    ],
    ids=lambda value: repr(value)[:20],
)
def test_plain_values_survive_a_round_trip(value):
    again = round_trip(value)
    assert again == value
    assert type(again) is type(value)


def test_large_bytes_are_out_of_band_buffers():
    for value in (b"x" * 200_000, bytearray(200_000)):
        pickled = dumps(value)
        assert len(pickled.head) < 200
        again = loads(pickled.head, pickled.buffers)
        assert again == value
        assert type(again) is type(value)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(10),
        np.zeros((0, 3)),
        np.ones((3, 4), order="F"),
        np.arange(100.0)[::3],
        np.array(["a", None], dtype=object),
        np.array([(1, 2.0)], dtype=[("a", "i1"), ("b", "f8")]),
        np.arange(24).reshape(2, 3, 4).transpose(1, 0, 2),
        np.array(5),
    ],
    ids=str,
)
def test_arrays_survive_a_round_trip(array):
    again = round_trip(array)
    np.testing.assert_array_equal(again, array)
    assert again.dtype == array.dtype


def test_arrays_inside_messages_are_read_only_and_aligned():
    first, second = round_trip([np.arange(3, dtype=np.int8), np.arange(3.0)])
    assert not first.flags.writeable
    assert second.ctypes.data % 16 == 0
    with pytest.raises(ValueError, match="read-only"):
        second[0] = 1


def test_the_source_array_can_change_after_the_copy():
    array = np.arange(10)
    value = inline(dumps(array))
    array[:] = 0
    assert loads_inline(value).sum() == 45


def test_data_frames_and_shared_objects_survive_a_round_trip():
    frame = pd.DataFrame({"a": np.arange(5), "b": list("vwxyz")})
    pd.testing.assert_frame_equal(round_trip(frame), frame)
    shared = np.arange(5)
    first, second = round_trip((shared, shared))
    assert first is second


def test_the_inline_layout_is_as_documented():
    pickled = dumps([np.arange(3, dtype=np.int8), np.arange(5, dtype=np.int16)])
    value = inline(pickled)
    assert value.sizes == (len(pickled.head), 3, 10)
    start = -(-len(pickled.head) // 16) * 16
    assert value.data[start : start + 3] == bytes([0, 1, 2])
    assert len(value.data) == start + 16 + 10 == inline_size(pickled)
    assert pickled.size == sum(value.sizes)


def test_inline_data_without_buffers_is_one_pickle():
    pickled = dumps((1, "a"))
    assert inline(pickled) == Inline(pickle.dumps((1, "a"), 5))
    assert inline_size(pickled) == pickled.size == len(pickled.head)


def test_a_buffer_that_is_not_contiguous_is_refused_as_pickle_does():
    with pytest.raises(
        TypeError, match=r"constructor argument 0 \(a pickle\.PickleBuffer\): .*non-contiguous"
    ):
        dumps(Strided(b"abcdef"))


def test_slots_have_small_pickles_and_compare_by_index():
    pickled = dumps(((Slot(3),), {}))
    assert loads(pickled.head) == ((Slot(3),), {})
    assert len(pickled.head) < 60
    assert Slot(1) != Slot(2)
    assert len({Slot(1), Slot(1)}) == 1
    assert repr(Slot(1)) == "Slot(1)"


# ---- refs


def test_refs_inside_a_value_are_collected_in_order_and_each_once():
    assert dumps([Ref(5), {"a": Ref(3)}, Ref(5), np.arange(3)]).refs == (5, 3)
    assert dumps(1).refs == ()


class Counted:
    """Object that counts how often it is pickled in this process."""

    def __init__(self, content):
        self.content = content
        self.times = 0

    def __reduce__(self):
        self.times += 1
        return Counted, (self.content,)


@pytest.mark.parametrize("more", [None, lambda: None], ids=["pickled by C", "pickled by cloudpickle"])
def test_the_value_of_a_pickled_once_is_not_pickled_again_and_arrives_unchanged(more):
    counted = Counted([Ref(4), np.arange(8)])
    once = PickledOnce(counted)
    before = counted.times
    for _ in range(2):
        pickled = dumps(([1], once, more))
        content = loads_inline(inline(pickled))[1].content
        assert (pickled.refs, content[0].number, content[1].tolist()) == ((4,), 4, list(range(8)))
    assert (before, counted.times) == (1, 1)


def test_the_buffers_of_a_pickled_once_are_not_copied():
    array = np.arange(1000)
    buffers = dumps(PickledOnce({"array": array})).buffers
    assert any(np.shares_memory(array, np.frombuffer(buffer, np.uint8)) for buffer in buffers)


def test_a_pickled_once_of_a_main_value_does_not_force_cloudpickle_on_other_values():
    def of_main():
        return 7

    of_main.__module__ = "__main__"
    counted = Counted(1)
    assert b"__main__" not in (head := dumps((PickledOnce(of_main), counted)).head)
    assert counted.times == 1
    assert len(head) < 500


def test_the_error_of_a_pickled_once_names_the_unpicklable_part():
    with pytest.raises(TypeError, match=r"Could not serialize data\['lock'\] \(a _thread.lock\)"):
        PickledOnce(({"lock": threading.Lock()},), ("data",))


def test_refs_are_collected_once_when_cloudpickle_takes_over():
    assert dumps([Ref(5), lambda: 1, Ref(6)]).refs == (5, 6)
    assert dumps([Ref(5), "__main__"]).refs == (5,)


def test_refs_in_closures_are_collected():
    ref = Ref(9)
    assert dumps(lambda: ref).refs == (9,)
    assert dumps_function(lambda: ref)[1] == (9,)


def test_ref_collections_nest_and_are_closed_after_an_error():
    with nested_refs.collecting() as outer:
        nested_refs.collect(ObjectId(1))
        assert dumps(Ref(2)).refs == (2,)
        with pytest.raises(TypeError):
            dumps([Ref(3), threading.Lock()])
        nested_refs.collect(ObjectId(4))
    assert outer == [1, 4]
    with pytest.raises(OufOfBandObjectRefSerializationException, match="pickled outside"):
        nested_refs.collect(ObjectId(5))


def test_a_ref_collection_belongs_to_its_thread():
    seen = []

    def other():
        try:
            nested_refs.collect(ObjectId(1))
        except OufOfBandObjectRefSerializationException:
            seen.append("refused")

    with nested_refs.collecting() as ids:
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert seen == ["refused"]
    assert ids == []


# ---- what __main__ defines


MAIN = """
    import dataclasses, enum, functools, sys
    from ipyremote.serialization import pickling
    class Base:
        def __init__(self, x): self.x = x
        def double(self): return self.x * factor
    class Derived(Base):
        def double(self): return super().double() + 1
    @dataclasses.dataclass
    class Point:
        x: int
        y: list = dataclasses.field(default_factory=list)
    class Color(enum.Enum):
        RED = 1
    factor = 2
    def helper(x): return x * factor
    @functools.lru_cache(maxsize=5)
    def cached(x): return helper(x) + 1
    def outer():
        class Local:
            value = 5
        return Local()
    value = {
        "instance": Derived(4), "point": Point(1, [2]), "color": Color.RED, "function": helper,
        "nested": [(lambda x: helper(x) + 1,)], "local": outer(), "class": Base, "cached": cached,
        "partial": functools.partial(helper, 5), "method": Derived(4).double,
    }
"""


@pytest.mark.processes
def test_definitions_of_main_are_pickled_by_value():
    data = run(MAIN + "    sys.stdout.buffer.write(pickling.dumps(value).head)\n")
    value = pickle.loads(data)
    assert value["instance"].double() == 9
    assert (value["point"].x, value["point"].y) == (1, [2])
    assert value["color"].name == "RED"
    assert value["function"](4) == 8
    assert value["nested"][0][0](4) == 9
    assert value["local"].value == 5
    assert value["class"](3).double() == 6
    assert value["cached"](3) == 7
    assert value["cached"].cache_info().maxsize == 5
    assert value["partial"]() == 10
    assert value["method"]() == 9
    assert dataclasses.is_dataclass(value["point"])
    assert isinstance(value["color"], enum.Enum)


@pytest.mark.processes
def test_an_instance_of_a_main_class_is_still_an_instance_after_a_round_trip():
    code = (
        MAIN
        + """
    import subprocess
    echo = "import sys; from ipyremote.serialization import pickling as s; " \\
        "sys.stdout.buffer.write(s.dumps(s.loads(sys.stdin.buffer.read())).head)"
    sent = pickling.dumps((Derived(4), Color.RED, Point(1))).head
    back = subprocess.run([sys.executable, "-c", echo], input=sent, capture_output=True, check=True).stdout
    one, color, point = pickling.loads(back)
    assert type(one) is Derived and color is Color.RED and point == Point(1), (one, color, point)
    """
    )
    run(code)


@pytest.mark.processes
def test_an_instance_that_returns_to_its_process_does_not_reset_its_class():
    code = (
        MAIN
        + """
    Base.count = 0
    sent = pickling.dumps(Base(1)).head
    Base.count = 1
    Base.double = lambda self: "new"
    again = pickling.loads(sent)
    assert type(again) is Base and Base.count == 1 and again.double() == "new"
    """
    )
    run(code)


@pytest.mark.processes
def test_a_class_in_a_worker_gets_changes_of_its_original():
    code = (
        MAIN
        + """
    import subprocess
    first = pickling.dumps(Base).head
    factor = 10
    Base.name = "later"
    second = pickling.dumps(Base).head
    worker = "import sys, pickle; from ipyremote.serialization import pickling as s; " \
        "a, b = pickle.load(sys.stdin.buffer); A = s.loads(a); x = A(1).double(); B = s.loads(b); " \
        "print(A is B, x, A.name, A(1).double())"
    sent = pickling.pickle.dumps((first, second))
    out = subprocess.run([sys.executable, "-c", worker], input=sent, capture_output=True, check=True).stdout
    assert out == b"True 2 later 10\\n", out
    """
    )
    run(code)


def test_a_module_that_is_registered_by_value_is_pickled_by_value():
    import json.scanner as module

    by_name = dumps(vars(module)["py_make_scanner"]).head
    cloudpickle.register_pickle_by_value(module)
    try:
        by_value = dumps(vars(module)["py_make_scanner"]).head
    finally:
        cloudpickle.unregister_pickle_by_value(module)
    assert len(by_value) > len(by_name) + 500


# ---- errors


class Holder:
    def __init__(self, what):
        self.what = what

    def method(self):
        return self.what


class Refuses:
    def __reduce__(self):
        raise RuntimeError("not me")


LOCK = threading.Lock()


def uses_a_global():
    return LOCK


Pair = collections.namedtuple("Pair", "first second")


@pytest.mark.parametrize(
    ("value", "names", "message"),
    [
        (LOCK, (), r"Could not serialize value \(a _thread\.lock\): cannot pickle '_thread\.lock' object"),
        ([1, {"lock": LOCK}], (), r"value\[1\]\['lock'\] \(a _thread\.lock\)"),
        (((1, {"a": LOCK}), {}), ("args", "kwargs"), r"serialize args\[1\]\['a'\] \(a _thread\.lock\)"),
        (((), {"b": Holder([LOCK])}), ("args", "kwargs"), r"kwargs\['b'\]\.what\[0\] \(a _thread\.lock\)"),
        (Refuses(), (), r"value \(a .*Refuses\): not me"),
        ({Pair(1, LOCK)}, (), r"value\[0\]\[1\] \(a _thread\.lock\)"),
        (functools.partial(print, LOCK), (), r"value\.args\[0\] \(a _thread\.lock\)"),
        (Holder(LOCK).method, (), r"\.__self__\.what \(a _thread\.lock\)"),
        ({LOCK: 1}, (), r"value key <unlocked .* \(a _thread\.lock\)"),
        ((n for n in range(0)), (), r"\(a generator\)"),
        (OSError(LOCK), (), r"value constructor argument 0 \(a _thread\.lock\)"),
    ],
    ids=range(11),
)
def test_an_error_names_the_unpicklable_part(value, names, message):
    with pytest.raises(TypeError, match=message) as info:
        dumps(value, names)
    assert info.value.__cause__ is not None


class RefusesInItsOwnCode:
    def __getstate__(self):
        raise RuntimeError("no state")


def test_the_traceback_of_an_error_has_frames_of_user_code_and_none_of_the_picklers():
    for value, frames in ((LOCK, []), (RefusesInItsOwnCode(), ["__getstate__"])):
        with pytest.raises(TypeError) as info:
            dumps([value])
        cause = info.value.__cause__
        assert cause is not None
        assert frames == [frame.name for frame in traceback.extract_tb(cause.__traceback__)]


def test_an_error_names_the_unpicklable_value_that_a_function_uses():
    lock = threading.Lock()

    def f():
        return lock

    with pytest.raises(TypeError, match=r"f -> lock \(a _thread\.lock\)"):
        dumps_function(f)

    def g(x=lock):
        return x

    with pytest.raises(TypeError, match=r"g\.__defaults__\[0\] \(a _thread\.lock\)"):
        dumps_function(g)

    class Local:
        held = lock

    with pytest.raises(TypeError, match=r"Local\.held \(a _thread\.lock\)"):
        dumps_function(Local)


def test_an_error_names_the_unpicklable_global_of_an_interactive_function():
    scope: dict[str, Any] = {"__name__": "__main__", "lock": threading.Lock()}
    exec("def f():\n    def inner(): return lock\n    return inner", scope)
    with pytest.raises(TypeError, match=r"f -> lock \(a _thread\.lock\)"):
        dumps_function(scope["f"])


def test_an_error_names_the_unpicklable_value_used_by_code_of_the_notebook(monkeypatch):
    main = sys.modules["__main__"]
    scope: dict[str, Any] = {"__name__": "__main__", "lock": threading.Lock()}
    exec("def f(): return lock\nclass C:\n    def m(self): return f()", scope)
    for name in ("f", "C"):
        # The C pickler finds the function and the class in `__main__`, and would pickle them by name.
        monkeypatch.setattr(main, name, scope[name], raising=False)
    with pytest.raises(TypeError, match=r"given -> lock \(a _thread\.lock\)"):
        dumps((scope["f"],), ("given",))
    with pytest.raises(TypeError, match=r"given\[0\]\.__class__\.m -> f -> lock \(a _thread\.lock\)"):
        dumps(([scope["C"]()],), ("given",))


def test_a_deep_or_cyclic_unpicklable_value_raises_a_clear_error():
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(TypeError, match="Could not serialize value"):
        dumps(deep)
    cycle: list[Any] = [LOCK]
    cycle.insert(0, cycle)
    with pytest.raises(TypeError, match="Could not serialize value"):
        dumps(cycle)


# ---- functions


def typed(source, filename="<cell 1>", name="f"):
    """Return a function as a notebook cell would define the function."""
    scope: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(source, filename, "exec"), scope)
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    return scope[name]


@pytest.fixture
def clean(monkeypatch):
    monkeypatch.setattr(tracebacks, "_received", {})
    before = dict(linecache.cache)
    yield
    linecache.cache.clear()
    linecache.cache.update(before)


def test_an_imported_function_is_pickled_by_name():
    payload, refs = dumps_function(textwrap.dedent)
    assert len(payload) < 100
    assert refs == ()
    assert pickling.loads_function(payload) is textwrap.dedent


def test_functions_and_classes_survive_a_round_trip(clean):
    f = typed("k = 3\ndef f(x):\n    return [g(x) for g in (lambda y: y + k,)]")
    assert pickling.loads_function(dumps_function(f)[0])(1) == [4]
    cls = typed("class C:\n    def m(self): return __class__", name="C")
    again = pickling.loads_function(dumps_function(cls)[0])
    assert again().m() is again


def test_an_unchanged_function_has_the_same_payload(clean):
    source = (
        "import numpy as np\nK = {'b': 1, 'a': {1, 2, 3}}\n"
        "class Helper:\n    '''doc'''\n    x = 'doc'\n    def go(self): return K, np.ones\n"
        "def helper(x, y=2, *, z='z'): return Helper().go(), {'q', 'r', 's'}, x in {'t', 'u'}\n"
        "def f(x: int, *rest) -> str:\n    'text'\n    return [helper(x) for x in rest], [lambda: K]\n"
    )
    f = typed(source)
    payloads = {dumps_function(f)[0] for _ in range(5)}
    assert len(payloads) == 1
    # Calling the function, and instances on a round trip, do not change the payload.
    f(1, 2)
    instance = dumps(f.__globals__["Helper"]())
    assert type(loads(instance.head)) is f.__globals__["Helper"]
    pickling.loads_function(*payloads)
    assert dumps_function(f)[0] in payloads
    assert pickling.digest(*payloads) == pickling.digest(*payloads)
    assert len(pickling.digest(*payloads)) == 16


def test_a_function_of_a_cell_that_is_run_again_has_the_same_payload(clean):
    source = "def f(x):\n    return [x, 'a', (1, 'b')]\n"
    assert dumps_function(typed(source))[0] == dumps_function(typed(source))[0]


def test_nested_code_keeps_the_name_of_its_file(clean):
    f = pickling.loads_function(dumps_function(typed("def f():\n    return lambda: [lambda: 1]\n"))[0])
    (innermost,) = f()()
    assert ["<cell 1>"] * 3 == [fn.__code__.co_filename for fn in (f, f(), innermost)]


def test_changed_code_and_changed_globals_change_the_payload(clean):
    f = typed("k = 1\ndef f(): return k")
    first = dumps_function(f)[0]
    f.__globals__["k"] = 2
    second = dumps_function(f)[0]
    assert first != second
    assert pickling.digest(first) != pickling.digest(second)


@pytest.mark.processes
def test_tracebacks_in_another_process_show_lines_of_interactive_code(clean, monkeypatch):
    monkeypatch.setattr(tracebacks, "display_name", {"<cell 1>": "In [4]"}.get)
    typed("def helper(x):\n    return x / 0  # in the helper\n", "<cell 2>", "helper")
    scope: dict[str, Any] = {"__name__": "__main__"}
    for filename, source in (
        ("<cell 2>", "def helper(x):\n    return x / 0  # in the helper\n"),
        ("<cell 1>", "def f(x):\n    def inner():\n        return helper(x)  # in f\n    return inner()\n"),
    ):
        exec(compile(source, filename, "exec"), scope)
        linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    payload, _ = dumps_function(scope["f"])
    code = """
        import linecache, sys, traceback
        from ipyremote.exceptions import tracebacks
        from ipyremote.serialization import pickling
        f = pickling.loads_function(sys.stdin.buffer.read())
        linecache.checkcache()
        try: f(1)
        except ZeroDivisionError: print(traceback.format_exc())
        print(sorted(tracebacks.received_names().items()))
    """
    output = run(code, stdin=payload).decode()
    assert "return helper(x)  # in f" in output
    assert "return x / 0  # in the helper" in output
    assert "[('<cell 1>', 'In [4]'), ('<cell 2>', '<cell 2>')]" in output


def test_a_process_that_passes_a_function_on_keeps_the_notebooks_name_of_its_cell(clean, monkeypatch):
    monkeypatch.setattr(tracebacks, "display_name", {"<cell 1>": "In [4]"}.get)
    f = pickling.loads_function(dumps_function(typed("def f(): return 1"))[0])
    # A worker has no notebook that could name the cell.
    monkeypatch.setattr(tracebacks, "display_name", lambda filename: None)
    payload, _ = dumps_function(f)
    tracebacks._received.clear()
    pickling.loads_function(payload)
    assert tracebacks.received_names() == {"<cell 1>": "In [4]"}


def test_sources_of_imported_files_and_huge_cells_are_not_sent(clean):
    huge = "def f():\n    return 1\n" + "# filler\n" * 40_000
    payload = dumps_function(typed(huge))[0]
    assert len(payload) < 2_000
    assert pickling.loads_function(payload)() == 1
    local = dumps_function(lambda: ROOT)[0]
    assert pickling.loads_function(local)() == ROOT
    assert tracebacks.received_names() == {}


def test_known_sources_are_not_replaced(clean):
    payload = dumps_function(typed("def f():\n    return 1 / 0\n"))[0]
    mine = linecache.cache["<cell 1>"]
    f = pickling.loads_function(payload)
    assert linecache.cache["<cell 1>"] is mine
    with pytest.raises(ZeroDivisionError) as info:
        f()
    assert "return 1 / 0" in "".join(traceback.format_exception(info.value))
