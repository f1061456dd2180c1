"""The interface of an engine for the cases.

The interface speaks of tasks, handles and actors, and an adapter translates these to the calls of its engine. An
adapter does nothing else: no caching of results and no batching that a user of the engine would not write. A method
without a counterpart in the engine raises `Unsupported`, and the cell of the table is then "-".
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol


class Unsupported(Exception):
    """Raised by an adapter whose engine lacks the feature, so that the case is skipped for the engine."""


class BenchmarkEngine(Protocol):
    """An engine on this machine; the constructor is cheap, and `start` imports and starts the engine."""

    #: Whether a part of the engine, such as a scheduler, runs in the driver, so that the driver's memory counts.
    lives_in_driver: bool

    def first_result_program(self, workers: int) -> tuple[str, str]:
        """Return the shortest program from `import` to a first result, and the code that stops the engine again."""

    def start(self, workers: int) -> None:
        """Import the engine and start it on this machine with `workers` workers, without a dashboard."""

    def stop(self) -> None:
        """Stop everything that `start` started."""

    def task(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """Return a callable that submits one call of `fn` and returns its handle at once."""

    def get(self, handle: Any) -> Any:
        """Wait for the value of one handle and return the value."""

    def get_all(self, handles: Sequence[Any]) -> list[Any]:
        """Wait for the values of many handles and return them, with the engine's own call for many values."""

    def wait_any(self, handles: list[Any]) -> list[Any]:
        """Wait until one handle is ready, and return the other handles."""

    def put(self, value: Any) -> Any:
        """Store a value and return its handle, which tasks take as an argument without sending the value again."""

    def put_all(self, values: list[Any]) -> list[Any]:
        """Store the values and return a handle of each."""

    def actor(self, cls: type) -> Any:
        """Start an actor and return it, perhaps before it is ready. The actor ends with the last reference to it."""

    def method(self, actor: Any, name: str) -> Callable[..., Any]:
        """Return a callable that submits one call of the actor's method and returns its handle at once."""

    def tree(self, depth: int) -> int:
        """Run a tree of tasks that each start two tasks and wait for them, and return the number of tasks that ran."""
