"""How an engine is found by its name or by an address."""

from __future__ import annotations

import subprocess
import sys

import pytest

import ipyremote as ray
from ipyremote.backend import registry


@pytest.mark.processes
@pytest.mark.parametrize("arguments", ["", "backend='inline'", "'local'"])
def test_a_session_of_an_own_engine_starts_without_a_look_at_installed_packages(arguments: str) -> None:
    program = (
        f"import sys, ipyremote; ipyremote.init({arguments}); ipyremote.shutdown(); "
        "print('importlib.metadata' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("address", "name"),
    [("local", "local"), ("auto", "local"), ("/dev/shm/ipyremote-x", "local"), ("inline", "inline")],
)
def test_an_address_means_an_engine(address: str, name: str) -> None:
    found = registry.engine_of(address)
    assert found is not None
    assert (found[0], found[1].capabilities.engine) == (name, name)


def test_a_name_that_no_engine_has_is_refused_with_the_names_that_there_are() -> None:
    assert registry.engine_of("nosuch://head:1") is None
    with pytest.raises(LookupError, match="no engine 'nosuch'; there are: local, inline"):
        registry.engine("nosuch")
    with pytest.raises(ValueError, match="backend is one of 'local', 'inline', not 'nosuch'"):
        ray.init(backend="nosuch")
