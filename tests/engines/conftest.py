"""The surroundings of a notebook, as the notebook layer's own tests have them."""

from __future__ import annotations

from tests.notebook.conftest import frontend, shell

__all__ = ["frontend", "shell"]
