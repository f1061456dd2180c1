"""A worker has no keyboard, and functions that need one raise an error that says so."""

from __future__ import annotations

import builtins
import getpass
import pdb
import sys

import pytest

from ipyremote.remote_cells import keyboard
from ipyremote.remote_cells.changes import Changes


@pytest.fixture(autouse=True)
def restored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builtins, "input", builtins.input)
    monkeypatch.setattr(getpass, "getpass", getpass.getpass)
    monkeypatch.setattr(pdb, "set_trace", pdb.set_trace)
    monkeypatch.setattr(sys, "breakpointhook", sys.breakpointhook)
    monkeypatch.delenv("PYTHONBREAKPOINT", raising=False)
    monkeypatch.setattr(getpass, "unix_getpass", getattr(getpass, "unix_getpass", None))


def test_input_and_getpass_raise_an_error_with_an_alternative(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyboard, "_stdin_is_null", lambda: True)
    keyboard.install(Changes())
    with pytest.raises(RuntimeError, match=r"^input\(\) does not work in a remote cell or task"):
        input("name? ")
    with pytest.raises(RuntimeError, match=r"^getpass\(\) does not work"):
        getpass.getpass("word? ", stream=None)


def test_breakpoint_raises_an_error_that_says_where_it_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyboard, "_stdin_is_null", lambda: True)
    keyboard.install(Changes())
    with pytest.raises(RuntimeError, match=r'^breakpoint\(\) does not work .*init\(backend="inline"\)'):
        breakpoint()  # the call under test
    with pytest.raises(RuntimeError, match=r"^pdb\.set_trace\(\) does not work"):
        pdb.set_trace()


def test_a_breakpoint_hook_of_the_user_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyboard, "_stdin_is_null", lambda: True)
    monkeypatch.setenv("PYTHONBREAKPOINT", "0")
    keyboard.install(Changes())
    breakpoint()  # the user's hook does nothing


def test_input_stays_unchanged_in_a_process_with_a_keyboard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyboard, "_stdin_is_null", lambda: False)
    before = builtins.input
    keyboard.install(Changes())
    assert builtins.input is before
