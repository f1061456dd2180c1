"""What a case may ask of an engine.

The vocabulary is task, handle and actor; an adapter translates it to whatever its engine calls these
things. An adapter does nothing else: no caching of results and no batching that a user of the engine would
not write. What the engine has no notion of raises `Unsupported`, and the cell of the table is then "-".
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol


class Unsupported(Exception):
    """The engine has no such notion, so it takes no part in the case."""


class BenchmarkEngine(Protocol):
    """An engine on this machine: constructing one costs nothing, `start` imports and starts it."""

    #: Whether a part of the engine (a scheduler, say) lives in the driver and its memory counts.
    lives_in_driver: bool

    def first_result_program(self, workers: int) -> tuple[str, str]:
        """The shortest program from `import` to a first result, and what stops the engine again."""

    def start(self, workers: int) -> None:
        """Import the engine and start it here with so many workers, without a dashboard."""

    def stop(self) -> None:
        """Stop everything that `start` started."""

    def task(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """The callable that submits one call of `fn` and returns its handle at once."""

    def get(self, handle: Any) -> Any:
        """The value behind one handle, waited for."""

    def get_all(self, handles: Sequence[Any]) -> list[Any]:
        """The values behind many handles, the way the engine likes to be asked for many."""

    def wait_any(self, handles: list[Any]) -> list[Any]:
        """Wait until one is ready; the handles without that one."""

    def put(self, value: Any) -> Any:
        """A handle of a value that tasks take as an argument without sending it again."""

    def put_all(self, values: list[Any]) -> list[Any]:
        """A handle of each value."""

    def actor(self, cls: type) -> Any:
        """A new actor, perhaps not ready yet. It goes when the last reference to it goes."""

    def method(self, actor: Any, name: str) -> Callable[..., Any]:
        """The callable that submits one call of the actor's method and returns its handle at once."""

    def tree(self, depth: int) -> int:
        """Run tasks that each start two more and wait for them, down to `depth`; how many tasks ran."""
