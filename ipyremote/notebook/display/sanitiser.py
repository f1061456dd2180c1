"""The sanitiser of foreign HTML in views. Only the tables and pictures of previews are such HTML.

A worker runs user code, so the notebook's process trusts none of the HTML that a worker returns. JupyterLab sanitises
nothing in a widget, and trusts each output of a cell that the user has run. Outputs that a task displays itself
(`display(HTML(...))`) do not come this way: they are the user's own, as if the cell had run in the notebook.
"""

from __future__ import annotations

from typing import Final

import nh3

__all__ = ["sanitised"]

_TABLE_TAGS: Final = {"caption", "table", "tbody", "td", "tfoot", "th", "thead", "tr"}
_TEXT_TAGS: Final = {
    "b", "br", "code", "div", "em", "i", "li", "ol", "p", "pre", "small", "span", "strong", "sub", "sup", "ul",
}  # fmt: skip
#: Elements that go with all that is inside of them. Of other unknown elements the text stays.
_REMOVED_WITH_CONTENT: Final = {
    "iframe", "math", "object", "script", "style", "svg", "template", "textarea", "title",
}  # fmt: skip
_ATTRIBUTES: Final = {"*": {"border", "colspan", "rowspan", "scope"}, "img": {"alt", "src"}}
#: Beginning of the address of a picture that needs no network and can run nothing.
_PICTURE: Final = "data:image/png;base64,"


def sanitised(text: str) -> str:
    """Return the HTML with harmless tags and attributes only, and with every tag closed.

    No script, style, link, event handler or address outside the text itself is left.
    """
    return _CLEANER.clean(text)


def _kept_attribute(tag: str, name: str, value: str) -> str | None:
    """Return the attribute's value, or None to drop a picture's address that is not the picture itself."""
    return None if name == "src" and not value.startswith(_PICTURE) else value


_CLEANER: Final = nh3.Cleaner(
    tags=_TABLE_TAGS | _TEXT_TAGS | {"img"},
    clean_content_tags=_REMOVED_WITH_CONTENT,
    attributes=_ATTRIBUTES,
    attribute_filter=_kept_attribute,
    url_schemes={"data"},
)
