"""The modules that an import of a part of the package may load."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest

from tests.support.sources import PACKAGE, ROOT, modules, relative, syntax

#: Modules that an import of the package must not load: they cost time and only notebooks need them.
NOTEBOOK = {
    "IPython",
    "anywidget",
    "comm",
    "ipykernel",
    "ipywidgets",
    "nh3",
    "traitlets",
    "ipyremote.notebook",
}
DATA = {"numpy", "pandas", "matplotlib", "sklearn"}
#: Modules of the package's own engine and of its wire, which are not needed before `init`.
ENGINE = {
    "setproctitle",
    "pathspec",
    "pythonjsonlogger",
    "msgspec",
    "zmq",
    "ipyremote.client",
    "ipyremote.core",
    "ipyremote.messages",
    "ipyremote.scheduler",
    "ipyremote.store",
    "ipyremote.wire",
    "ipyremote.worker",
}
#: Modules that only `install_as_ray` needs; the standard library's own take 5 ms of the start.
ALIASES = {"ipyremote.compat.aliases", "importlib.util", "importlib.resources"}
PEERS = {"ray", "dask", "distributed", "ipyparallel", "loky", "joblib"}

#: Entry module of a process -> modules that importing the entry module must not load.
ENTRANCES = {
    "ipyremote": NOTEBOOK | DATA | PEERS | ENGINE | ALIASES | {"ipyremote.util"},
    "ipyremote.remote_cells": NOTEBOOK | DATA | PEERS | ENGINE | {"ipyremote.util", "tqdm"},
    "ipyremote.util": NOTEBOOK
    | DATA
    | PEERS
    | {"asyncio", "tqdm", "ipyremote.scheduler", "ipyremote.worker"},
    "ipyremote.scheduler.process": NOTEBOOK | DATA | PEERS | {"ipyremote.worker"},
    "ipyremote.worker.process": NOTEBOOK | DATA | PEERS | {"ipyremote.scheduler", "ipyremote.core"},
    "ipyremote.benchmark": NOTEBOOK | DATA | PEERS,
}

#: Reason why a file may use `os.environ`.
READERS = {
    "settings.py": "it is its subject",
    "process_title.py": "a variable tells setproctitle to leave the memory of the environment alone",
    "worker/run.py": "it sets CUDA_VISIBLE_DEVICES for the user's code",
    "remote_cells/ipython_shell.py": "%env of a remote cell shows and sets it; !commands go to the shell of the user",
    "benchmark/engine_processes.py": "the benchmark is a program of its own, around several engines",
}


@pytest.mark.processes
@pytest.mark.parametrize("entrance", ENTRANCES)
def test_an_import_loads_only_the_modules_that_it_needs(entrance: str) -> None:
    program = f"import sys, {entrance}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    assert set() == ENTRANCES[entrance] & set(done.stdout.split())


def test_only_settings_and_listed_files_use_the_environment() -> None:
    asking: list[str] = []
    for path in modules():
        if str(path.relative_to(PACKAGE)) in READERS:
            continue
        for node in ast.walk(syntax(path)):
            match node:
                case ast.Attribute(
                    value=ast.Name(id="os"), attr="environ" | "environb" | "getenv" | "putenv"
                ):
                    asking.append(f"{relative(path)}:{node.lineno} uses os.{node.attr}")
                case ast.ImportFrom(module="os", names=names):
                    taken = {"environ", "environb", "getenv"} & {name.name for name in names}
                    asking.extend(f"{relative(path)}:{node.lineno} imports os.{name}" for name in taken)
    assert [] == asking, "ask ipyremote.settings instead"


def test_each_file_that_may_use_the_environment_exists() -> None:
    assert [] == [name for name in READERS if not (PACKAGE / name).exists()]
