"""Previews: summaries of values, made in a worker, which the notebook shows without fetching the values.

`preview` is run as a task of its own, with the ref as its argument. `preview` calls user code (`__repr__`,
`_repr_html_`), so it never raises, prints nothing, and limits the size of its result. The HTML of a table is the
user's, and the notebook sanitises that HTML. `preview` must not import IPython. A figure of matplotlib becomes a small
picture.
"""

from __future__ import annotations

import base64
import contextlib
import io
import re
import reprlib
import sys
from html import escape
from typing import Any, Final

from ipyremote.remote_cells.figures import picture

__all__ = ["preview", "size_of"]

#: Largest number of characters of a repr.
_REPR_LIMIT: Final = 2_000
#: Largest number of characters of a table's HTML as its library writes it, styles included.
_TABLE_LIMIT: Final = 200_000
#: Largest number of characters of an encoded picture, and the widths that are tried in turn, in pixels.
_PICTURE_LIMIT: Final = 49_000
_PICTURE_WIDTHS: Final = (640, 480, 320, 160)
#: Largest number of characters of a type's name, a shape or a dtype.
_NAME_LIMIT: Final = 120
#: Largest numbers of rows and columns of a table.
_ROWS: Final = 10
_COLUMNS: Final = 12

_ADDRESS: Final = re.compile(r" at 0x[0-9a-fA-F]+")

_short = reprlib.Repr()
_short.maxlevel = 4
_short.maxlist = _short.maxtuple = _short.maxset = _short.maxfrozenset = _short.maxdeque = _short.maxarray = (
    20
)
_short.maxdict = 20
_short.maxstring = _REPR_LIMIT
_short.maxlong = 200
_short.maxother = _REPR_LIMIT
_CONTAINERS: Final = frozenset({list, tuple, dict, set, frozenset, str, int})


def preview(value: Any) -> dict[str, Any]:
    """Return the preview of a value: `type`, and where known `repr`, `shape`, `dtype`, `size`, `html`, `problem`."""
    result: dict[str, Any] = {"type": _type_name(type(value))}
    silence = io.StringIO()
    with contextlib.redirect_stdout(silence), contextlib.redirect_stderr(silence):
        for name, look in _LOOKS.items():
            try:
                found = look(value)
            except Exception as error:  # user code, or an unusual class
                if name == "repr":
                    result["problem"] = f"its repr raised {type(error).__name__}"
            else:
                if found is not None:
                    result[name] = found
    return result


def _type_name(kind: type) -> str:
    module = kind.__module__
    bare = module in ("builtins", "__main__")
    return (kind.__qualname__ if bare else f"{module}.{kind.__qualname__}")[:_NAME_LIMIT]


def _repr(value: Any) -> str:
    text = _short.repr(value) if type(value) in _CONTAINERS else repr(value)
    if not isinstance(text, str):
        raise TypeError("repr is not text")
    # Addresses in memory are of no use to readers, and make each run of a notebook different.
    text = _ADDRESS.sub("", text[: 2 * _REPR_LIMIT])
    return text if len(text) <= _REPR_LIMIT else text[: _REPR_LIMIT - 1] + "…"


def _shape(value: Any) -> str | None:
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple):
        return str(shape)[:_NAME_LIMIT]
    if type(value) in (list, dict, set, frozenset, tuple, str, bytes, bytearray):
        return f"length {len(value)}"
    return None


def _dtype(value: Any) -> str | None:
    dtype = getattr(value, "dtype", None)
    return None if dtype is None else str(dtype)[:_NAME_LIMIT]


def size_of(value: Any) -> int | None:
    """Return the size of the data in an array, table or byte string, in bytes; None for other values."""
    if isinstance(value, bytes | bytearray | memoryview):
        return memoryview(value).nbytes
    if _is_frame(value):
        usage = getattr(value, "memory_usage", None)
        return int(usage(index=True).sum()) if usage is not None else int(value.estimated_size())
    size = getattr(value, "nbytes", None)
    return size if isinstance(size, int) else None


def _html(value: Any) -> str | None:
    if _is_figure(value):
        return _picture_html(value)
    if not _is_frame(value):
        return None
    pandas = sys.modules.get("pandas") if type(value).__module__.startswith("pandas.") else None
    limits: Any = contextlib.nullcontext()
    if pandas is not None:
        limits = pandas.option_context(
            "display.max_rows", _ROWS, "display.min_rows", _ROWS, "display.max_columns", _COLUMNS
        )
    with limits:
        text = value._repr_html_()
    return text if isinstance(text, str) and len(text) <= _TABLE_LIMIT else None


def _picture_html(figure: Any) -> str | None:
    for width in _PICTURE_WIDTHS:
        found = picture(figure, width)
        if found is None:
            return None
        data = base64.b64encode(found).decode("ascii")
        if len(data) <= _PICTURE_LIMIT:
            return f'<img alt="{escape(repr(figure)[:_NAME_LIMIT])}" src="data:image/png;base64,{data}">'
    return None


def _is_figure(value: Any) -> bool:
    """Return whether a value is a figure of matplotlib, which can be drawn as a picture."""
    return any(
        base.__name__ == "Figure" and base.__module__ == "matplotlib.figure" for base in type(value).__mro__
    )


def _is_frame(value: Any) -> bool:
    """Return whether a value is a table, whose HTML shows more than its repr."""
    return any(
        base.__name__ == "DataFrame" and base.__module__.partition(".")[0] in ("pandas", "polars")
        for base in type(value).__mro__
    )


_LOOKS: Final = {"repr": _repr, "shape": _shape, "dtype": _dtype, "size": size_of, "html": _html}
