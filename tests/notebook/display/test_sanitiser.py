"""The sanitiser leaves tables, text and pictures of previews, and nothing that could run, load or style anything."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from ipyremote.notebook.display.sanitiser import sanitised
from ipyremote.remote_cells.preview import preview


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("<b>x</b>", "<b>x</b>"),
        ("<script>x</script>y", "y"),
        ("<style>x</style>y", "y"),
        ('<a href="javascript:x">y</a>', "y"),
        ("<img src=x onerror=y>z", "<img>z"),
        ("</div></div>x", "x"),
        ("<b><i>x</b></i>", "<b><i>x</i></b>"),
        ("&lt;script&gt;", "&lt;script&gt;"),
        ("<!-- x -->y<?php z ?>", "y"),
        ("<scr<script>ipt>x", "ipt&gt;x"),
        ("<svg><script>x</script></svg>y", "y"),
        ("<iframe src=x>y</iframe>z", "z"),
        ("<math><mtext><table><mglyph><style><img src=x onerror=y>", ""),
        ('<noscript><p title="</noscript><img src=x onerror=y>">', '&lt;p title="<img>"&gt;'),
        ('<div style="background:url(javascript:x)" onmouseover="y">z</div>', "<div>z</div>"),
        ("<form action=x><input name=y></form>z", "z"),
        ("<link rel=stylesheet href=x><meta http-equiv=refresh content=y><base href=z>a", "a"),
        # The classes and attributes by which a page finds parts of a view cannot be forged.
        ('<span class="ipyremote" data-state="failed" data-view="1" id="x">y</span>', "<span>y</span>"),
    ],
)
def test_only_harmless_html_is_left(text: str, clean: str) -> None:
    assert sanitised(text) == clean


@pytest.mark.parametrize(
    ("row", "clean"),
    [
        ('<td onclick="x" colspan="2" style="y">z</td>', '<td colspan="2">z</td>'),
        ("<td>x", "<td>x</td>"),
        ('<td colspan="&quot;&gt;<script>">x</td>', '<td colspan="&quot;&gt;&lt;script&gt;">x</td>'),
        ('<th scope="row" class="y">x</th>', '<th scope="row">x</th>'),
    ],
)
def test_only_harmless_html_is_left_in_a_table(row: str, clean: str) -> None:
    assert sanitised(f'<table border="1"><tbody><tr>{row}') == (
        f'<table border="1"><tbody><tr>{clean}</tr></tbody></table>'
    )


@pytest.mark.parametrize(
    ("address", "is_kept"),
    [
        ("data:image/png;base64,iVBO=", True),
        ("data:image/svg+xml;base64,PHN2Zz4=", False),
        ("data:text/html,<script>x</script>", False),
        ("javascript:x", False),
        ("https://example.org/x.png", False),
        ("//example.org/x.png", False),
        ("x.png", False),
    ],
)
def test_a_picture_is_kept_only_when_it_is_in_the_text_itself(address: str, is_kept: bool) -> None:
    kept = f' src="{address}"' if is_kept else ""
    assert sanitised(f'<img alt="x" src="{address}">') == f'<img alt="x"{kept}>'


def test_the_table_of_a_frame_keeps_its_cells_and_loses_its_style() -> None:
    frame = pd.DataFrame({f"c{number}": ["<script>alert(1)</script>"] * 1_000 for number in range(100)})
    html: Any = preview(frame)["html"]
    assert "<style" in html
    clean = sanitised(html)
    assert clean.startswith("<div>")
    assert clean.count("<tr>") == html.count("<tr>") + html.count("<tr style")
    assert clean.count("&lt;script&gt;alert(1)&lt;/script&gt;") == html.count("&lt;script&gt;")
    assert "<table" in clean
    assert "<script" not in clean
    assert "<style" not in clean
    assert len(clean) <= 50_000
