"""Tab completion on the line of `%%remote` and the other magics: flags, names after -i, sessions after -s, refs.

`matcher_of` makes a matcher of IPython's second protocol. The extension appends the matcher to the completer's list,
and removes it when it is unloaded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, Final

from IPython.core.completer import SimpleCompletion, context_matcher

from ipyremote.notebook.cells.cell_arguments import FLAGS
from ipyremote.refs import ObjectRef

__all__ = ["completions", "matcher_of"]

_MAGIC: Final = re.compile(r"\s*(%%?)(remote\w*)\s+(.*)", re.DOTALL)
#: Flags of the magics that take refs.
_REF_MAGICS: Final = {"remote_why": (), "remote_cancel": ("--all",), "remote_log": ()}
#: Names that IPython itself keeps in each notebook.
_IPYTHON_NAMES: Final = frozenset({"In", "Out"})
_OTHER_MAGICS: Final = {"remote_gc": ("--free",), "remote_sessions": ("--end",)}


def completions(
    line: str, namespace: dict[str, Any], sessions: Callable[[], Iterable[str]]
) -> list[str] | None:
    """Return the completions of a line's last word, or None for a line that is not one of ipyremote's magics."""
    found = _MAGIC.match(line)
    if found is None:
        return None
    _, magic, rest = found.groups()
    words = rest.split()
    last = "" if not rest or rest[-1].isspace() else words.pop()
    before = words[-1] if words else ""
    if magic == "remote":
        if found[1] != "%%":
            return None
        if before in ("-i", "--input"):
            return _listed(last, _names(namespace))
        if before in ("-s", "--session"):
            return [name for name in sorted(sessions()) if name.startswith(last)]
        return [flag for flag in FLAGS if flag.startswith(last)] if last.startswith("-") or not last else []
    if magic in _REF_MAGICS:
        refs = [
            name for name in _names(namespace) if name not in _IPYTHON_NAMES and _has_refs(namespace[name])
        ]
        return [word for word in (*_REF_MAGICS[magic], *refs) if word.startswith(last)]
    if magic in _OTHER_MAGICS:
        known = sessions() if magic == "remote_sessions" and before == "--end" else _OTHER_MAGICS[magic]
        return [word for word in known if word.startswith(last)]
    return None


def _has_refs(value: Any) -> bool:
    """Return whether a value is a ref, or a container whose first item is one: tab completion must be quick."""
    if isinstance(value, list | tuple | dict):
        parts = value.values() if isinstance(value, dict) else value
        value = next(iter(parts), None)
    return isinstance(value, ObjectRef | list | tuple | dict)


def _names(namespace: dict[str, Any]) -> list[str]:
    return sorted(name for name in namespace if not name.startswith("_"))


def _listed(last: str, names: Iterable[str]) -> list[str]:
    """Return the completions of the last name in a list such as `a,b,c`, each with the names before it."""
    head, comma, part = last.rpartition(",")
    given = set(head.split(","))
    return [f"{head}{comma}{name}" for name in names if name.startswith(part) and name not in given]


def matcher_of(shell: Any, sessions: Callable[[], Iterable[str]]) -> Callable[..., Any]:
    """Return the matcher for a shell's completer."""

    @context_matcher()  # type: ignore[untyped-decorator]  # IPython has few hints here
    def ipyremote_matcher(context: Any) -> dict[str, Any]:
        line = context.full_text.split("\n")[context.cursor_line][: context.cursor_position]
        words = completions(line, shell.user_ns, sessions)
        if words is None:
            return {"completions": []}
        # The completer replaces only the part of the word that it takes for the last token; to the completer, a token
        # may begin after a comma or a dash.
        typed = re.split(r"\s", line)[-1]
        kept = len(typed) - len(context.token) if typed.endswith(context.token) else 0
        shown = [SimpleCompletion(word[kept:], type="magic argument") for word in words]
        return {"completions": shown, "suppress": True}

    return ipyremote_matcher  # type: ignore[no-any-return]  # IPython has few hints here
