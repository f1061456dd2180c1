"""Patterns, as in `.gitignore` files, for the files that a copy leaves out."""

from __future__ import annotations

import pytest

from ipyremote.client.exclusions import Exclusions


@pytest.mark.parametrize(
    ("patterns", "left_out", "kept"),
    [
        (["*.log"], ["a.log", "deep/er/b.log"], ["a.txt", "log"]),
        (["/a.log"], ["a.log"], ["deep/a.log"]),
        (["data"], ["data", "deep/data"], ["database"]),
        (["data/raw"], ["data/raw"], ["deep/data/raw", "data"]),
        (["data/*.csv"], ["data/a.csv"], ["data/deep/a.csv", "a.csv"]),
        (["data/**"], ["data/a", "data/deep/b"], ["data"]),
        (["**/cache"], ["cache", "deep/er/cache"], ["caches"]),
        (["a/**/z"], ["a/z", "a/b/z", "a/b/c/z"], ["a/bz"]),
        (["?.txt"], ["a.txt"], ["ab.txt", "/.txt"]),
        (["[ab].txt", "[!c-z]9"], ["a.txt", "b.txt", "a9"], ["c.txt", "d9"]),
        (["*.log", "!keep.log"], ["a.log"], ["keep.log", "deep/keep.log"]),
        (["!keep.log", "*.log"], ["keep.log"], []),
        (["# a.log", "", "  "], [], ["# a.log", "a.log"]),
        (["\\#a", "\\!b", "c\\*"], ["#a", "!b", "c*"], ["a", "b", "cc"]),
        (["space ", "kept\\ "], ["space", "kept "], ["space ", "kept"]),
        (["a.b"], ["a.b"], ["axb"]),
        (["[z-a]x", "(", "a{1,2}"], ["(", "a{1,2}"], ["zx"]),
        (["/"], [], ["a", "/"]),
        (["!", "[z-a]", "*.log"], ["a.log"], ["a", "!"]),
    ],
)
def test_patterns_leave_out_the_paths_that_git_ignores(
    patterns: list[str], left_out: list[str], kept: list[str]
) -> None:
    exclusions = Exclusions(patterns)
    paths = [*left_out, *kept]
    assert left_out == [path for path in paths if exclusions.excludes(path, is_directory=False)]


def test_a_pattern_with_a_slash_at_its_end_is_for_directories_only() -> None:
    exclusions = Exclusions(["build/"])
    assert exclusions.excludes("deep/build", is_directory=True)
    assert not exclusions.excludes("build", is_directory=False)


def test_patterns_of_an_inner_directory_are_stronger_and_hold_inside_it_only() -> None:
    outer = Exclusions(["*.log"])
    inner = outer.copy()
    inner.add(["!*.log", "/x"], "deep")
    assert not inner.excludes("deep/a.log", is_directory=False)
    assert inner.excludes("a.log", is_directory=False)
    assert inner.excludes("deep/x", is_directory=False)
    assert not inner.excludes("deep/er/x", is_directory=False)
    assert outer.excludes("deep/a.log", is_directory=False)


def test_a_later_pattern_can_include_a_directory_again() -> None:
    exclusions = Exclusions(["build/", "!keep/build/"])
    assert exclusions.excludes("build", is_directory=True)
    assert exclusions.excludes("deep/build", is_directory=True)
    assert not exclusions.excludes("keep/build", is_directory=True)
