"""The parts of every submission of a client: ids, the label, packed arguments, the `TaskSpec`.

`Session` submits tasks and calls through a `Submitter`, and so do the client's actor names and placement groups, which
therefore need no session. A submitter waits for no result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ipyremote import messages as m
from ipyremote.backend import TaskOptions
from ipyremote.client.channel import Channel
from ipyremote.client.environments import EnvironmentRequests
from ipyremote.client.resubmission import RepeatableCalls
from ipyremote.client.store_pressure import pack_when_room
from ipyremote.client.value_packing import (
    EMPTY,
    NO_ARGUMENTS,
    PackedArguments,
    ValuePacker,
    inline,
    retry_types,
)
from ipyremote.engine_kit.call_arguments import pack_arguments
from ipyremote.engine_kit.call_context import Running, concurrent
from ipyremote.ids import NOBODY, ActorId, ClientId, IdSource, ObjectId
from ipyremote.refs import ObjectRef
from ipyremote.serialization.pickling import INLINE_LIMIT, Pickled, inline_size
from ipyremote.store.segments import StoreFull

__all__ = ["Submitter"]


class Submitter:
    """The source of one client's submissions. Methods that need the channel's lock say so."""

    def __init__(
        self,
        client_id: ClientId,
        channel: Channel,
        packer: ValuePacker,
        environments: EnvironmentRequests,
        id_of: Callable[[ObjectRef[Any]], ObjectId],
    ) -> None:
        """`id_of` gives the id of a ref, or raises ObjectLostError for a ref of another session."""
        self.channel = channel
        self.environments = environments
        self._objects = channel.objects
        self._packer = packer
        #: Source of the ids of this client's tasks, objects and actors.
        self.ids = IdSource(client_id)
        self._id_of = id_of
        #: Task or driver on whose behalf the process runs, unless several tasks run at a time: the source of labels.
        self.process_running = Running(driver=client_id)
        #: Calls that can be repeated; None until `remember_calls`.
        self.repeatable_calls: RepeatableCalls | None = None

    @property
    def running(self) -> Running:
        """Task or driver on whose behalf the calling code runs."""
        return concurrent.get() or self.process_running

    def remember_calls(self) -> None:
        """Remember each call from now on, so that `RepeatableCalls.repeat` can submit it again."""
        self.repeatable_calls = self.repeatable_calls or RepeatableCalls(self.channel, self.ids)

    # --------------------------------------------------------------------------------------------------- preparation

    def pack_arguments(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> PackedArguments:
        """Make arguments ready for the wire. Large arguments become an object that the caller must release."""
        if self.channel.host is not None:
            self.channel.host.before_call()
        pickled, deps = pack_arguments(args, kwargs, self._id_of)
        if pickled is None:
            return EMPTY
        if inline_size(pickled) <= INLINE_LIMIT:
            return PackedArguments(deps, pickled.refs, inline(pickled))
        object_id = self.put(self.pack(pickled), pickled.refs)
        return PackedArguments((*deps, object_id), (), NO_ARGUMENTS, object_id)

    def pack(self, pickled: Pickled) -> m.Inline | m.Stored:
        """Make a wire value of a pickle. Waits a little for room in the store; raises ObjectStoreFullError."""
        try:
            return self._packer.pack(pickled)
        except StoreFull:
            return pack_when_room(self.channel, self._packer, pickled)

    def put(self, value: m.Inline | m.Stored | m.Failure, refs: tuple[ObjectId, ...] = ()) -> ObjectId:
        """Make an object of a wire value, and return the object's id, of which the caller has one hold."""
        channel = self.channel
        with channel.lock:
            object_id = self.ids.take()
            self._objects.add(object_id, value)
            size = len(value.data) if type(value) is m.Inline else 0
            channel.connection.queue(m.Put(object_id, value, refs), size)
            channel.after_queue()
        return object_id

    # ---------------------------------------------------------------------------------------------------- submission

    def spec(
        self,
        digest: bytes,
        name: str,
        arguments: PackedArguments,
        options: TaskOptions,
        actor_id: ActorId = NOBODY,
        method: str = "",
        environment: str = "",
    ) -> m.TaskSpec:
        """Mint the ids and the label, and count the refs that the caller is about to make. Needs the lock."""
        returns = options.returns
        task_id = self.ids.take(returns)
        self._objects.expect(task_id, returns)
        if options.stream:
            self._objects.expect_stream(task_id, options.stream)
        running = concurrent.get() or self.process_running
        number = running.number_of(name)
        args, deps, refs, packed = arguments.inline, arguments.deps, arguments.refs, arguments.object_id != 0
        resources: m.Resources = ()
        place = None
        if not actor_id:
            resources, place = options.resources, running.place_for(options.place)
        max_retries, group, stream, rare = options.max_retries, options.group, options.stream, options.rare
        retry_on = retry_types(options.retry_exceptions) if options.retry_exceptions else b""
        parent, driver, cell = running.task_id, running.driver, running.cell
        # By position: msgspec takes seven times as long for so many keywords, a fifth of the time of a submission.
        # `tests/meta/test_specs.py` checks that each variable has the name of its field.
        return m.TaskSpec(
            task_id,
            digest,
            name,
            number,
            args,
            deps,
            refs,
            packed,
            returns,
            resources,
            max_retries,
            retry_on,
            actor_id,
            method,
            parent,
            driver,
            cell,
            group,
            stream,
            place,
            rare,
            environment,
        )

    def queue(self, message: m.Submit | m.CreateActor, packed: PackedArguments) -> None:
        """Send a submission soon, and release its large arguments, if any. Needs the lock."""
        channel = self.channel
        channel.connection.queue(message, len(packed.inline.data))
        if self.repeatable_calls is not None and type(message) is m.Submit:
            self.repeatable_calls.add(message.spec)
        if packed.object_id:
            # Released only now that the queued task holds the arguments, so that they cannot be gone before the task.
            channel.released.append(packed.object_id)
        channel.after_queue()
