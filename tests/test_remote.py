"""`@remote`: forms, options, argument checks, and the time when code is exported."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import ipyremote as ray
from ipyremote.backend import Exported, RareOptions, TaskOptions, current
from ipyremote.backends.inline.backend import InlineBackend
from ipyremote.declare.exports import bump_epoch
from ipyremote.declare.options import ACTOR_OPTIONS, METHOD_OPTIONS, TASK_OPTIONS
from ipyremote.declare.signatures import parameters_of
from ipyremote.exceptions import ActorHandleNotFoundError
from ipyremote.ids import NOBODY, ObjectId


class Recorder(InlineBackend):
    """Backend that records exported functions and the options of calls."""

    def __init__(self) -> None:
        super().__init__(num_cpus=4, num_gpus=2, resources={"widget": 2})
        self.exported: list[str] = []
        self.options: list[Any] = []

    def define(self, target: Any, name: str) -> Exported:
        self.exported.append(name)
        return super().define(target, name)

    def submit(
        self, exported: Exported, args: Any, kwargs: Any, options: TaskOptions
    ) -> tuple[ObjectId, str]:
        self.options.append(options)
        return super().submit(exported, args, kwargs, options)

    def create_actor(
        self, exported: Any, args: Any, kwargs: Any, options: Any, actor: Any
    ) -> tuple[ObjectId, str]:
        self.options.append((options, actor))
        return super().create_actor(exported, args, kwargs, options, actor)

    def call(
        self, actor_id: ObjectId, class_name: str, method: str, args: Any, kwargs: Any, options: Any
    ) -> tuple[ObjectId, str]:
        self.options.append(options)
        return super().call(actor_id, class_name, method, args, kwargs, options)


@pytest.fixture
def backend() -> Iterator[Recorder]:
    """Start a session with a recording backend."""
    ray.shutdown()
    recorder = Recorder()
    current.install(recorder)
    yield recorder
    ray.shutdown()


def plain(x: int, y: int = 2, *, z: int = 3) -> int:
    """Add the numbers."""
    return x + y + z


# ---- forms


def test_the_three_forms_of_remote_make_equal_remote_functions(backend: Recorder) -> None:
    bare = ray.remote(plain)
    with_options = ray.remote(num_cpus=2)(plain)
    assert isinstance(bare, ray.RemoteFunction)
    assert ray.get([bare.remote(1), with_options.remote(1)]) == [6, 6]
    assert (bare.__name__, bare.__doc__, bare.__wrapped__) == ("plain", "Add the numbers.", plain)  # type: ignore[attr-defined]


def test_remote_with_empty_parentheses_is_refused() -> None:
    with pytest.raises(AssertionError, match="without parentheses"):
        ray.remote()
    with pytest.raises(AssertionError, match="options by name"):
        ray.remote(plain, num_cpus=1)  # type: ignore[call-overload]


@pytest.mark.parametrize("target", [3, "text", len.__call__])  # type: ignore[operator]
def test_only_functions_and_classes_can_be_decorated(target: Any) -> None:
    with pytest.raises(TypeError, match="takes a function or a class"):
        ray.remote(target)


def test_an_async_function_is_refused_when_decorated() -> None:
    async def later() -> None: ...

    with pytest.raises(ValueError, match="later is async"):
        ray.remote(later)


def test_an_actor_runs_one_call_at_a_time_unless_it_is_async_or_says_otherwise(backend: Recorder) -> None:
    class Plain:
        def m(self) -> None: ...

    class Async:
        async def m(self) -> None: ...

    for actor_class in (ray.remote(Plain), ray.remote(Async)):
        actor_class.remote()
        actor_class.options(max_concurrency=3).remote()
    assert [actor.max_concurrency for _, actor in backend.options] == [1, 3, 1000, 3]


def test_a_remote_function_cannot_be_called() -> None:
    with pytest.raises(TypeError, match=r"cannot be called directly.*plain\(\)', try .*plain\.remote\(\)'"):
        ray.remote(plain)(1)


def test_a_builtin_can_be_decorated(backend: Recorder) -> None:
    import operator

    assert ray.get(ray.remote(operator.add).remote(1, 2)) == 3


# ---- options


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        ({"nm_cpus": 1}, ValueError, "no option of a task. Options are: .*num_cpus"),
        ({"num_cpus": "1"}, TypeError, "num_cpus is a number"),
        ({"num_cpus": True}, TypeError, "num_cpus is a number"),
        ({"num_cpus": -1}, ValueError, "zero or more"),
        ({"num_cpus": float("nan")}, ValueError, "zero or more"),
        ({"num_cpus": 0.00001}, ValueError, "0.0001"),
        ({"num_gpus": 1.5}, ValueError, "whole"),
        ({"memory": -5}, ValueError, "zero or more"),
        ({"resources": {"CPU": 1}}, ValueError, "use num_cpus=1"),
        ({"resources": {"widget": "1"}}, TypeError, "number"),
        ({"resources": [1]}, TypeError, "dictionary"),
        ({"num_returns": -1}, ValueError, "0 or more"),
        ({"num_returns": 1.5}, TypeError, "whole number"),
        ({"num_returns": "streaming"}, ValueError, "plain does not yield"),
        ({"num_returns": "dynamic"}, ValueError, "plain does not yield"),
        ({"num_returns": "all"}, ValueError, "'streaming' or 'dynamic', not 'all'"),
        (
            {"_generator_backpressure_num_objects": 2},
            ValueError,
            "num_returns='streaming', which plain is not",
        ),
        ({"_generator_backpressure_num_objects": 0}, ValueError, "1 or more, or -1"),
        ({"_generator_backpressure_num_objects": "2"}, TypeError, "whole number"),
        ({"max_retries": -2}, ValueError, "-1 or more"),
        ({"retry_exceptions": [1]}, TypeError, "exception types"),
        ({"retry_exceptions": ValueError}, TypeError, "list of exception types"),
        ({"runtime_env": {"conda": "x"}}, NotImplementedError, "Use pip or uv"),
        ({"runtime_env": {"nonsense": "x"}}, ValueError, "no key of runtime_env"),
        ({"runtime_env": {"env_vars": {"A": 1}}}, TypeError, "texts"),
        ({"runtime_env": "x"}, TypeError, "dictionary"),
        ({"max_calls": -1}, ValueError, "0 or more"),
        ({"max_calls": "1"}, TypeError, "whole number"),
        ({"scheduling_strategy": "OTHER"}, ValueError, "SPREAD"),
        ({"scheduling_strategy": object()}, TypeError, "util.scheduling_strategies"),
        ({"label_selector": ["a"]}, TypeError, "dictionary of labels"),
        ({"label_selector": {1: "b"}}, TypeError, "names for keys"),
        ({"label_selector": {"a": 1}}, TypeError, "is a string"),
        ({"label_selector": {"-a": "b"}}, ValueError, "key of a label"),
        ({"label_selector": {"a": "!!b"}}, ValueError, "no condition"),
        ({"label_selector": {"a": "in()"}}, ValueError, "no condition"),
        ({"fallback_strategy": {"label_selector": {}}}, TypeError, "list of dictionaries"),
        ({"fallback_strategy": ["a"]}, ValueError, "lists dictionaries"),
        ({"fallback_strategy": [{"num_cpus": 1}]}, ValueError, "label_selector"),
        ({"fallback_strategy": [{"label_selector": {"a": "b!"}}]}, ValueError, "no condition"),
        ({"accelerator_type": 1}, TypeError, "string"),
        ({"enable_task_events": False}, NotImplementedError, "recorded"),
        ({"name": 3}, TypeError, "string"),
    ],
)
def test_wrong_options_of_a_task_are_refused_at_the_declaration(given: Any, error: Any, text: str) -> None:
    with pytest.raises(error, match=text):
        ray.remote(**given)(plain)
    if "max_calls" not in given:
        with pytest.raises(error, match=text):
            ray.remote(plain).options(**given)


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"num_returns": 2}, ValueError),
        ({"max_concurrency": 0}, ValueError),
        ({"name": 1}, TypeError),
        ({"name": ""}, ValueError),
        ({"namespace": 1}, TypeError),
        ({"namespace": ""}, ValueError),
        ({"get_if_exists": "yes"}, TypeError),
        ({"lifetime": "long"}, ValueError),
        ({"max_restarts": -2}, ValueError),
        ({"max_pending_calls": -2}, ValueError),
        ({"max_pending_calls": "5"}, TypeError),
        ({"concurrency_groups": ["io"]}, TypeError),
        ({"concurrency_groups": {1: 2}}, TypeError),
        ({"concurrency_groups": {"io": "2"}}, TypeError),
        ({"concurrency_groups": {"io": 0}}, ValueError),
        ({"max_concurrency": 2, "allow_out_of_order_execution": False}, ValueError),
        ({"concurrency_groups": {"io": 1}, "allow_out_of_order_execution": False}, ValueError),
        ({"runtime_env": {"image_uri": "x"}}, NotImplementedError),
        ({"runtime_env": {"working_dir": 3}}, TypeError),
    ],
)
def test_wrong_options_of_an_actor_are_refused_at_the_declaration(given: Any, error: Any) -> None:
    class A:
        pass

    with pytest.raises(error):
        ray.remote(**given)(A)


def test_options_without_an_effect_are_accepted() -> None:
    neutral: dict[str, Any] = {
        "runtime_env": None,
        "max_calls": 0,
        "scheduling_strategy": "SPREAD",
        "label_selector": {},
        "fallback_strategy": [],
        "_labels": None,
    }
    ray.remote(**neutral)(plain)

    class A:
        pass

    ray.remote(max_concurrency=1, lifetime="non_detached", get_if_exists=False, max_pending_calls=-1)(A)


def test_options_of_the_decorator_only_are_refused_by_the_method_options() -> None:
    with pytest.raises(ValueError, match="max_calls"):
        ray.remote(plain).options(max_calls=1)  # type: ignore[call-overload]

    class A:
        pass

    with pytest.raises(ValueError, match="concurrency_groups"):
        ray.remote(A).options(concurrency_groups={})  # type: ignore[call-arg]


def test_options_are_converted_to_units_of_the_backend(backend: Recorder) -> None:
    fn = ray.remote(num_cpus=0.5, max_retries=1)(plain)
    fn.options(
        num_gpus=1, resources={"widget": 1, "none": 0}, name="other", retry_exceptions=[KeyError]
    ).remote(1)
    assert backend.options == [
        TaskOptions(
            name="other",
            resources=(("CPU", 5_000), ("GPU", 10_000), ("widget", 10_000)),
            max_retries=1,
            retry_exceptions=(KeyError,),
            rare=RareOptions(max_calls=1),
        )
    ]


def test_the_default_of_max_calls_is_one_for_tasks_with_gpus_and_none_for_others(backend: Recorder) -> None:
    ray.remote(plain).remote(1)
    ray.remote(max_calls=3)(plain).options(name="other").remote(1)
    ray.remote(num_gpus=1)(plain).remote(1)
    ray.remote(num_gpus=1, max_calls=0)(plain).options(num_gpus=0.5).remote(1)
    assert [options.rare and options.rare.max_calls for options in backend.options] == [None, 3, 1, None]


def test_the_default_of_max_retries_comes_from_the_environment(
    backend: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IPYREMOTE_TASK_MAX_RETRIES", "7")
    ray.remote(plain).remote(1)
    assert backend.options[0].max_retries == 7


@pytest.mark.parametrize(
    ("given", "creation", "held"),
    [
        ({}, {"CPU": 1}, {}),
        ({"num_cpus": 0}, {}, {}),
        ({"num_cpus": 2}, {"CPU": 2}, {"CPU": 2}),
        ({"num_gpus": 1}, {"CPU": 1, "GPU": 1}, {"CPU": 1, "GPU": 1}),
        ({"resources": {"widget": 1}}, {"CPU": 1, "widget": 1}, {"CPU": 1, "widget": 1}),
        ({"memory": 10}, {"CPU": 1, "memory": 10}, {"memory": 10}),
    ],
)
def test_an_actor_without_resource_options_needs_a_cpu_only_for_its_creation(
    backend: Recorder, given: Any, creation: dict[str, int], held: dict[str, int]
) -> None:
    class A:
        pass

    ray.remote(A).options(**given).remote()
    options, actor = backend.options[0]
    assert options.resources == tuple((name, n * 10_000) for name, n in creation.items())
    assert actor.resources == tuple((name, n * 10_000) for name, n in held.items())


def test_options_of_a_method_override_options_of_the_actor(backend: Recorder) -> None:
    class A:
        @ray.method(max_task_retries=4, retry_exceptions=True)
        def marked(self) -> None: ...

        @ray.method
        def bare(self) -> None: ...

    a = ray.remote(max_task_retries=2)(A).remote()
    a.marked.remote()
    a.bare.remote()
    a.marked.options(max_task_retries=6, name="n").remote()
    retries = [options.max_retries for options in backend.options[1:]]
    assert retries == [4, 2, 6]
    assert [options.retry_exceptions for options in backend.options[1:]] == [True, False, True]
    with pytest.raises(AssertionError, match="num_retuns"):
        ray.method(num_retuns=1)  # type: ignore[call-overload]


def test_each_option_of_ray_is_known() -> None:
    shared = {"num_cpus", "num_gpus", "resources", "memory", "accelerator_type", "runtime_env", "name"}
    assert shared | {"num_returns", "max_calls", "max_retries", "retry_exceptions"} <= set(TASK_OPTIONS)
    assert shared | {"lifetime", "max_restarts", "max_task_retries", "max_pending_calls"} <= set(
        ACTOR_OPTIONS
    )
    assert {"num_returns", "concurrency_group", "max_task_retries"} <= set(METHOD_OPTIONS)


def test_an_impossible_resource_request_says_what_is_missing(backend: Recorder) -> None:
    with pytest.raises(ray.exceptions.TaskUnschedulableError, match="CPU=9, and the session has 4"):
        ray.get(ray.remote(plain).options(num_cpus=9).remote(1))


# ---- arguments


def _positional_only(a: int, /, b: int, *, c: int) -> None: ...
def _rest(a: int, *rest: int, **more: int) -> None: ...
def _three(a: int, b: int, c: int) -> None: ...
def _none() -> None: ...


@pytest.mark.parametrize("fn", [plain, _positional_only, _rest, _three, _none], ids=lambda fn: fn.__name__)
@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((), {}),
        ((1,), {}),
        ((1, 2), {}),
        ((1, 2, 3), {}),
        ((1, 2, 3, 4), {}),
        ((1,), {"x": 1}),
        ((1,), {"a": 1}),
        ((), {"x": 1}),
        ((), {"a": 1, "b": 2, "c": 3}),
        ((1,), {"z": 3}),
        ((1,), {"b": 2, "c": 3}),
        ((1,), {"b": 2}),
        ((1,), {"nothing": 2}),
    ],
)
def test_a_remote_call_is_refused_exactly_when_python_refuses_the_call(
    fn: Any, args: Any, kwargs: Any
) -> None:
    parameters = parameters_of(fn)
    assert parameters is not None
    fits: str | None
    checked: str | None
    try:
        fn(*args, **kwargs)
        fits = None
    except TypeError as error:
        fits = str(error)
    try:
        if kwargs or not parameters.low <= len(args) <= parameters.high:
            parameters.check(args, kwargs)
        checked = None
    except TypeError as error:
        checked = str(error)
    # If a call has several mistakes, Python may name another mistake first.
    assert (checked is None) == (fits is None)
    if fits is not None and checked is not None:
        assert checked.partition("(")[0] == fits.partition("(")[0]


@pytest.mark.parametrize(
    ("fn", "args", "kwargs"),
    [
        (_three, (), {}),
        (_three, (1,), {}),
        (_three, (1, 2, 3, 4), {}),
        (plain, (1, 2, 3), {}),
        (plain, (1,), {"x": 2}),
        (plain, (1,), {"w": 2}),
        (_positional_only, (1, 2), {}),
        (_positional_only, (), {"a": 1, "b": 2, "c": 3}),
        (_none, (1,), {}),
    ],
)
def test_the_error_of_a_wrong_call_is_worded_like_pythons(fn: Any, args: Any, kwargs: Any) -> None:
    with pytest.raises(TypeError) as wanted:
        fn(*args, **kwargs)
    with pytest.raises(TypeError) as found:
        ray.remote(fn).remote(*args, **kwargs)
    assert str(found.value) == str(wanted.value)


def test_a_decorator_that_adds_an_argument_is_not_refused(backend: Recorder) -> None:
    import functools

    def adding(fn: Any) -> Any:
        @functools.wraps(fn)
        def wrapper(x: int) -> Any:
            return fn(x, 10)

        return wrapper

    @ray.remote
    @adding
    def add(x: int, y: int) -> int:
        return x + y

    assert ray.get(add.remote(1)) == 11


# ---- when code is captured


def test_a_function_is_exported_once_per_epoch_and_session(backend: Recorder) -> None:
    fn = ray.remote(plain)
    assert backend.exported == []
    fn.remote(1)
    fn.options(num_cpus=2).remote(1)
    assert backend.exported == ["plain"]
    bump_epoch()
    fn.remote(1)
    assert backend.exported == ["plain", "plain"]


def test_remote_functions_and_classes_are_usable_in_the_next_session(backend: Recorder) -> None:
    class A:
        def m(self) -> int:
            return 1

    fn, actor_class = ray.remote(plain), ray.remote(A)
    fn.remote(1)
    handle = actor_class.remote()
    ray.shutdown()
    with pytest.raises(ActorHandleNotFoundError, match=r"A#1.*shut down"):
        handle.m.remote()
    with pytest.raises(ActorHandleNotFoundError, match="shut down"):
        ray.kill(handle)
    ray.init(backend="inline")
    assert ray.get(fn.remote(1)) == 6
    assert ray.get(actor_class.remote().m.remote()) == 1


def test_an_actor_ends_with_its_last_handle(backend: Recorder) -> None:
    ended: list[int] = []

    class A:
        def __init__(self, log: Any) -> None: ...

        def __del__(self) -> None:
            ended.append(1)

    handle = ray.remote(A).remote(None)
    stored = ray.put([handle])
    del handle
    backend.explain(NOBODY)
    assert ended == []
    del stored
    backend.explain(NOBODY)
    assert ended == [1]


def test_the_reprs_of_handles_and_methods_have_names(backend: Recorder) -> None:
    class A:
        def m(self) -> None: ...

    handle = ray.remote(A).remote()
    assert repr(ray.remote(A)) == "ActorClass(A)"
    assert repr(ray.remote(plain)) == "RemoteFunction(plain)"
    assert repr(handle.m) == "ActorMethod(A#1.m)"


def test_results_of_options_have_a_repr_and_cannot_be_called_directly(backend: Recorder) -> None:
    def work() -> None: ...

    class Box: ...

    assert repr(ray.remote(work).options(num_cpus=2)) == "RemoteFunction(work) with other options"
    assert repr(ray.remote(Box).options(num_cpus=2)) == "ActorClass(Box) with other options"
    with pytest.raises(TypeError, match=r"work\.remote\(\)"):
        ray.remote(work).options(num_cpus=2)()
    with pytest.raises(TypeError, match=r"Box\.remote\(\)"):
        ray.remote(Box).options(num_cpus=2)()


# ---- help


def test_remote_has_the_users_parameters_and_a_ref_as_its_return() -> None:
    import inspect

    def many() -> None: ...
    def names(self: int, *args: int) -> "str":  # noqa: UP037  # an annotation that is a text
        """Return the names."""
        return ""

    assert str(inspect.signature(ray.remote(plain).remote)).startswith("(x: ")
    assert "ObjectRef[int]" in str(inspect.signature(ray.remote(plain).remote))
    shown = ray.remote(names).remote
    assert list(inspect.signature(shown).parameters) == ["self", "args"]
    assert inspect.getdoc(shown).startswith("Return the names.\n\n`names.remote(...)` runs this")  # type: ignore[union-attr]
    assert "a list of 2 ObjectRefs" in (ray.remote(many).options(num_returns=2).remote.__doc__ or "")


def test_help_shows_a_remote_function_and_a_method_like_functions(backend: Recorder) -> None:
    import pydoc

    plaintext: Any = vars(pydoc)["plaintext"]  # unknown to typeshed

    class A:
        """Hold a number."""

        def m(self, amount: int) -> None:
            """Add to the number."""

    handle = ray.remote(A).remote()
    functions: tuple[Any, ...] = (ray.remote(plain), ray.remote(plain).remote)
    for target in functions:
        shown = pydoc.render_doc(target, renderer=plaintext)
        assert "(x: " in shown
        assert "Add the numbers." in shown
    assert "A()\n    Hold a number." in pydoc.render_doc(ray.remote(A), renderer=plaintext)
    methods: tuple[Any, ...] = (handle.m, handle.m.remote)
    for target in methods:
        shown = pydoc.render_doc(target, renderer=plaintext)
        assert "(amount: " in shown
        assert "self" not in shown
        assert "Add to the number." in shown


def test_functions_and_classes_and_methods_can_be_pickled_after_a_call_of_help(backend: Recorder) -> None:
    import pickle

    class A:
        def m(self, amount: int) -> int:
            return amount

    handle = ray.remote(A).remote()
    (method,) = ray.get(ray.put([handle.m]))
    assert ray.get(method.remote(2)) == 2
    remote_len = ray.remote(len)
    assert remote_len.remote.__doc__
    assert ray.get(pickle.loads(pickle.dumps(remote_len)).remote("four")) == 4


def test_a_remote_function_is_freed_without_the_garbage_collector(backend: Recorder) -> None:
    import gc
    import weakref

    fn = ray.remote(plain)
    ray.get(fn.remote(1))
    gc.disable()
    try:
        died = weakref.ref(fn)
        del fn
        assert died() is None
    finally:
        gc.enable()


def test_a_remote_function_in_a_class_is_not_bound() -> None:
    class A:
        fn = ray.remote(plain)

    assert A().fn is A.fn
