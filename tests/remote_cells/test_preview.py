"""Previews of values, also of values whose methods raise, print or return odd results."""

from __future__ import annotations

import base64
import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ipyremote.remote_cells.preview import preview


class Loud:
    def __repr__(self) -> str:
        print("loud")
        return "Loud()"


class Broken:
    def __repr__(self) -> str:
        raise RuntimeError("no")

    @property
    def shape(self) -> Any:
        raise RuntimeError("no shape either")


class NotText:
    def __repr__(self) -> str:
        return 3  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (9, {"type": "int", "repr": "9"}),
        (None, {"type": "NoneType", "repr": "None"}),
        ("a\nb", {"type": "str", "repr": "'a\\nb'", "shape": "length 3"}),
        ([1, 2], {"type": "list", "repr": "[1, 2]", "shape": "length 2"}),
        (b"abc", {"type": "bytes", "repr": "b'abc'", "shape": "length 3", "size": 3}),
    ],
)
def test_previews_of_plain_values_have_type_and_repr(value: Any, expected: dict[str, Any]) -> None:
    assert preview(value) == expected


def test_arrays_have_shape_dtype_and_size() -> None:
    found = preview(np.zeros((1000, 1000)))
    assert (found["type"], found["shape"], found["dtype"], found["size"]) == (
        "numpy.ndarray",
        "(1000, 1000)",
        "float64",
        8_000_000,
    )
    assert len(found["repr"]) < 500


def test_frames_have_a_bounded_table() -> None:
    frame = pd.DataFrame({f"c{number}": ["<script>alert(1)</script>"] * 1_000 for number in range(100)})
    found = preview(frame)
    assert found["shape"] == "(1000, 100)"
    assert "<table" in found["html"]
    assert "<script" not in found["html"]
    assert len(found["html"]) <= 200_000
    assert found["size"] > 100_000


@pytest.mark.parametrize(
    "value",
    [list(range(10**6)), "x" * 10**7, dict.fromkeys(range(10**4), "y" * 1000), 10**4000, [[["z" * 10**5]]]],
    ids=["list", "str", "dict", "int", "nested"],
)
def test_reprs_are_bounded(value: Any) -> None:
    assert len(preview(value)["repr"]) <= 2_000


def test_addresses_in_reprs_are_left_out() -> None:
    assert preview(object())["repr"] == "<object object>"


def test_text_that_a_repr_prints_is_dropped(capsys: pytest.CaptureFixture[str]) -> None:
    assert preview(Loud())["repr"] == "Loud()"
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("value", [Broken(), NotText()])
def test_the_preview_of_a_value_that_raises_has_a_type(value: Any) -> None:
    found = preview(value)
    assert found["type"].endswith(type(value).__name__)
    assert "repr" not in found
    assert "its repr raised" in found["problem"]


@pytest.mark.processes
def test_a_preview_does_not_import_ipython() -> None:
    import subprocess

    code = (
        "import sys, ipyremote.remote_cells.preview, ipyremote.remote_cells.cell; "
        "sys.exit(any(name in sys.modules for name in ('IPython', 'anywidget', 'ipywidgets', 'nh3')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def figure(inches: float = 6.4, points: int = 3) -> Any:
    from matplotlib.figure import Figure

    made = Figure(figsize=(inches, inches))
    made.subplots().imshow(np.random.default_rng(0).random((points, points)))
    return made


@pytest.mark.parametrize(("inches", "points"), [(6.4, 3), (100, 3), (6.4, 2_000)])
def test_the_picture_of_a_figure_is_bounded_for_large_and_detailed_figures(
    inches: float, points: int
) -> None:
    found = preview(figure(inches, points))
    assert found["type"] == "matplotlib.figure.Figure"
    head, _, data = found["html"].partition("base64,")
    assert head.startswith('<img alt="&lt;Figure size ')
    assert base64.b64decode(data.removesuffix('">')).startswith(b"\x89PNG")
    assert len(found["html"]) <= 50_000


def test_the_preview_of_an_empty_figure_is_text() -> None:
    from matplotlib.figure import Figure

    found = preview(Figure())
    assert "html" not in found
    assert found["repr"].startswith("<Figure size")
