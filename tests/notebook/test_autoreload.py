"""`%autoreload` reaches the workers, in a kernel as users have it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ipyremote.remote_cells import reloading
from tests.notebook.test_kernel import Kernel, kernel

__all__ = ["kernel"]


@pytest.mark.processes
def test_an_edited_module_is_reloaded_for_tasks_and_remote_cells_too(kernel: Kernel, tmp_path: Path) -> None:
    module = tmp_path / "edited_by_the_test.py"
    module.write_text("def answer():\n    return 'first'\n")
    kernel.run(f"import sys; sys.path.insert(0, {str(tmp_path)!r})\nimport edited_by_the_test")
    kernel.run("%load_ext autoreload\n%autoreload 2")
    kernel.run(
        "@ipyremote.remote\n"
        "def ask(path):\n"
        "    import sys; sys.path.insert(0, path)\n"
        "    import edited_by_the_test\n"
        "    return edited_by_the_test.answer()"
    )
    asks = f"print(ipyremote.get([ask.remote({str(tmp_path)!r}) for _ in range(8)]))"
    assert kernel.text(kernel.run(asks)) == f"{['first'] * 8}\n"
    module.write_text("def answer():\n    return 'and then the second'\n")
    assert kernel.text(kernel.run(asks)) == f"{['and then the second'] * 8}\n"
    cell = kernel.run("%%remote --block\nimport edited_by_the_test\nprint(edited_by_the_test.answer())")
    assert kernel.text(cell) == "and then the second\n"
    kernel.run("%autoreload 0")


def test_a_module_is_imported_again_once_for_each_edit(monkeypatch: pytest.MonkeyPatch) -> None:
    reloaded: list[str] = []
    monkeypatch.setattr(reloading, "_refreshed", {})
    monkeypatch.setattr("importlib.reload", lambda module: reloaded.append(module.__name__))
    for time in (1, 1, 2, 1):
        reloading.refresh({"json": time, "never_imported_here": time})
    assert reloaded == ["json", "json"]


def test_a_module_that_cannot_be_imported_again_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(module: object) -> None:
        raise SyntaxError("half saved")

    monkeypatch.setattr(reloading, "_refreshed", {})
    monkeypatch.setattr("importlib.reload", fail)
    reloading.refresh({"json": 1})
