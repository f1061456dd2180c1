"""A whole engine in a small file: tasks in threads of this process, and no method that `Backend` does not need."""

from __future__ import annotations

import secrets
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ipyremote import backend as door
from ipyremote.backend.placement import NODE_ID
from ipyremote.engine_kit.call_runner import CallRunner, ThreadActors
from ipyremote.engine_kit.console_listener import PlainListener
from ipyremote.engine_kit.failures import check_size
from ipyremote.engine_kit.listener_reporter import ListenerReporter
from ipyremote.engine_kit.object_table import ObjectTable
from ipyremote.engine_kit.submitted_calls import SubmittedCall, SubmittedCalls
from ipyremote.ids import ObjectId as Id
from ipyremote.ids import digits_of
from ipyremote.refs import id_for
from ipyremote.remote_cells import install
from ipyremote.serialization import pickling

THREADS = "The toy engine runs tasks in threads of this process, which nobody can interrupt, kill or keep."
WITHOUT = "The toy engine is an example for tests, and leaves this part of a Backend out."
LACKS = dict.fromkeys(("worker_processes", "cancellation", "runtime_env", "max_calls", "keep_alive"), THREADS)
LACKS |= dict.fromkeys(("streams", "named_actors", "placement_groups", "free", "insight", "history"), WITHOUT)

Started = tuple[Id, str]


class ToyBackend:
    named_actors = placement_groups = streams = insight = history = environments = recovery = None
    capabilities, address, shared_directory, is_worker = door.Capabilities("toy", **LACKS), "", None, False

    def __init__(self, amounts: Mapping[str, float]) -> None:
        self.key, self.ended, self._amounts = secrets.token_hex(20), "", dict(amounts)
        self.objects = table = ObjectTable(
            lambda any_id: self.actors.drop(any_id), lambda: self.runner.blocked()
        )
        self.get, self.wait = table.get, table.wait
        self.is_ready, self.on_ready = table.is_ready, table.on_ready
        self.hold, self.release, self.explain = table.hold, table.release, table.explain
        self.export_ref, self.import_ref = table.export_ref, table.import_ref
        self.watch, self.unwatch = table.watch, table.unwatch
        self.actors = ThreadActors(table)
        self.calls = SubmittedCalls(
            lambda ref: id_for(ref, self), self.actors.leave, lambda actor: self.actors.handle_of(actor, self)
        )
        self.current_task, self.identity, self.origin = self.calls, self.calls.identity, self.calls.origin
        self.listen(None)
        self._shown = install(ListenerReporter(lambda: self._listener), shared=True)
        self.runner = CallRunner(table, self.calls, self._shown, max(1, int(amounts.get("CPU", 1))))

    @property
    def cell(self) -> int:
        return self.calls.running.cell

    @cell.setter
    def cell(self, token: int) -> None:
        self.calls.running.cell = token

    def hex_of(self, kind: door.IdKind, any_id: int) -> str:
        return digits_of(self.key, kind, any_id)

    def define(self, target: Callable[..., Any], name: str) -> door.Exported:
        payload, _ = pickling.dumps_function(target)
        check_size(name, len(payload))
        return door.Exported(target, name, pickling.digest(payload))

    def _new(self, name: str, args: Any, kwargs: Any, options: door.TaskOptions, **own: Any) -> SubmittedCall:
        if options.runtime_env:
            raise NotImplementedError(THREADS)
        return self.runner.new(options.name or name, args, kwargs, options, **own)

    def submit(self, exported: door.Exported, args: Any, kwargs: Any, options: door.TaskOptions) -> Started:
        call = self._new(exported.name, args, kwargs, options)
        threading.Thread(target=self.runner.run, args=(call, lambda: exported.target), daemon=True).start()
        return call.first, call.label

    def create_actor(
        self,
        exported: door.Exported,
        args: Any,
        kwargs: Any,
        options: door.TaskOptions,
        actor: door.ActorOptions,
    ) -> Started:
        call = self._new(exported.name, args, kwargs, options, creates_actor=True, resources=actor.resources)
        self.actors.create(self.runner, call, exported.target, actor)
        return call.first, call.label

    def call(
        self, actor_id: Id, class_name: str, method: str, args: Any, kwargs: Any, options: door.TaskOptions
    ) -> Started:
        needs = self.actors.resources_of(actor_id)
        call = self._new(f"{class_name}.{method}", args, kwargs, options, actor_id=actor_id, resources=needs)
        self.actors.call(self.runner, actor_id, method, call)
        return call.first, call.label

    def put(self, value: Any) -> Started:
        object_id, label = self.calls.mint("put")
        self.objects.put(object_id, label, value)
        return object_id, label

    def free(self, ids: Sequence[Id]) -> None:
        raise NotImplementedError(WITHOUT)

    def cancel(self, object_id: Id, *, force: bool = False, recursive: bool = True) -> None:
        """Let the task go on: threads cannot be interrupted."""

    def kill(self, actor_id: Id, *, no_restart: bool = True) -> None:
        self.actors.kill(self.runner, actor_id, no_restart=no_restart)

    def nodes(self) -> tuple[door.NodeStatus, ...]:
        node = self.hex_of("node", 0)
        return (door.NodeStatus(node, socket.gethostname(), "127.0.0.1", self._amounts, {NODE_ID: node}),)

    def resources(self) -> tuple[dict[str, float], dict[str, float]]:
        return dict(self._amounts), dict(self._amounts)

    def listen(self, listener: door.Listener | None) -> None:
        self._listener = listener or PlainListener()
        self.objects.listen(self._listener)

    def shutdown(self) -> None:
        if not self.ended:
            self.ended = "The session was shut down: refs and handles made in it are not valid any more."
            self.objects.close(self.ended)
            self._shown.undo()


class ToyEngine:
    capabilities, keeper = ToyBackend.capabilities, None

    def start(self, arguments: Mapping[str, Any]) -> door.Backend:
        named = {"CPU": arguments.get("num_cpus", 2), "GPU": arguments.get("num_gpus", 0)}
        amounts = {**named, **arguments.get("resources", {})}
        return ToyBackend({name: float(amount) for name, amount in sorted(amounts.items()) if amount})

    def join(self, address: str, arguments: Mapping[str, Any]) -> tuple[door.Backend, Mapping[str, Any]]:
        raise ConnectionError(f"init(address={address!r}): threads of another process cannot be joined.")


ENGINE = ToyEngine()
