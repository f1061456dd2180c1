"""`RuntimeEnv`: refused values, checked values, and the merging of parents and children."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import pytest

import ipyremote
from ipyremote.runtime_env import RuntimeEnv, RuntimeEnvConfig, checked, merged


def hook() -> None:
    """Do nothing."""


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        ({"env_vars": ["A"]}, TypeError, "dictionary"),
        ({"env_vars": {"A": 1}}, TypeError, "'A': 1"),
        ({"env_vars": {1: "A"}}, TypeError, "texts"),
        ({"env_vars": {"": "x"}}, ValueError, "no variable"),
        ({"env_vars": {"A=B": "x"}}, ValueError, "no variable"),
        ({"env_vars": {"A": "x\0"}}, ValueError, "no variable"),
        ({"env_vars": {"A": "\udcff"}}, ValueError, "cannot be encoded"),
        ({"working_dir": 1}, TypeError, "path"),
        ({"working_dir": ""}, ValueError, "'.'"),
        ({"working_dir": "/no/such/place"}, ValueError, "does not exist"),
        ({"working_dir": __file__}, ValueError, "neither a directory nor a .zip"),
        ({"working_dir": "s3://bucket/x.zip"}, NotImplementedError, "download the file"),
        ({"working_dir": "https://github.com/a/b.zip"}, NotImplementedError, "download the file"),
        ({"py_modules": "mypackage"}, TypeError, "list"),
        ({"py_modules": [1]}, TypeError, r"py_modules\[0\]"),
        ({"py_modules": ["/no/such/place"]}, ValueError, "does not exist"),
        ({"py_modules": [__import__("sys")]}, ValueError, "has no file"),
        ({"excludes": ["x"]}, ValueError, "nothing is copied"),
        ({"excludes": "x", "working_dir": "."}, TypeError, "patterns"),
        ({"excludes": [1], "working_dir": "."}, TypeError, "patterns"),
        ({"pip": 5}, TypeError, "requirements"),
        ({"pip": [5]}, TypeError, "requirements"),
        ({"pip": "numpy"}, ValueError, "Write a single package as a list of one"),
        ({"pip": {}}, ValueError, "no packages"),
        ({"pip": {"packages": [], "pip_chek": True}}, ValueError, "pip_chek. It has: packages, pip_check"),
        ({"pip": {"packages": [], "pip_check": 1}}, TypeError, "True or False"),
        ({"pip": {"packages": [], "pip_version": 24}}, TypeError, "'==24.0'"),
        ({"pip": {"packages": [], "pip_install_options": "--pre"}}, TypeError, "command line"),
        ({"uv": {"packages": [], "pip_check": True}}, ValueError, "uv_check"),
        ({"pip": [], "uv": []}, ValueError, "one of the two"),
        ({"worker_process_setup_hook": 5}, TypeError, "function"),
        ({"worker_process_setup_hook": "hook"}, ValueError, "module.function"),
        ({"worker_process_setup_hook": lambda x: x}, TypeError, "without arguments"),
        ({"config": 5}, TypeError, "RuntimeEnvConfig"),
        ({"config": {"nonsense": 1}}, ValueError, "nonsense"),
        ({"config": {"setup_timeout_seconds": 0}}, ValueError, "above 0"),
        ({"config": {"setup_timeout_seconds": "1"}}, TypeError, "whole number"),
        ({"config": {"eager_install": 1}}, TypeError, "True or False"),
        ({"conda": "env"}, NotImplementedError, "Use pip or uv"),
        ({"container": {}}, NotImplementedError, "container"),
        ({"image_uri": "x"}, NotImplementedError, "image_uri"),
        ({"nonsense": 1}, ValueError, "no key of runtime_env. Keys are: config, env_vars"),
    ],
)
def test_a_wrong_runtime_environment_is_refused_at_the_declaration(given: Any, error: Any, text: str) -> None:
    with pytest.raises(error, match=text):
        RuntimeEnv(**given)
    with pytest.raises(error, match=text):
        checked(given)


@pytest.mark.parametrize("odd", ["x", 5, [("env_vars", {})]])
def test_a_runtime_environment_that_is_no_dictionary_is_refused(odd: Any) -> None:
    with pytest.raises(TypeError, match="dictionary"):
        checked(odd)
    with pytest.raises(TypeError, match="texts for keys"):
        checked({1: 2})


@pytest.mark.parametrize(
    "nothing", [None, {}, {"pip": None}, {"conda": None, "env_vars": None}, RuntimeEnv()]
)
def test_an_empty_runtime_environment_is_none(nothing: Any) -> None:
    assert checked(nothing) is None


def test_a_checked_environment_has_absolute_paths_and_the_content_of_requirement_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "package").mkdir()
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "local").mkdir()
    (tmp_path / "more" / "needs.txt").write_text("# these\nnumpy>=2  # new\n\n--pre\n./local\n")
    env = RuntimeEnv(
        working_dir=".", py_modules=["package"], pip="more/needs.txt", worker_process_setup_hook=hook
    )
    assert env == {
        "working_dir": str(tmp_path),
        "py_modules": [str(tmp_path / "package")],
        "pip": {"packages": ["numpy>=2", "--pre", str(tmp_path / "more" / "local")]},
        "worker_process_setup_hook": hook,
    }
    assert RuntimeEnv(uv=["./package", "./absent"])["uv"] == {
        "packages": [str(tmp_path / "package"), "./absent"]
    }


def test_modules_in_py_modules_become_their_paths() -> None:
    root = Path(ipyremote.__file__).parent
    env = RuntimeEnv(py_modules=[ipyremote, __import__("ipyremote.ids").ids])
    assert env["py_modules"] == [str(root), str(root / "ids.py")]


def test_a_checked_environment_means_the_same_in_another_process(tmp_path: Path) -> None:
    env = RuntimeEnv(working_dir=tmp_path, config={"setup_timeout_seconds": -1})
    tmp_path.rmdir()
    for other in (pickle.loads(pickle.dumps(env)), copy.deepcopy(env), checked(env)):
        assert isinstance(other, RuntimeEnv)
        assert other == env
        assert other is not env
    assert env["config"] == RuntimeEnvConfig(setup_timeout_seconds=-1, eager_install=True)


def test_keys_of_a_runtime_env_that_are_set_later_are_checked_too() -> None:
    env = RuntimeEnv()
    env["env_vars"] = {"A": "1"}
    env["pip"] = ["x"]
    with pytest.raises(TypeError):
        env["env_vars"] = {"A": 1}
    with pytest.raises(ValueError, match="no key"):
        env["nonsense"] = 1
    env["pip"] = None
    assert env.to_dict() == {"env_vars": {"A": "1"}}
    assert type(env.to_dict()) is dict


def test_functions_of_a_runtime_env_are_names_in_json() -> None:
    env = RuntimeEnv(env_vars={"A": "1"}, worker_process_setup_hook=hook)
    assert json.loads(env.serialize()) == {
        "env_vars": {"A": "1"},
        "worker_process_setup_hook": f"{__name__}.hook",
    }
    assert RuntimeEnv.deserialize(env.serialize())["env_vars"] == {"A": "1"}
    assert repr(RuntimeEnv(env_vars={"A": "1"})) == "RuntimeEnv(env_vars={'A': '1'})"


def test_a_merged_environment_has_the_variables_of_both_and_other_keys_of_the_child() -> None:
    parent = RuntimeEnv(env_vars={"A": "parent", "B": "parent"}, pip=["x"], working_dir="/")
    child = RuntimeEnv(env_vars={"B": "child"}, uv=["y"])
    assert merged(parent, child) == {
        "env_vars": {"A": "parent", "B": "child"},
        "uv": {"packages": ["y"]},
        "working_dir": "/",
    }
    assert merged(parent, {}) == parent
    assert merged({}, child) == child


def test_runtime_env_is_importable_as_in_ray() -> None:
    assert ipyremote.runtime_env.RuntimeEnv is RuntimeEnv
