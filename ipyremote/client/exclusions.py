"""Patterns, as in `.gitignore` files, for the files that a copy of a directory leaves out.

`pathspec` understands the patterns. This module knows which patterns win: the patterns of an inner directory over the
patterns of the directories around it, and the last pattern of a directory over the earlier ones.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

__all__ = ["Exclusions"]


class Exclusions:
    """Patterns of a directory and of directories inside it. Paths are relative to the outermost one, with slashes."""

    def __init__(self, patterns: Iterable[str] = ()) -> None:
        #: Each directory that has patterns (with a slash at its end; empty for the outermost one), outermost first.
        self._specs: list[tuple[str, GitIgnoreSpec]] = []
        self.add(patterns)

    def add(self, patterns: Iterable[str], directory: str = "") -> None:
        """Add the patterns of a directory, which are stronger than all patterns added before."""
        # Imported here, because only environments with a directory to copy need it.
        from pathspec import GitIgnoreSpec

        spec = GitIgnoreSpec.from_lines(filter(_is_pattern, patterns))
        self._specs.append((f"{directory}/" if directory else "", spec))

    def copy(self) -> Exclusions:
        """Return exclusions with the same patterns, to which others can be added."""
        other = Exclusions()
        other._specs = self._specs.copy()
        return other

    def excludes(self, path: str, *, is_directory: bool) -> bool:
        """Return whether the file or directory at this path is left out."""
        for directory, spec in reversed(self._specs):
            if path.startswith(directory):
                below = path[len(directory) :]
                included = spec.check_file(f"{below}/" if is_directory else below).include
                if included is not None:
                    return included
        return False


def _is_pattern(line: str) -> bool:
    """Return whether a line is a valid pattern. Other lines, such as a range from z to a, fit nothing, as in git."""
    from pathspec import GitIgnoreSpec

    try:
        GitIgnoreSpec.from_lines([line])
    except (ValueError, re.error):
        return False
    return True
