"""The unions of messages, from which the decoders are made."""

from __future__ import annotations

from types import ModuleType
from typing import Any, get_args

import pytest

from ipyremote.messages import (
    FromClient,
    Hello,
    Reply,
    ToClient,
    from_client,
    from_worker,
    to_client,
    to_worker,
)


@pytest.mark.parametrize(
    ("module", "union"),
    [(from_client, FromClient), (from_worker, FromClient), (to_client, ToClient), (to_worker, ToClient)],
)
def test_every_message_of_a_file_is_in_the_union_of_its_direction(module: ModuleType, union: Any) -> None:
    defined = {
        value for value in vars(module).values() if getattr(value, "__module__", "") == module.__name__
    }
    assert len(defined) > 4
    assert defined - {Hello, Reply} <= set(get_args(union))
