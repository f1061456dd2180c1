"""How nbval runs the notebooks: a cell shows its final output at once, on two workers, with this checkout's package.

The variables are set only while the kernel of a notebook may start, so that no other test sees them.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[1]

#: The stored outputs were made with these, too.
KERNEL_ENVIRONMENT = {"IPYREMOTE_STATIC": "1", "IPYREMOTE_NUM_WORKERS": "2"}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, None, None]:
    """Around the setup of a cell; that of a notebook's first one starts the kernel."""
    path = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**KERNEL_ENVIRONMENT, "PYTHONPATH": path}.items():
            patch.setenv(name, value)
        return (yield)
