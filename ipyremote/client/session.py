"""A client's session: the `Backend` that speaks to the scheduler. A driver has one, and so has each worker.

The session turns calls into messages, and makes requests. Objects are looked up in this process (`objects.py`);
sending, waiting and the threads are the channel's (`channel.py`), whose lock guards everything here.
"""

from __future__ import annotations

import copy
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from ipyremote import messages as m
from ipyremote.backend import (
    ActorOptions,
    Capabilities,
    CurrentTask,
    Exported,
    Identity,
    IdKind,
    Listener,
    NodeStatus,
    Origin,
    Recovery,
    TaskOptions,
)
from ipyremote.client import CAPABILITIES
from ipyremote.client.actor_names import SchedulerActorNames, creation
from ipyremote.client.channel import Channel, SchedulerOwner, WorkerHooks
from ipyremote.client.definitions import Definitions
from ipyremote.client.environments import EnvironmentRequests
from ipyremote.client.history import ClientHistory
from ipyremote.client.insight import LOOPBACK, SessionInsight
from ipyremote.client.placement_groups import SchedulerPlacementGroups
from ipyremote.client.requests import SchedulerRequests
from ipyremote.client.streams import ClientStreams
from ipyremote.client.submitter import Submitter
from ipyremote.client.value_packing import ValuePacker
from ipyremote.client.waiting import Waiter
from ipyremote.engine_kit.call_context import Running, concurrent, concurrently
from ipyremote.engine_kit.failures import exception_of, together
from ipyremote.exceptions import GetTimeoutError, IPyRemoteError
from ipyremote.ids import NOBODY, ActorId, ClientId, ObjectId, TaskId, digits_of
from ipyremote.refs import ObjectRef, id_for
from ipyremote.serialization import pickling
from ipyremote.serialization.nested_refs import collect
from ipyremote.store.segments import SegmentStore

if TYPE_CHECKING:
    from ipyremote.client.detached import DetachedDriver

__all__ = ["Session"]


class Session:
    """The session of one client. `backend.Backend` has the contracts of the methods."""

    def __init__(
        self,
        *,
        key: str,
        client_id: ClientId,
        socket_path: str,
        secret: bytes,
        store: SegmentStore,
        alive: int,
        owner: SchedulerOwner | None = None,
        host: WorkerHooks | None = None,
        address: str = "",
    ) -> None:
        """`alive` is a file descriptor that becomes readable (end of file) when the scheduler is gone.

        `address` is the address at which other processes find a driver's session.
        """
        self.key = key
        self.address = address
        self.client_id = client_id
        self.channel = channel = Channel(
            client_id=client_id,
            socket_path=socket_path,
            secret=secret,
            store=store,
            alive=alive,
            owner=owner,
            host=host,
        )
        self.released = channel.released
        #: Function that counts a Python ref less. Finalizers call the function, so it is the append of a deque itself.
        self.release: Callable[[ObjectId], None] = channel.released.append
        self._lock = channel.lock
        self._objects = channel.objects
        self._connection = channel.connection
        self._store = store
        self.shared_directory = store.path
        self.environments = EnvironmentRequests(channel, store.path)
        self._packer = ValuePacker(store, self.released)
        #: Source of ids, labels and packed arguments.
        self.submitter = Submitter(client_id, channel, self._packer, self.environments, self.id_of)
        self.streams = ClientStreams(channel)
        #: Submissions of this client, and the failures that nobody has asked for.
        self.history = ClientHistory(channel, self.submitter)
        self.requests = SchedulerRequests(
            channel, lambda ids, seconds: self._wait(ids, 0, seconds, strict=False)
        )
        self.named_actors = SchedulerActorNames(self.submitter, self.requests.names)
        self.placement_groups = SchedulerPlacementGroups(self.submitter, self.requests.groups)
        self.insight = SessionInsight(key, self.requests)
        #: Task that runs in this worker, for code that asks about itself; None in a driver.
        self.current_task: CurrentTask | None = None
        self._recovery: DetachedDriver | None = None
        self._definitions = Definitions(channel)
        #: Functions and classes that came here with tasks.
        self.defined = self._definitions.known

    # ------------------------------------------------------------------------------------------------- submissions

    @property
    def running(self) -> Running:
        """Task or driver on whose behalf the calling code runs."""
        return concurrent.get() or self.submitter.process_running

    @running.setter
    def running(self, running: Running) -> None:
        self.submitter.process_running = running

    @property
    def cell(self) -> int:
        """Token of the notebook cell to which new submissions belong."""
        return self.running.cell

    @cell.setter
    def cell(self, token: int) -> None:
        self.running.cell = token

    @property
    def capabilities(self) -> Capabilities:
        return CAPABILITIES

    @property
    def is_worker(self) -> bool:
        return self.channel.host is not None

    @property
    def recovery(self) -> Recovery | None:
        """Part of this driver in a session that outlives it; None in a worker."""
        if self._recovery is None and self.channel.host is None:
            from ipyremote.client.detached import DetachedDriver

            self._recovery = DetachedDriver(self, self.channel, self.requests)
        return self._recovery

    def hex_of(self, kind: IdKind, any_id: int) -> str:
        return digits_of(self.key, kind, any_id)

    def export_ref(self, any_id: ObjectId, *, weak: bool = False) -> ObjectId:
        if not weak and not collect(any_id):
            self.hold(any_id)
        return any_id

    def import_ref(self, exported: ObjectId, *, weak: bool = False) -> ObjectId:
        if not weak:
            self.hold(exported)
        return exported

    def identity(self) -> Identity:
        task = self.current_task
        return Identity(self.client_id) if task is None else task.identity()

    def origin(self) -> Origin:
        # The copy keeps the cell of this moment, and shares the counters of labels.
        frozen = copy.copy(self.running)
        return lambda: concurrently(frozen)

    def define(self, target: Callable[..., Any], name: str) -> Exported:
        return self._definitions.define(target, name)

    def adopt(self, target: Callable[..., Any], digest: bytes, name: str) -> None:
        """Remember the digest under which a function came here, so that calling it remotely needs no pickling."""
        self._definitions.adopt(target, digest, name)

    def submit(
        self, exported: Exported, args: tuple[Any, ...], kwargs: Mapping[str, Any], options: TaskOptions
    ) -> tuple[TaskId, str]:
        self.channel.check()
        submitter = self.submitter
        packed = submitter.pack_arguments(args, kwargs)
        name = options.name or exported.name
        environment = self.environments.key_of(options.runtime_env)
        with self._lock:
            spec = submitter.spec(exported.digest, name, packed, options, environment=environment)
            submitter.queue(m.Submit(spec), packed)
        return spec.task_id, f"{name}#{spec.number}"

    def create_actor(
        self,
        exported: Exported,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        options: TaskOptions,
        actor: ActorOptions,
    ) -> tuple[ActorId, str]:
        self.channel.check()
        submitter = self.submitter
        packed = submitter.pack_arguments(args, kwargs)
        environment = self.environments.key_of(options.runtime_env)
        with self._lock:
            message = creation(submitter, exported, packed, options, actor, environment)
            submitter.queue(message, packed)
        return message.spec.task_id, message.spec.label

    def call(
        self,
        actor_id: ActorId,
        class_name: str,
        method: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        options: TaskOptions,
    ) -> tuple[TaskId, str]:
        self.channel.check()
        submitter = self.submitter
        packed = submitter.pack_arguments(args, kwargs)
        name = options.name or f"{class_name}.{method}"
        with self._lock:
            spec = submitter.spec(b"", name, packed, options, actor_id, method)
            submitter.queue(m.Submit(spec), packed)
        return spec.task_id, f"{name}#{spec.number}"

    def id_of(self, ref: ObjectRef[Any]) -> ObjectId:
        """Return the id of a ref of this session. Raises ObjectLostError for a ref of another session."""
        return id_for(ref, self)

    # ------------------------------------------------------------------------------------------------------ values

    def put(self, value: Any) -> tuple[ObjectId, str]:
        self.channel.check()
        pickled = pickling.dumps(value)
        submitter = self.submitter
        object_id = submitter.put(submitter.pack(pickled), pickled.refs)
        with self._lock:
            return object_id, str(self.running.label_of("put"))

    def free(self, ids: Sequence[ObjectId]) -> None:
        with self._lock:
            self._objects.free(ids)
        self._send(m.Free(tuple(ids)))

    def hold(self, any_id: ObjectId) -> None:
        self.channel.check()
        with self._lock:
            if self._objects.hold(any_id):
                self._connection.queue(m.Hold((any_id,)))

    def get(self, ids: Sequence[ObjectId], timeout: float | None = None) -> list[Any]:
        ready = self._objects.ready
        if not all(object_id in ready for object_id in ids):
            self._get_wait(ids, timeout)
        else:
            # The text of the objects' tasks comes first.
            self.channel.deliver()
        try:
            return [self._open(object_id) for object_id in ids]
        except IPyRemoteError:
            if failures := self.history.failures(ids):
                raise together(failures) from None
            raise

    def _get_wait(self, ids: Sequence[ObjectId], timeout: float | None) -> None:
        waiter = self._wait(ids, 0, timeout, strict=True)
        if waiter.failed:
            raise together(self.history.failures(ids))
        if waiter.missing:
            raise GetTimeoutError(
                f"Get timed out: {len(waiter.missing)} of {len(ids)} objects not ready after {timeout:g} s."
            )

    def wait(self, ids: Sequence[ObjectId], num_returns: int, timeout: float | None = None) -> list[ObjectId]:
        ready = self._first_ready(ids, num_returns)
        if len(ready) < num_returns:
            self._wait(ids, len(ids) - num_returns, timeout, strict=False)
            ready = self._first_ready(ids, num_returns)
        return ready

    def _first_ready(self, ids: Sequence[ObjectId], count: int) -> list[ObjectId]:
        """Return the first `count` of these ids that have a value; fewer, if fewer have one."""
        return list(islice(filter(self._objects.ready.__contains__, ids), count))

    def _open(self, object_id: ObjectId) -> Any:
        value = self._objects.ready.get(object_id)
        if value is None:
            self.channel.check()
            raise KeyError(f"no such object: {object_id:x}")
        if isinstance(value, m.Failure):
            self._objects.unretrieved.mark_retrieved(object_id, value)
            raise exception_of(value)
        return self.open(object_id, value)

    def open(self, object_id: ObjectId, value: m.Inline | m.Stored) -> Any:
        """Return the Python value of a wire value."""
        return self._packer.open(object_id, value, self.hold)

    def is_ready(self, object_id: ObjectId) -> bool:
        return object_id in self._objects.ready

    def on_ready(self, object_id: ObjectId, callback: Callable[[ObjectId], None]) -> None:
        with self._lock:
            self.channel.check()
            now = object_id in self._objects.ready
            if not now:
                self._objects.callbacks.setdefault(object_id, []).append(callback)
                if object_id in self._objects.borrowed:
                    self._connection.queue(m.Want((object_id,)))
                self.channel.wake()
        if now:
            callback(object_id)

    # ----------------------------------------------------------------------------------------------------- control

    def cancel(self, object_id: ObjectId, *, force: bool = False, recursive: bool = True) -> None:
        self.channel.check()
        # Not sent at once, so that the cancellations of many tasks travel together.
        self.channel.send(m.CancelTask(object_id, force, recursive))

    def kill(self, actor_id: ActorId, *, no_restart: bool = True) -> None:
        self._send(m.KillActor(actor_id, no_restart))

    def watch(self, ids: Sequence[ObjectId]) -> None:
        self._send(m.Watch(tuple(ids)))

    def unwatch(self, ids: Sequence[ObjectId]) -> None:
        if not self.channel.ended:
            self._send(m.Unwatch(tuple(ids)))

    def explain(self, object_id: ObjectId) -> str:
        return self.requests.explain(object_id)

    def resources(self) -> tuple[dict[str, float], dict[str, float]]:
        return self.requests.resources()

    def nodes(self) -> tuple[NodeStatus, ...]:
        status = self.requests.status()
        total = {name: amount / m.RESOURCE_UNIT for name, amount in status.total}
        here = NodeStatus(self.hex_of("node", 0), socket.gethostname(), LOOPBACK, total, dict(status.labels))
        return (here,)

    def listen(self, listener: Listener | None) -> None:
        self.channel.listen(listener)

    def _send(self, message: m.FromClient) -> None:
        self.channel.check()
        self.channel.send(message, now=True)

    # ----------------------------------------------------------------------------------------------------- waiting

    def _wait(self, ids: Sequence[ObjectId], target: int, timeout: float | None, *, strict: bool) -> Waiter:
        """Wait until at most `target` of `ids` are not ready. Returns the waiter, which may have timed out."""
        channel = self.channel
        channel.check()
        deadline = None if timeout is None else time.monotonic() + timeout
        objects = self._objects
        waiter = Waiter((), target=target, strict=strict)
        blocked = NOBODY
        try:
            with self._lock:
                objects.wait_for(waiter, ids)
                wanted = waiter.missing & objects.borrowed
                if wanted:
                    self._connection.queue(m.Want(tuple(wanted)))
                channel.pump()
            if not waiter.done and channel.host is not None and self.running.on_this_thread():
                blocked = channel.block(self.running.task_id, lambda: waiter.done)
            channel.wait_for(waiter, deadline)
        finally:
            with self._lock:
                # An interrupt may have come before the waiter was there.
                if waiter in objects.waiters:
                    objects.waiters.remove(waiter)
            if blocked and not channel.ended:
                channel.send(m.Unblocked(blocked), now=True)
        channel.listener.flush()
        if not waiter.done:
            channel.check()
        return waiter

    # ------------------------------------------------------------------------------------------------------- the end

    @property
    def ended(self) -> str:
        """Reason why the session cannot be used any more; empty while it can."""
        return self.channel.ended

    @property
    def scheduler_pid(self) -> int:
        """Process id of the scheduler; 0 until the scheduler has greeted."""
        return self.channel.scheduler_pid

    def shutdown(self) -> None:
        # A task must not end the session for all other programs.
        if self.channel.host is None:
            self.channel.close()
            self._store.close()
