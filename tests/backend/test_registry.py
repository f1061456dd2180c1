"""Engines by name: engines of the package, engines that a program registers, and engines of other packages."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import ipyremote
from ipyremote.backend import registry
from tests.engines.toy import ENGINE


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    """End the session and unregister the engines of a test."""
    yield
    ipyremote.shutdown()
    for name in registry.names():
        registry.unregister(name)
    registry._entry_points.cache_clear()
    registry._loaded.cache_clear()


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Install a package "faraway" with an entry point of this name that refers to this object."""

    def install(name: str, value: str) -> None:
        about = tmp_path / "faraway-1.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text("Metadata-Version: 2.1\nName: faraway\nVersion: 1.0\n")
        (about / "entry_points.txt").write_text(f"[{registry.GROUP}]\n{name} = {value}\n")
        (tmp_path / "faraway.py").write_text(
            "from tests.engines.toy import ENGINE\nnothing = 5\n", encoding="utf-8"
        )
        (tmp_path / "faraway_broken.py").write_text("import a_library_that_nobody_has\n")
        monkeypatch.syspath_prepend(tmp_path)
        registry._entry_points.cache_clear()
        registry._loaded.cache_clear()
        for module in ("faraway", "faraway_broken"):
            monkeypatch.delitem(sys.modules, module, raising=False)

    return install


# ---- names


def test_engines_of_the_package_are_listed_first() -> None:
    assert registry.names() == ("local", "inline")
    registry.register("toy", ENGINE)
    assert registry.names() == ("local", "inline", "toy")


def test_a_registered_engine_is_found_until_it_is_unregistered() -> None:
    registry.register("toy", ENGINE)
    assert registry.engine("toy") is ENGINE
    assert registry.engine_of("toy://anywhere") == ("toy", ENGINE)
    registry.unregister("toy")
    registry.unregister("toy")
    assert registry.engine_of("toy://anywhere") is None
    with pytest.raises(LookupError, match="there is no engine 'toy'; there are: local, inline"):
        registry.engine("toy")


@pytest.mark.parametrize("name", ["", "Toy", "to y", "toy://", "toy/", "toy:", "tö"])
def test_an_engine_name_that_is_no_address_scheme_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"lower-case letters, digits, '\+' and '-', not"):
        registry.register(name, ENGINE)


@pytest.mark.parametrize("name", ["local", "inline", "auto"])
def test_the_name_of_an_engine_of_the_package_cannot_be_registered(name: str) -> None:
    with pytest.raises(ValueError, match=f"'{name}' means an engine of ipyremote itself"):
        registry.register(name, ENGINE)


def test_an_object_that_is_no_engine_is_refused() -> None:
    wrong: Any = object()
    with pytest.raises(TypeError, match="the engine 'toy' is an `Engine` with `capabilities`, not <object"):
        registry.register("toy", wrong)


def test_addresses_of_this_machine_select_the_default_engine() -> None:
    assert [registry.engine_of(address) for address in ("local", "auto", "/dev/shm/ipyremote-x")] == [
        ("local", registry.engine("local"))
    ] * 3


# ---- init


@pytest.mark.parametrize("address", ["nosuch://x", "ray://host:10001"])
def test_the_error_for_an_unknown_address_scheme_lists_the_engines(address: str) -> None:
    name = address.partition(":")[0]
    with pytest.raises(NotImplementedError, match=f"there is no engine '{name}'.* there are: local, inline"):
        ipyremote.init(address)
    assert not ipyremote.is_initialized()


def test_the_error_for_an_unknown_backend_lists_the_engines() -> None:
    registry.register("toy", ENGINE)
    with pytest.raises(ValueError, match="backend is one of 'local', 'inline', 'toy', not 'nosuch'"):
        ipyremote.init(backend="nosuch")


def test_arguments_for_a_start_are_refused_when_joining_a_session() -> None:
    registry.register("toy", ENGINE)
    with pytest.raises(ValueError, match="so num_cpus cannot be chosen any more"):
        ipyremote.init("toy://there", num_cpus=2)


# ---- other packages


def test_an_engine_of_another_package_is_found_by_its_entry_point(
    install: Callable[[str, str], None],
) -> None:
    install("faraway", "faraway:ENGINE")
    assert registry.names() == ("local", "inline", "faraway")
    assert "faraway" not in sys.modules, "an engine is imported when it is asked for"
    assert registry.engine("faraway") is ENGINE
    assert repr(ipyremote.init("faraway://", num_cpus=1)) == "ClusterContext(faraway)"
    assert ipyremote.get(ipyremote.remote(lambda: 6).remote(), timeout=20) == 6


def test_the_error_of_an_engine_names_its_missing_package(install: Callable[[str, str], None]) -> None:
    install("faraway", "faraway_broken:ENGINE")
    for init in (lambda: ipyremote.init(backend="faraway"), lambda: ipyremote.init("faraway://host")):
        with pytest.raises(
            ImportError,
            match=r"'faraway' of the package 'faraway' cannot be imported from 'faraway_broken:ENGINE': "
            r"No module named 'a_library_that_nobody_has'. Install what is missing",
        ):
            init()
    assert not ipyremote.is_initialized()


def test_an_entry_point_that_refers_to_nothing_is_a_clear_error(install: Callable[[str, str], None]) -> None:
    install("faraway", "faraway:NO_ENGINE")
    with pytest.raises(ImportError, match="'faraway' of the package 'faraway' is not at 'faraway:NO_ENGINE'"):
        registry.engine("faraway")


def test_an_entry_point_that_is_no_engine_is_a_clear_error(install: Callable[[str, str], None]) -> None:
    install("faraway", "faraway:nothing")
    with pytest.raises(TypeError, match="the engine 'faraway' is an `Engine` with `capabilities`, not 5"):
        registry.engine("faraway")


def test_a_registered_engine_takes_precedence_over_an_entry_point(
    install: Callable[[str, str], None],
) -> None:
    install("faraway", "faraway_broken:ENGINE")
    registry.register("faraway", ENGINE)
    assert registry.engine("faraway") is ENGINE


# ---- without a look at installed packages


@pytest.mark.processes
@pytest.mark.parametrize("arguments", ["", "backend='inline'", "'local'"])
def test_a_session_of_an_engine_of_the_package_starts_without_reading_entry_points(arguments: str) -> None:
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
def test_the_scheme_of_an_address_selects_the_engine(address: str, name: str) -> None:
    found = registry.engine_of(address)
    assert found is not None
    assert (found[0], found[1].capabilities.engine) == (name, name)


def test_an_unknown_engine_name_is_refused_with_the_known_names() -> None:
    assert registry.engine_of("nosuch://head:1") is None
    with pytest.raises(LookupError, match="no engine 'nosuch'; there are: local, inline"):
        registry.engine("nosuch")
    with pytest.raises(ValueError, match="backend is one of 'local', 'inline', not 'nosuch'"):
        ipyremote.init(backend="nosuch")
