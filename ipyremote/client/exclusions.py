"""Which files of a directory are left out: patterns as in `.gitignore` files.

A pattern with a slash in it (before its end) is anchored to the directory that it stands for, another one fits at any
depth; `*` and `?` stand for characters other than a slash, `**` for directories; a slash at the end means directories
only; `!` takes back; the last pattern that fits decides. What lies in an excluded directory is not looked at.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

__all__ = ["Exclusions"]


class _Rule(NamedTuple):
    #: Fits paths relative to the root.
    fits: re.Pattern[str]
    directories_only: bool
    takes_back: bool


class Exclusions:
    """Patterns, the later ones stronger. Paths are relative to one root, with slashes between their parts."""

    def __init__(self, patterns: Iterable[str] = ()) -> None:
        self._rules: list[_Rule] = []
        self.add(patterns)

    def add(self, patterns: Iterable[str], directory: str = "") -> None:
        """Add patterns that stand for this directory and what lies in it."""
        self._rules.extend(rule for line in patterns if (rule := _rule(line, directory)) is not None)

    def copy(self) -> Exclusions:
        """The same patterns, to be added to."""
        other = Exclusions()
        other._rules = self._rules.copy()
        return other

    def excludes(self, path: str, *, is_directory: bool) -> bool:
        """Whether this path is left out."""
        for rule in reversed(self._rules):
            if (is_directory or not rule.directories_only) and rule.fits.fullmatch(path):
                return not rule.takes_back
        return False


def _rule(line: str, directory: str) -> _Rule | None:
    line = line.rstrip("\r\n")
    if not line.endswith("\\ "):
        line = line.rstrip(" ")
    if not line or line.startswith("#"):
        return None
    takes_back = line.startswith("!")
    pattern = line[1:] if takes_back else line
    directories_only = pattern.endswith("/")
    pattern = pattern.rstrip("/")
    if not pattern:
        return None
    anchored = "/" in pattern
    start = re.escape(f"{directory}/") if directory else ""
    depth = "" if anchored else "(?:.*/)?"
    try:
        fits = re.compile(start + depth + _regex(pattern.lstrip("/")), re.DOTALL)
    except re.error:  # a range from z to a fits nothing
        return None
    return _Rule(fits, directories_only, takes_back)


def _regex(pattern: str) -> str:
    parts: list[str] = []
    at = 0
    while at < len(pattern):
        rest = pattern[at:]
        if rest.startswith("**/") and (at == 0 or pattern[at - 1] == "/"):
            parts.append("(?:.*/)?")
            at += 3
        elif rest == "**" and (at == 0 or pattern[at - 1] == "/"):
            parts.append(".*")
            at += 2
        elif rest[0] == "*":
            parts.append("[^/]*")
            at += len(rest) - len(rest.lstrip("*"))
        elif rest[0] == "?":
            parts.append("[^/]")
            at += 1
        elif rest[0] == "[" and (found := re.match(r"\[[!^]?\]?[^\]]*\]", rest)):
            parts.append(_characters(found[0]))
            at += len(found[0])
        elif rest[0] == "\\" and len(rest) > 1:
            parts.append(re.escape(rest[1]))
            at += 2
        else:
            parts.append(re.escape(rest[0]))
            at += 1
    return "".join(parts)


def _characters(brackets: str) -> str:
    """A set of characters, which never has the slash."""
    inside = brackets[1:-1]
    without = inside.startswith(("!", "^"))
    inside = re.sub(r"[\\\[\]&~|^]", r"\\\g<0>", inside[1:] if without else inside)
    return f"(?!/)[{'^' if without else ''}{inside}]"
