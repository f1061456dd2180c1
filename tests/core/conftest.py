"""The check that each transcript is complete: a command that no line asserts fails its test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.core.transcript import Transcript


@pytest.fixture(autouse=True)
def complete_transcripts() -> Iterator[None]:
    Transcript.written.clear()
    yield
    assert [] == [command for transcript in Transcript.written for command in transcript.pending]
