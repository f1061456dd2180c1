"""README, ARCHITECTURE and CHANGELOG say what is there, and name nothing that is not."""

from __future__ import annotations

import ast
import re

import ipyremote
from ipyremote import settings
from tests.support.sources import ROOT, top_level

README = (ROOT / "README.md").read_text()
DOCUMENTS = ("README.md", "ARCHITECTURE.md", "CHANGELOG.md")


def test_the_two_commands_stand_in_the_readme() -> None:
    assert 'pip install ".[lab]" && jupyter lab notebooks/01_start.ipynb' in README
    assert 'pip install -e ".[test]" && pytest' in README


def test_the_badge_opens_the_first_notebook() -> None:
    (url,) = re.findall(r"\]\((https://mybinder\.org/v2/[^)]*)\)", README)
    assert re.fullmatch(r"https://mybinder\.org/v2/gh/[\w.-]+/[\w.-]+/HEAD\?urlpath=lab/tree/(\S+)", url)
    path = ROOT / url.partition("urlpath=lab/tree/")[2]
    assert path.name == "01_start.ipynb"
    assert path.exists()


def test_the_readme_mentions_every_public_name() -> None:
    names = sorted(set(ipyremote.__all__) - {"__version__"})
    assert [] == [name for name in names if not re.search(rf"\b{re.escape(name)}\b", README)]


def test_the_readme_mentions_every_variable() -> None:
    names = set(re.findall(r"`(IPYREMOTE_\w+)` \|", settings.__doc__ or ""))
    assert len(names) > 5
    assert [] == [name for name in sorted(names) if f"`{name}`" not in README]


def test_the_architecture_mentions_every_part() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    assert [] == [name for name in top_level() if not re.search(rf"\b{name}\b", text)]


def test_links_between_files_lead_somewhere() -> None:
    targets = [
        (document, target)
        for document in DOCUMENTS
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", (ROOT / document).read_text())
        if "://" not in target
    ]
    assert [] == [
        (name, target) for name, target in targets if not (ROOT / name).parent.joinpath(target).exists()
    ]


def test_python_in_the_readme_is_python() -> None:
    for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL):
        lines = [line for line in block.splitlines() if not line.startswith("%")]
        compile("\n".join(lines), "README.md", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def test_the_changelog_has_a_section_for_this_version() -> None:
    assert f"## [{ipyremote.__version__}]" in (ROOT / "CHANGELOG.md").read_text()
