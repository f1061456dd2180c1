"""Loading and unloading of the extension, complete even after failures; and displays by a shell's formatters."""

from __future__ import annotations

import gc
import threading
from collections import OrderedDict, namedtuple
from collections.abc import Iterator
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell

from ipyremote.backend import StateReport, TextReport, current, registry
from ipyremote.declare import exports
from ipyremote.exceptions import ClusterLostError, IPyRemoteSystemError
from ipyremote.ids import ObjectId
from ipyremote.notebook import extension
from ipyremote.notebook.display.ref_groups import refs_in
from ipyremote.notebook.extension import Notebook
from ipyremote.notebook.output.cell_output import CELL_LABEL
from ipyremote.notebook.output.frontend import TerminalFrontend
from ipyremote.session import lifecycle
from tests.notebook.fakes import FakeBackend, FakeEngine, FakeFrontend
from tests.support.waiting import until


@pytest.fixture
def startable(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """Let `init` start fake backends; return the list of its arguments, one entry for each start."""
    engine = FakeEngine()
    monkeypatch.setitem(registry._registered, "local", engine)
    yield engine.started
    lifecycle.shutdown()


def ipython_displays(shell: InteractiveShell) -> Any:
    """Return the formatter with the printers of types that display themselves."""
    assert shell.display_formatter is not None
    return shell.display_formatter.ipython_display_formatter


def surroundings(shell: InteractiveShell) -> dict[str, Any]:
    """Return the state of all parts of a shell that loading may change."""
    formatter = ipython_displays(shell)
    return {
        "events": {name: list(callbacks) for name, callbacks in shell.events.callbacks.items()},
        "printers": dict(formatter.type_printers),
        "deferred": dict(formatter.deferred_printers),
        "magics": {kind: dict(found) for kind, found in shell.magics_manager.magics.items()},
        "registry": dict(shell.magics_manager.registry),
        "configurables": [id(one) for one in shell.configurables],
        "names": {name for name in shell.user_ns if not name.startswith("_")},
        "transformers": list(shell.input_transformers_post),
        "threads": {one.name for one in threading.enumerate() if one.name.startswith("ipyremote")},
        "observers": list(current._current.observers),
        "backend": current.peek(),
    }


def test_unload_undoes_all_that_load_has_done(
    shell: InteractiveShell, frontend: FakeFrontend, startable: list[dict[str, Any]]
) -> None:
    before = surroundings(shell)
    for _ in range(2):
        notebook = Notebook(shell, frontend)
        notebook.load()
        assert surroundings(shell).keys() == before.keys()
        assert all(
            surroundings(shell)[part] != before[part] for part in ("events", "printers", "magics", "backend")
        )
        shell.run_cell("x = 1")
        notebook.unload()
        until(lambda: surroundings(shell)["threads"] == set(), "our threads have ended", 5)
        after = surroundings(shell)
        after["names"] -= {"x"}
        assert after == before


def test_printers_of_other_packages_come_back_after_unloading(
    shell: InteractiveShell, frontend: FakeFrontend, backend: FakeBackend
) -> None:
    seen: list[Any] = []
    formatter = ipython_displays(shell)
    formatter.for_type(list, seen.append)
    current.install(backend)
    notebook = Notebook(shell, frontend)
    notebook.load()
    shell.run_cell("[1, 2]")
    assert seen == [[1, 2]]
    notebook.unload()
    current.remove(backend)
    assert formatter.type_printers[list] == seen.append


def test_a_printer_that_replaced_that_of_ipyremote_stays(
    shell: InteractiveShell, frontend: FakeFrontend, backend: FakeBackend
) -> None:
    current.install(backend)
    notebook = Notebook(shell, frontend)
    notebook.load()
    formatter = ipython_displays(shell)
    formatter.for_type(list, repr)
    notebook.unload()
    current.remove(backend)
    assert formatter.type_printers[list] is repr


def test_load_ext_by_name_loads_the_extension_once(
    shell: InteractiveShell, startable: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    before = surroundings(shell)
    # IPython itself loads some magics at their first use, which is no change by the extension.
    manager: Any = shell.extension_manager
    assert manager.load_extension("ipyremote") is None
    assert manager.load_extension("ipyremote") == "already loaded"
    extension.load(shell)
    assert len(startable) == 1
    manager.reload_extension("ipyremote")
    assert len(startable) == 2
    manager.unload_extension("ipyremote")
    until(lambda: surroundings(shell)["threads"] == set(), "our threads have ended", 5)
    assert surroundings(shell) == before
    assert capsys.readouterr().err == ""


# ---- the cluster


def state_of(bundle: dict[str, Any]) -> str:
    return str(bundle["text/html"]).split('data-state="')[1].split('"')[0]


def test_loading_starts_a_cluster_and_its_card_turns_ready(
    shell: InteractiveShell, frontend: FakeFrontend, startable: list[dict[str, Any]]
) -> None:
    shell.config.IPyRemote.num_workers = 3
    notebook = Notebook(shell, frontend)
    notebook.load()
    assert startable == [{"num_cpus": 3.0}]
    assert len(frontend.displays) == 1
    until(lambda: frontend.updates and state_of(frontend.updates[-1][1]) == "ready", "the card says ready", 5)
    assert "CPUs 4" in frontend.updates[-1][1]["text/html"]
    notebook.unload()
    assert current.peek() is None


def test_a_cluster_without_work_follows_its_settings(
    shell: InteractiveShell, frontend: FakeFrontend, startable: list[dict[str, Any]]
) -> None:
    notebook = Notebook(shell, frontend)
    notebook.load()
    notebook.config.num_workers = 3
    notebook.config.object_store_memory = 1 << 30
    assert startable == [{}, {"num_cpus": 3.0}, {"num_cpus": 3.0, "object_store_memory": 1 << 30}]
    notebook.config.object_store_memory = None
    assert startable[-1] == {"num_cpus": 3.0}
    notebook.unload()
    assert current.peek() is None


def test_the_first_task_starts_a_cluster_with_the_settings(
    shell: InteractiveShell, frontend: FakeFrontend, startable: list[dict[str, Any]]
) -> None:
    shell.config.IPyRemote.autostart = False
    shell.config.IPyRemote.num_workers = 3
    notebook = Notebook(shell, frontend)
    notebook.load()
    assert startable == []
    current.backend()
    assert startable == [{"num_cpus": 3.0}]
    lifecycle.shutdown()
    notebook.unload()
    current.backend()
    assert startable[-1] == {}
    lifecycle.shutdown()


def test_a_cluster_that_cannot_start_is_reported_on_the_card(
    shell: InteractiveShell, frontend: FakeFrontend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(registry._registered, "local", FakeEngine(OSError("no room")))
    notebook = Notebook(shell, frontend)
    notebook.load()
    until(
        lambda: any(
            "OSError: no room" in bundle["text/html"]
            for bundle in [bundle for _, bundle in frontend.displays]
            + [bundle for _, bundle, _ in frontend.updates]
        ),
        "the error is shown",
        5,
    )
    notebook.unload()


def test_an_init_with_other_arguments_replaces_the_cluster_silently_before_any_work(
    shell: InteractiveShell, frontend: FakeFrontend, startable: list[dict[str, Any]]
) -> None:
    notebook = Notebook(shell, frontend)
    notebook.load()
    first = current.peek()
    lifecycle.init(num_cpus=2)
    second = current.peek()
    assert isinstance(second, FakeBackend)
    assert second is not first
    assert second.listener is not None
    notebook.unload()
    assert current.peek() is second


def test_an_init_without_arguments_returns_the_running_cluster(
    shell: InteractiveShell, frontend: FakeFrontend, startable: list[dict[str, Any]]
) -> None:
    notebook = Notebook(shell, frontend)
    notebook.load()
    first = current.peek()
    lifecycle.init()
    assert current.peek() is first
    notebook.unload()


def test_an_init_with_other_arguments_after_work_is_refused(
    shell: InteractiveShell, frontend: FakeFrontend, startable: list[dict[str, Any]]
) -> None:
    notebook = Notebook(shell, frontend)
    notebook.load()
    shell.run_cell_magic("remote", "", "1")
    assert exports.last_used() is current.peek()
    with pytest.raises(RuntimeError, match="Maybe you called init twice"):
        lifecycle.init(num_cpus=2)
    notebook.unload()


def test_a_running_cluster_is_used_and_left_running(
    shell: InteractiveShell, frontend: FakeFrontend, backend: FakeBackend, startable: list[dict[str, Any]]
) -> None:
    current.install(backend)
    notebook = Notebook(shell, frontend)
    notebook.load()
    assert startable == []
    assert backend.listener is not None
    notebook.unload()
    assert current.peek() is backend
    assert [backend.listener, backend.cell] == [None, 0]
    current.remove(backend)


def test_without_autostart_nothing_is_started_or_shown(
    shell: InteractiveShell, frontend: FakeFrontend, startable: list[dict[str, Any]]
) -> None:
    shell.config.IPyRemote.autostart = False
    notebook = Notebook(shell, frontend)
    notebook.load()
    assert (startable, frontend.displays) == ([], [])
    notebook.unload()


def test_in_static_mode_the_cluster_card_names_no_resources(
    shell: InteractiveShell,
    frontend: FakeFrontend,
    startable: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("IPYREMOTE_STATIC", "1")
    notebook = Notebook(shell, frontend)
    notebook.load()
    ((_, bundle),) = frontend.displays
    assert state_of(bundle) == "ready"
    assert "CPUs" not in bundle["text/html"]
    assert frontend.updates == []
    notebook.unload()


# ---- cells


def test_each_cell_gets_its_number_as_token_and_an_epoch(
    shell: InteractiveShell, loaded: Notebook, frontend: FakeFrontend, backend: FakeBackend
) -> None:
    epoch, number = exports.epoch(), shell.execution_count
    frontend.request = {"cell": "next"}
    shell.run_cell("1", store_history=True)
    assert (exports.epoch(), backend.cell) == (epoch + 1, number)
    assert loaded.cells.parent(backend.cell) == {"cell": "next"}
    shell.run_cell("2", store_history=True)
    assert backend.cell == number + 1


def test_a_run_without_a_number_and_one_that_repeats_a_number_get_tokens_of_their_own(
    shell: InteractiveShell, loaded: Notebook, backend: FakeBackend
) -> None:
    shell.run_cell("1", store_history=True)
    numbered = backend.cell
    tokens = {backend.cell}
    for _ in range(3):
        shell.run_cell("1")
        assert backend.cell < 0
        tokens.add(backend.cell)
    # Remove the names, as `%reset` does.
    shell.execution_count = numbered
    shell.run_cell("1")
    shell.run_cell("1", store_history=True)
    assert backend.cell < 0
    tokens.add(backend.cell)
    assert len(tokens) == 5
    assert all(loaded.cells.parent(token) is not None for token in tokens)


def test_output_appears_under_the_cell_that_asked(
    shell: InteractiveShell, loaded: Notebook, frontend: FakeFrontend, backend: FakeBackend
) -> None:
    frontend.request = {"cell": "first"}
    shell.run_cell("1")
    asked = backend.cell
    frontend.request = {"cell": "second"}
    shell.run_cell("2")
    assert backend.listener is not None
    backend.listener.on_output(TextReport(asked, "f#1", 1, "hello\n"))
    backend.listener.on_output(TextReport(asked, f"{CELL_LABEL}#1", 1, "bare\n"))
    assert frontend.streams == [
        ("stdout", "(f#1) hello\n", {"cell": "first"}),
        ("stdout", "bare\n", {"cell": "first"}),
    ]


def test_collected_output_is_sent_before_the_cell_ends(
    shell: InteractiveShell, loaded: Notebook, frontend: FakeFrontend, backend: FakeBackend
) -> None:
    assert backend.listener is not None
    listener = backend.listener

    def print_much() -> None:
        for _ in range(1_000):
            listener.on_output(TextReport(backend.cell, f"{CELL_LABEL}#1", 1, "x\n"))

    shell.user_ns["print_much"] = print_much
    shell.run_cell("print_much();")
    assert frontend.text() == "x\n" * 1_000


def test_a_lost_cluster_is_told_in_one_clear_line(
    loaded: Notebook, frontend: FakeFrontend, backend: FakeBackend
) -> None:
    assert backend.listener is not None
    backend.listener.on_lost("the scheduler was killed by signal 9.")
    assert frontend.text("stderr") == "ipyremote: the scheduler was killed by signal 9.\n"


def test_unloading_before_the_cluster_is_up_is_no_failure_of_its_start(
    shell: InteractiveShell,
    frontend: FakeFrontend,
    startable: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked, answered = threading.Event(), threading.Event()

    def resources(backend: FakeBackend) -> tuple[dict[str, float], dict[str, float]]:
        asked.set()
        assert answered.wait(5)
        raise IPyRemoteSystemError("The session was shut down")

    def shutdown(backend: FakeBackend) -> None:
        backend.ended = "The session was shut down"
        answered.set()
        # The backend is the current one while this shutdown lasts.
        until(nobody_waits, "no thread waits any more", 5)

    monkeypatch.setattr(FakeBackend, "resources", resources)
    monkeypatch.setattr(FakeBackend, "shutdown", shutdown)
    frontend.rich = False
    notebook = Notebook(shell, frontend)
    notebook.load()
    assert asked.wait(5)
    notebook.unload()
    until(nobody_waits, "no thread waits any more", 5)
    assert frontend.text("stderr") == ""


def nobody_waits() -> bool:
    return all(thread.name != "ipyremote-start" for thread in threading.enumerate())


def test_the_card_says_when_the_cluster_is_lost_and_when_another_one_runs(
    shell: InteractiveShell, frontend: FakeFrontend, startable: list[dict[str, Any]]
) -> None:
    def shows(state: str) -> bool:
        return bool(frontend.updates) and state_of(frontend.updates[-1][1]) == state

    notebook = Notebook(shell, frontend)
    notebook.load()
    until(lambda: shows("ready"), "the card says ready", 5)
    first = current.peek()
    assert isinstance(first, FakeBackend)
    assert first.listener is not None
    first.listener.on_lost("killed by signal 9")
    until(lambda: shows("lost"), "the card says lost", 5)
    assert "killed by signal 9" in frontend.updates[-1][1]["text/html"]
    lifecycle.shutdown()
    until(lambda: shows("stopped"), "the card says stopped", 5)
    lifecycle.init(num_cpus=2)
    until(lambda: shows("ready"), "the card says ready", 5)
    notebook.unload()
    lifecycle.shutdown()


def test_a_cluster_that_another_one_replaces_before_it_is_up_has_not_failed(
    shell: InteractiveShell,
    frontend: FakeFrontend,
    startable: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked, ended = threading.Event(), threading.Event()

    def never_answers(backend: FakeBackend) -> Any:
        asked.set()
        assert ended.wait(20)
        raise ClusterLostError(backend.ended)

    def shut_down(backend: FakeBackend) -> None:
        # The waiting thread gets its answer while the backend is still the current one.
        backend.ended = "The session was shut down."
        ended.set()
        until(nobody_waits, "no thread waits any more", 5)

    frontend.rich = False
    monkeypatch.setattr(FakeBackend, "resources", never_answers)
    monkeypatch.setattr(FakeBackend, "shutdown", shut_down)
    notebook = Notebook(shell, frontend)
    notebook.load()
    assert asked.wait(20)
    lifecycle.shutdown()
    notebook.unload()
    assert "did not start" not in frontend.text("stderr")


def test_callbacks_of_the_extension_never_raise(
    shell: InteractiveShell,
    loaded: Notebook,
    frontend: FakeFrontend,
    backend: FakeBackend,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise OSError("the front end is gone")

    for name in ("parent", "stream", "display", "display_under"):
        monkeypatch.setattr(frontend, name, broken)
    assert backend.listener is not None
    backend.listener.on_output(TextReport(1, "f#1", 1, "x"))
    backend.listener.on_notice(1, "x")
    backend.listener.on_update(StateReport(ObjectId(1), "done", "f#1", 0.0, ""))
    backend.listener.on_lost("x")
    result = shell.run_cell("1")
    assert result.success
    assert "front end is gone" not in capsys.readouterr().out


# ---- printers


def test_a_ref_as_last_expression_is_live(
    shell: InteractiveShell, loaded: Notebook, frontend: FakeFrontend, backend: FakeBackend
) -> None:
    shell.user_ns["ref"] = backend.new_ref()
    shell.run_cell("ref")
    ((_, bundle),) = frontend.displays
    assert 'class="ipyremote ipyremote-ref" data-state="pending"' in bundle["text/html"]


@pytest.mark.parametrize(
    "expression", ["[ref, ref]", "(ref,)", "{'a': ref, 'b': [ref]}", "[[ref], (ref, ref)]"]
)
def test_groups_of_refs_are_boards(
    shell: InteractiveShell, loaded: Notebook, frontend: FakeFrontend, backend: FakeBackend, expression: str
) -> None:
    shell.user_ns["ref"] = backend.new_ref()
    shell.run_cell(expression)
    ((_, bundle),) = frontend.displays
    assert 'class="ipyremote ipyremote-board"' in bundle["text/html"]


@pytest.mark.parametrize("expression", ["[1, 2]", "[]", "(1,)", "{'a': 1}", "{}", "[ref, 1]", "od", "nt"])
def test_values_other_than_refs_are_printed_as_before(
    shell: InteractiveShell,
    loaded: Notebook,
    frontend: FakeFrontend,
    backend: FakeBackend,
    expression: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ref = backend.new_ref()
    shell.user_ns.update(ref=ref, od=OrderedDict(a=ref), nt=namedtuple("nt", "a")(ref))
    result = shell.run_cell(expression)
    shown = capsys.readouterr()
    assert repr(result.result).split("(")[0] in shown.out
    assert "Error" not in shown.out
    assert (shown.err, frontend.displays) == ("", [])


def test_a_subclass_with_a_display_of_its_own_keeps_it(
    shell: InteractiveShell, loaded: Notebook, frontend: FakeFrontend
) -> None:
    seen: list[Any] = []

    class Display(list[Any]):
        def _ipython_display_(self) -> None:
            seen.append(self)

    shell.user_ns["shown"] = Display([1])
    shell.run_cell("shown")
    assert seen == [[1]]


def test_a_value_whose_display_fails_is_shown_as_text(
    shell: InteractiveShell,
    loaded: Notebook,
    frontend: FakeFrontend,
    backend: FakeBackend,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(loaded.screen, "show_ref", lambda ref: 1 / 0)
    shell.user_ns["ref"] = backend.new_ref()
    shell.run_cell("ref")
    assert "ObjectRef(square#1)" in capsys.readouterr().out


def test_a_terminal_shows_text(
    shell: InteractiveShell, backend: FakeBackend, capsys: pytest.CaptureFixture[str]
) -> None:
    current.install(backend)
    notebook = Notebook(shell, TerminalFrontend())
    notebook.load()
    try:
        shell.user_ns["refs"] = [backend.new_ref()]
        shell.run_cell("refs")
        shell.run_cell("refs[0]")
        assert backend.listener is not None
        backend.listener.on_output(TextReport(backend.cell, "f#1", 1, "hello\n"))
        backend.listener.on_notice(backend.cell, "careful")
        shown = capsys.readouterr()
        assert "[ObjectRef(square#1)]" in shown.out
        assert "\nOut[1]: ObjectRef(square#1)" in shown.out or "ObjectRef(square#1)\n" in shown.out
        assert "(f#1) hello\n" in shown.out
        assert shown.err == "ipyremote: careful\n"
    finally:
        notebook.unload()
        current.remove(backend)


def test_refs_in_looks_into_nested_groups_only(backend: FakeBackend) -> None:
    ref = backend.new_ref()
    assert refs_in([ref, [ref], {"a": (ref,)}]) == [ref, ref, ref]
    assert refs_in([ref, []]) is None
    assert refs_in({ref: 1}) is None
    nested: list[Any] = []
    nested.append(nested)
    assert refs_in(nested) is None


def test_unloading_makes_the_displays_final(
    shell: InteractiveShell, frontend: FakeFrontend, backend: FakeBackend
) -> None:
    current.install(backend)
    notebook = Notebook(shell, frontend)
    notebook.load()
    notebook.screen.show_ref(backend.new_ref())
    notebook.unload()
    current.remove(backend)
    assert state_of(frontend.updates[-1][1]) == "lost"
    assert "ipyremote was unloaded before it ended" in frontend.updates[-1][1]["text/html"]
    assert notebook.screen.count == 0
    gc.collect()
