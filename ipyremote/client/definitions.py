"""The functions and classes that a client has given to its session, or that came to it with tasks."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from ipyremote.backend import Exported
from ipyremote.client.channel import Channel
from ipyremote.engine_kit.failures import check_size
from ipyremote.messages import Define
from ipyremote.serialization import pickling

__all__ = ["Definitions"]


class Definitions:
    """The definitions of one client. Thread-safe."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        #: Functions and classes that came here with tasks.
        self.known: dict[Any, Exported] = {}
        #: Digests of the definitions that were sent or came here.
        self._digests: set[bytes] = set()

    def define(self, target: Callable[..., Any], name: str) -> Exported:
        """Pickle a function or class, and send the pickle once (`backend.Backend.define`).

        A function that came here with a task is neither pickled nor sent.
        """
        channel = self._channel
        channel.check()
        with contextlib.suppress(TypeError):  # an unhashable callable
            known = self.known.get(target)
            if known is not None:
                return known
        payload, refs = pickling.dumps_function(target)
        check_size(name, len(payload))
        digest = pickling.digest(payload)
        with channel.lock:
            if digest not in self._digests:
                self._digests.add(digest)
                channel.connection.queue(Define(digest, payload, refs, name), len(payload))
        return Exported(target, name, digest)

    def adopt(self, target: Callable[..., Any], digest: bytes, name: str) -> None:
        """Remember the digest under which a function came here, so that calling it remotely needs no pickling."""
        with contextlib.suppress(TypeError):
            self.known[target] = Exported(target, name, digest)
            self._digests.add(digest)
