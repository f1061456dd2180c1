"""Promises of a channel to the worker around it."""

from __future__ import annotations

from typing import Any, NoReturn

import pytest

from ipyremote.client import channel as channel_module
from ipyremote.client.channel import Channel
from ipyremote.ids import ClientId, TaskId


class Recorder:
    """A worker that only notes the channel that it was connected to."""

    def __init__(self) -> None:
        self.link: Channel | None = None

    def connect(self, link: Channel) -> None:
        self.link = link

    def on_message(self, message: Any) -> None: ...

    def hand_back(self) -> tuple[TaskId, ...]:
        return ()

    def before_call(self) -> None: ...

    def attend(self) -> bool:
        return False

    def on_lost(self) -> NoReturn:
        raise SystemExit


def test_a_worker_is_connected_before_the_scheduler_can_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Recorder()

    class Greeted(Exception):
        """Stands for the connection, whose first act is the greeting."""

    def greet(*args: Any) -> NoReturn:
        assert host.link is not None
        raise Greeted

    monkeypatch.setattr(channel_module, "Connection", greet)
    with pytest.raises(Greeted):
        Channel(
            client_id=ClientId(2),
            socket_path="",
            secret=b"",
            store=None,  # type: ignore[arg-type]
            alive=0,
            owner=None,
            host=host,
        )
