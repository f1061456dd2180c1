"""The documents: they mention all public names, settings and parts, and every name in them exists."""

from __future__ import annotations

import ast
import re
import tomllib

import yaml

import ipyremote
from ipyremote import settings
from tests.support.sources import PACKAGE, ROOT, top_level

README = (ROOT / "README.md").read_text()
DOCUMENTS = ("README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "tests/README.md")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
TESTS = (ROOT / "tests" / "README.md").read_text()


def test_the_readme_has_the_two_commands_to_start() -> None:
    assert 'pip install ".[lab]" && jupyter lab notebooks/01_start.ipynb' in README
    assert 'pip install -e ".[test]" && pytest' in README


def test_the_badge_opens_the_first_notebook() -> None:
    (url,) = re.findall(r"\]\((https://mybinder\.org/v2/[^)]*)\)", README)
    assert re.fullmatch(r"https://mybinder\.org/v2/gh/[\w.-]+/[\w.-]+/HEAD\?urlpath=lab/tree/(\S+)", url)
    path = ROOT / url.partition("urlpath=lab/tree/")[2]
    assert path.name == "01_start.ipynb"
    assert path.exists()


def test_the_readme_mentions_each_public_name() -> None:
    names = sorted(set(ipyremote.__all__) - {"__version__"})
    assert [] == [name for name in names if not re.search(rf"\b{re.escape(name)}\b", README)]


def test_the_readme_mentions_each_environment_variable() -> None:
    names = set(re.findall(r"`(IPYREMOTE_\w+)` \|", settings.__doc__ or ""))
    assert len(names) > 5
    assert [] == [name for name in sorted(names) if f"`{name}`" not in README]


def test_the_architecture_document_mentions_each_part_of_the_package() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    assert [] == [name for name in top_level() if not re.search(rf"\b{name}\b", text)]


def test_links_between_documents_lead_to_existing_files() -> None:
    targets = [
        (document, target)
        for document in DOCUMENTS
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", (ROOT / document).read_text())
        if "://" not in target
    ]
    assert [] == [
        (name, target) for name, target in targets if not (ROOT / name).parent.joinpath(target).exists()
    ]


def test_python_code_in_the_readme_can_be_parsed() -> None:
    for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL):
        lines = [line for line in block.splitlines() if not line.startswith("%")]
        compile("\n".join(lines), "README.md", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def test_the_changelog_has_a_section_for_this_version() -> None:
    assert f"## [{ipyremote.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_files_that_the_documents_name_exist() -> None:
    named = {
        (document, path)
        for document, base in (
            ("ARCHITECTURE.md", PACKAGE / "notebook"),
            ("CONTRIBUTING.md", ROOT),
            ("tests/README.md", ROOT / "tests"),
        )
        for path in re.findall(r"`(?:pytest )?([\w.]+/[\w./-]*)`", (ROOT / document).read_text())
        if not any((place / path).exists() for place in (base, ROOT, PACKAGE))
    }
    assert set() == named


def test_each_folder_of_tests_is_a_folder_of_the_package_or_explained() -> None:
    folders = {
        path.name for path in (ROOT / "tests").iterdir() if path.is_dir() and path.name != "__pycache__"
    }
    explained = set(re.findall(r"^\| `(\w+)/` \|", TESTS, re.MULTILINE))
    assert explained <= folders
    assert [] == sorted(folders - explained - set(top_level()))


def test_each_marker_that_the_documents_name_exists() -> None:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())
    markers = {line.partition(":")[0] for line in config["tool"]["pytest"]["ini_options"]["markers"]}
    asked = set(re.findall(r'pytest -m "?(?:not )?(\w+)', CONTRIBUTING + TESTS + README))
    assert {"unit", "chaos"} <= asked <= markers


def test_each_checker_of_pre_commit_is_explained_and_run_by_a_test() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    assert {"ruff-check", "ruff-format", "mypy", "import-linter", "eslint"} == {hook["id"] for hook in hooks}
    for command in ("ruff check", "ruff format", "mypy", "lint-imports", "npm run lint"):
        assert command in CONTRIBUTING
