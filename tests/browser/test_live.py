"""Live refs, output and lifetimes in JupyterLab, as users see them."""

from __future__ import annotations

import re
import time
from contextlib import suppress
from pathlib import Path

import psutil
from playwright.sync_api import expect

from tests.browser.clusters import session_processes, shown
from tests.browser.lab import Lab
from tests.support import leaks
from tests.support.sources import ROOT
from tests.support.waiting import until


def open_files() -> list[str]:
    """Return the names of the files that processes of sessions have open."""
    names = []
    for process in session_processes():
        with suppress(psutil.Error):
            names += [file.path for file in process.open_files()]
    return names


def test_a_running_ref_shows_a_growing_time(lab: Lab, tmp_path: Path, gate: Path) -> None:
    shown(lab, tmp_path, f"slow.remote({str(gate)!r})")
    lab.run(3)
    expect(lab.refs(3, "running")).to_have_count(1)
    earlier = lab.text(3)
    until(lambda: lab.text(3) != earlier, "the time shown changes", 5)
    gate.touch()
    expect(lab.refs(3, "resolved")).to_have_count(1)


def test_the_cancel_button_of_a_ref_cancels_its_task(lab: Lab, tmp_path: Path, gate: Path) -> None:
    shown(lab, tmp_path, f"slow.remote({str(gate)!r})")
    lab.run(3)
    expect(lab.refs(3, "running")).to_have_count(1)
    lab.output(3).get_by_role("button", name=re.compile("cancel", re.IGNORECASE)).click()
    expect(lab.refs(3, "cancelled")).to_have_count(1)


def test_a_failed_ref_shows_its_error(lab: Lab, tmp_path: Path) -> None:
    shown(lab, tmp_path, "@ipyremote.remote\ndef wrong():\n    return {}['colour']\nwrong.remote()")
    lab.run(3)
    expect(lab.refs(3, "failed")).to_have_count(1)
    expect(lab.refs(3)).to_contain_text("KeyError")


def test_markup_in_a_value_is_shown_as_text(lab: Lab, tmp_path: Path) -> None:
    evil = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
    shown(lab, tmp_path, f"@ipyremote.remote\ndef evil():\n    return {evil!r}\nevil.remote()")
    lab.run(3)
    expect(lab.refs(3, "resolved")).to_have_count(1)
    expect(lab.refs(3)).to_contain_text("<img src=x")
    assert lab.page.title() != "owned"


def test_the_saved_file_shows_the_final_state_without_a_kernel(lab: Lab, tmp_path: Path, gate: Path) -> None:
    shown(lab, tmp_path, f"slow.remote({str(gate)!r})")
    lab.run(3)
    gate.touch()
    expect(lab.refs(3, "resolved")).to_have_count(1)
    saved = lab.save()
    assert {"text/html", "text/plain"} == set(saved.cells[3].outputs[0].data)
    lab.new_kernel()
    expect(lab.refs(3, "resolved")).to_have_count(1)
    expect(lab.refs(3)).to_contain_text("[7, 8, 9]")


def test_a_view_says_that_the_ending_kernel_has_closed_its_widget(
    lab: Lab, tmp_path: Path, gate: Path
) -> None:
    # The front end removes the subshell of the widget's messages together with the last widget. If a message is still
    # on its way, ipykernel prints "Task was destroyed but it is pending!" into the user's cell.
    frames: list[tuple[float, bytes]] = []

    def note(frame: str | bytes) -> None:
        frames.append((time.monotonic(), frame if isinstance(frame, bytes) else frame.encode()))

    def times(part: bytes) -> list[float]:
        lab.page.wait_for_timeout(20)  # the page reports frames during this wait
        return [moment for moment, frame in frames if part in frame]

    lab.page.on("websocket", lambda socket: socket.on("framesent", note))
    lab.page.on("websocket", lambda socket: socket.on("framereceived", note))
    shown(lab, tmp_path, f"slow.remote({str(gate)!r})")
    lab.run(3)
    expect(lab.refs(3, "running")).to_have_count(1)
    frames.clear()
    gate.touch()
    until(lambda: times(b"delete_subshell_request"), "the subshell is deleted", 20)
    replaced = times(b'"update_display_data"')[-1]
    assert [] == [moment for moment in times(b'"kind":"gone"') if moment < replaced + 0.3]


def test_a_reloaded_page_follows_running_tasks(lab: Lab, tmp_path: Path, gate: Path) -> None:
    shown(lab, tmp_path, f"slow.remote({str(gate)!r})")
    lab.run(3)
    expect(lab.refs(3, "running")).to_have_count(1)
    lab.save()
    lab.reopen()
    expect(lab.refs(3, "running")).to_have_count(1)
    gate.touch()
    expect(lab.refs(3, "resolved")).to_have_count(1)
    expect(lab.refs(3)).to_contain_text("[7, 8, 9]")
    expect(lab.output(3).get_by_role("button")).to_have_count(0)


def test_a_page_opened_after_the_end_of_a_task_shows_its_result(lab: Lab, tmp_path: Path, gate: Path) -> None:
    shown(lab, tmp_path, f"ref = slow.remote({str(gate)!r})\nref")
    lab.run(3)
    expect(lab.refs(3, "running")).to_have_count(1)
    lab.save()
    lab.page.goto("about:blank")
    gate.touch()
    lab.reopen()
    expect(lab.refs(3, "resolved")).to_have_count(1)
    expect(lab.refs(3)).to_contain_text("[7, 8, 9]")


def test_a_short_list_of_refs_is_a_board_with_their_names(lab: Lab, tmp_path: Path, gate: Path) -> None:
    shown(lab, tmp_path, f"[slow.remote({str(gate)!r}) for _ in range(3)]")
    lab.run(3)
    items = lab.output(3).locator(".ipyremote-board [role=listitem]")
    expect(items).to_have_count(3)
    expect(items.nth(0)).to_contain_text("slow#1")
    gate.touch()
    expect(lab.output(3).locator('.ipyremote-board[data-state="resolved"]')).to_have_count(1)
    expect(items.nth(2)).to_have_text(re.compile("slow#3.*resolved"))


def test_the_stop_button_ends_get_but_not_the_task_or_the_next_cell(
    lab: Lab, tmp_path: Path, gate: Path
) -> None:
    shown(lab, tmp_path, f"ref = slow.remote({str(gate)!r})\nipyremote.get(ref)", "print(ipyremote.get(ref))")
    lab.run(3, wait=False)
    expect(lab.cell(3).locator(".jp-InputPrompt")).to_contain_text("*")
    before = {process.pid for process in session_processes()}
    lab.interrupt()
    lab.wait_run(3, within=5)
    assert "KeyboardInterrupt" in "".join(lab.errors())
    gate.touch()
    lab.run(4)
    assert lab.text(4).strip() == "[7, 8, 9]"
    assert before <= {process.pid for process in session_processes()}


def test_a_kernel_restart_leaves_no_process_and_no_directory(lab: Lab, tmp_path: Path, gate: Path) -> None:
    directories = leaks.session_directories()
    shown(lab, tmp_path, f"slow.remote({str(gate)!r})")
    lab.run(3)
    expect(lab.refs(3, "running")).to_have_count(1)
    assert session_processes()
    new = leaks.session_directories() - directories
    own = {path for path in new if any(f"{path}/" in text for text in open_files())}
    assert own
    lab.restart()
    expect(lab.refs(3, "lost")).to_contain_text("The kernel was restarted")
    expect(lab.output(3).get_by_role("button")).to_have_count(0)
    until(lambda: not session_processes(), "the session's processes have ended", 3)
    until(lambda: not own & leaks.session_directories(), "the session's directory is gone", 3)
    lab.run(0)
    lab.run(1)
    assert lab.errors() == []


def test_the_tutorial_runs_from_top_to_bottom(lab: Lab) -> None:
    lab.open(ROOT / "notebooks" / "01_start.ipynb")
    lab.run_all(within=120)
    lab.screenshot("01_start")
    book = lab.save()
    wrong = [
        cell.source
        for cell in book.cells
        for output in cell.get("outputs", ())
        if output.output_type == "error" and "raises-exception" not in cell.metadata.get("tags", ())
    ]
    assert wrong == []
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
