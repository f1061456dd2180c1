"""The cluster of the model check: a `Core` with simulated peers, in one thread and without a clock.

Every peer has a first-in-first-out link in each direction. Nothing moves by itself: the caller chooses which message is
delivered, which worker takes a step, and which peer dies. Tasks follow a `Plan`, whose value can be computed without a
cluster, so each result is compared with the result of a sequential run. `settle` lets all tasks end, and `close`
releases all refs; then no record may be left.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

from ipyremote import messages as m
from ipyremote.backend.placement import Place
from ipyremote.core import (
    ClientGone,
    ClientJoined,
    CloseEnvironment,
    Core,
    DropSegment,
    EnvironmentLost,
    EnvironmentOpened,
    Event,
    Log,
    OpenEnvironment,
    Quit,
    Received,
    Send,
    StartWorker,
    StopWorker,
    Tick,
    WorkerExited,
    WorkerStarted,
)
from ipyremote.core.events import NOT_STARTED, SIGNALLED, WorkerEnd
from ipyremote.ids import DRIVER, SCHEDULER, ClientId, GroupId, IdSource, ObjectId
from tests.core.files import Files
from tests.core.peers import CPU, Plan, SimDriver, SimWorker, inline, read, spec_of
from tests.core.transcript import KILLED, NO_PROCESS

#: Kinds of failures that tasks may have when workers die, and when tasks are cancelled or actors killed.
LOSSES = {"worker_crashed", "actor_died", "actor_unavailable"}
CANCELS = {"task_cancelled", "actor_died", "task_error"}
#: Kinds of failures that tasks may have when a placement group is removed.
REMOVALS = {*LOSSES, "task_error", "task_placement_group_removed", "actor_placement_group_removed"}
SECOND_DRIVER = ClientId(1 << 22)
#: Ends of the workers of a lost environment: of a worker that was not started any more, and of a killed one.
NO_ENVIRONMENT = WorkerEnd(NOT_STARTED, 0, "its environment has ended")
ENVIRONMENT_LOST = WorkerEnd(SIGNALLED, 9, "its environment was lost")


class World:
    """A core, its peers, the links between them, and the expected results."""

    def __init__(self, cpus: int = 2, max_workers: int = 64, *, keeps_reports: bool = False) -> None:
        #: Whether the last reports of a dead worker are found.
        self.keeps_reports = keeps_reports
        self.time = 0.0
        self.core = Core(resources={"CPU": cpus * CPU}, now=0.0, max_workers=max_workers)
        self.up: dict[ClientId, deque[m.FromClient]] = {DRIVER: deque()}
        self.down: dict[ClientId, deque[m.ToClient]] = {DRIVER: deque()}
        self.plans: dict[ObjectId, Plan] = {}
        self.deps: dict[ObjectId, tuple[ObjectId, ...]] = {}
        self.puts: dict[ObjectId, str] = {}
        self.workers: dict[ClientId, SimWorker] = {}
        self.drivers: dict[ClientId, SimDriver] = {DRIVER: SimDriver(self, DRIVER)}
        self.starts: list[ClientId] = []
        #: Keys of the environments of the workers, by worker id.
        self.where: dict[ClientId, str] = {}
        #: Keys of the environments that are being set up, and of the open ones.
        self.opening: list[str] = []
        self.open: set[str] = set()
        #: Keys of lost environments whose loss the core does not know yet.
        self.lost: list[str] = []
        self.exits: list[WorkerExited] = []
        #: Number of charged runs that each task must have when it is sent.
        self.charges: Counter[ObjectId] = Counter()
        self.files = Files()
        #: Whether the faults are over, and spinning tasks may end.
        self.calm = False
        #: Kinds of failures that tasks may have though the sequential run does not fail.
        self.faults: set[str] = set()
        self.actor_of: dict[ObjectId, ObjectId] = {}
        #: Client ids of the drivers of the placement groups that were not removed, by group id.
        self.groups: dict[GroupId, ClientId] = {}
        self.feed([])
        self.drivers[DRIVER].define()

    # ------------------------------------------------------------------------------------------------------- the core

    def feed(self, events: list[Event]) -> None:
        """Let the core react to events, perform its commands, and check all invariants."""
        for command in self.core.handle([self._wired(event) for event in events], self.time):
            self._perform(command)
        self.core.audit()
        self.files.check(
            obj.value.segment
            for obj in self.core._ledger.objects.values()
            if obj.creator and isinstance(obj.value, m.Stored)
        )

    def _wired(self, event: Event) -> Event:
        if not isinstance(event, Received):
            return event
        _, (message,) = m.decode_from_client(m.encode_frame(1, [event.message]))
        return Received(event.sender, message)

    def _perform(self, command: Any) -> None:
        match command:
            case Send(to, message):
                _, (decoded,) = m.decode_to_client(m.encode_frame(1, [message]))
                assert decoded == message
                if to in self.down:
                    self.down[to].append(decoded)
            case StartWorker(worker_id, environment):
                self.where[worker_id] = environment
                if environment and environment not in self.open:
                    assert environment in self.lost, "a worker was started in an environment that is not open"
                    self.exits.append(WorkerExited(worker_id, NO_ENVIRONMENT))
                    self.up[worker_id] = deque()
                    self.down[worker_id] = deque()
                else:
                    self.starts.append(worker_id)
            case OpenEnvironment(environment):
                assert environment.key not in (*self.opening, *self.open), "it was opened twice"
                self.opening.append(environment.key)
            case CloseEnvironment(key):
                assert not self._members(key), "an environment with workers was closed"
                self.open.discard(key)
            case StopWorker(worker_id, how):
                if how == "kill":
                    self.end_worker(worker_id, KILLED, survives=None)
                elif worker_id in self.down:
                    self.down[worker_id].append(m.Exit())
            case DropSegment():
                self.files.on_command(command, (*self.workers, *self.drivers))
            case Log(text):
                assert "could not be started" in text or "was lost" in text, text
            case Quit():
                raise AssertionError("the session has ended")

    def on_segments(self, client_id: ClientId, message: m.DropSegments | m.Evict | m.Spill) -> None:
        answer = self.files.on_message(client_id, message)
        if answer is not None:
            self.up[client_id].append(answer)

    # -------------------------------------------------------------------------------------------------- the network

    def deliver_up(self, peer: ClientId, count: int = 1) -> None:
        """Deliver the next messages of a peer to the core, in one batch."""
        link = self.up[peer]
        self.time += 0.0001
        self.feed([Received(peer, link.popleft()) for _ in range(min(count, len(link)))])

    def deliver_down(self, peer: ClientId) -> None:
        """Deliver the next message to a peer."""
        message = self.down[peer].popleft()
        if peer in self.drivers:
            self.drivers[peer].on_message(message)
        elif peer in self.workers:
            if isinstance(message, m.RunTask):
                assert message.attempt == self.charges[message.spec.task_id], "charged wrongly"
                self.workers[peer].open_runs[message.run] = message
            self.workers[peer].on_message(message)
        else:
            self.files.on_lost(message)

    def tick(self, seconds: float | None = None) -> None:
        """Move the time forward, by default to the core's deadline, and wake the core."""
        deadline = self.core.deadline()
        if seconds is not None:
            self.time += seconds
        elif deadline is not None:
            self.time = max(self.time, deadline)
        self.feed([Tick()])

    # ------------------------------------------------------------------------------------------------------- workers

    def start_worker(self, worker_id: ClientId, *, fails: bool = False) -> None:
        self.starts.remove(worker_id)
        if fails:
            # After five failed starts in a row, ready tasks fail.
            self.faults |= {"system", "actor_died"}
            self.feed([WorkerExited(worker_id, NO_PROCESS)])
            return
        self.workers[worker_id] = SimWorker(self, worker_id, IdSource(worker_id), self.where[worker_id])
        self.up[worker_id] = deque()
        self.down[worker_id] = deque()
        self.feed([WorkerStarted(worker_id, 1000 + worker_id)])

    # -------------------------------------------------------------------------------------------------- environments

    def _members(self, key: str) -> list[ClientId]:
        """Return the ids of an environment's workers that are starting, run, or have ended unknown to the core."""
        ids = [*self.starts, *self.workers, *(exited.worker_id for exited in self.exits)]
        return [worker_id for worker_id in ids if self.where[worker_id] == key]

    def set_up(self, key: str, *, fails: bool = False) -> None:
        """End the set-up of an environment, or let it fail."""
        self.opening.remove(key)
        if fails:
            self.faults |= {"runtime_env_setup", "actor_died", "task_error"}
            self.feed([EnvironmentLost(key, "no such package")])
            return
        self.open.add(key)
        self.feed([EnvironmentOpened(key)])

    def lose_environment(self, key: str) -> None:
        """End the process of an environment, and all its workers."""
        self.faults |= {*LOSSES, "runtime_env_setup", "task_error"}
        self.open.discard(key)
        self.lost.append(key)
        for worker_id in self._members(key):
            if worker_id in self.workers:
                self.end_worker(worker_id, ENVIRONMENT_LOST, survives=None)
            elif worker_id in self.starts:
                self.starts.remove(worker_id)
                self.up[worker_id] = deque()
                self.down[worker_id] = deque()
                self.exits.append(WorkerExited(worker_id, ENVIRONMENT_LOST))

    def deliver_loss(self, key: str) -> None:
        """Tell the core of the loss of an environment, after the ends of its workers."""
        self.lost.remove(key)
        self.feed([EnvironmentLost(key, "gone")])

    def end_worker(self, worker_id: ClientId, end: WorkerEnd, *, survives: int | None) -> None:
        """End a worker's process. `survives`: number of sent messages that still arrive; None for all."""
        worker = self.workers.pop(worker_id, None)
        if worker is None:
            return
        link = self.up[worker_id]
        delivered = list(link) if survives is None else list(link)[:survives]
        lost = [] if survives is None else list(link)[survives:]
        self.up[worker_id] = deque(delivered)
        found = set(map(id, worker.kept.values()))
        lost = [message for message in lost if id(message) not in found]
        for message in lost:
            if isinstance(message, m.TaskDone | m.Yield):
                for value in message.values if isinstance(message, m.TaskDone) else (message.value,):
                    if isinstance(value, m.Stored):
                        self.files.memory.pop(value.segment)
        # A lost TaskFailed was counted when it was sent, and is counted as a crash just the same.
        charged = {message.task_id for message in lost if isinstance(message, m.TaskDone)}
        charged |= {run.spec.task_id for run in worker.open_runs.values() if run.run <= worker.started}
        # A task that was handed back in a lost message looks like a task whose result is lost.
        for message in lost:
            returned = message.task_ids if isinstance(message, m.Returned) else ()
            returned = message.returned if isinstance(message, m.Blocked) else returned
            charged |= {task_id for task_id in returned if worker.handed_back[task_id] <= worker.started}
        if worker.actor_id:
            # The creation runs again, even if its first run had ended.
            charged.add(worker.actor_id)
        self.charges.update(charged)
        reports = tuple(sorted(worker.kept.items()))
        self.exits.append(WorkerExited(worker_id, end, worker.started, worker.finished, reports))

    def deliver_exit(self, index: int = 0) -> None:
        """Tell the core of a worker's end, after all messages that the worker has sent."""
        exited = self.exits.pop(index)
        while self.up[exited.worker_id]:
            self.deliver_up(exited.worker_id, 100)
        for message in self.down.pop(exited.worker_id):
            self.files.on_lost(message)
        self.up.pop(exited.worker_id)
        self.feed([exited])

    def on_start(self, worker: SimWorker, run: m.RunTask) -> None:
        """Check the order of an actor's calls."""
        if run.actor is not None:
            worker.actor_id = run.spec.task_id
        elif run.spec.actor_id:
            caller = run.spec.task_id >> 40
            history = worker.history.setdefault(caller, [])
            assert not history or history[-1] < run.spec.task_id, "calls of one caller changed their order"
            history.append(run.spec.task_id)

    # ------------------------------------------------------------------------------------------- what drivers do

    def join(self) -> None:
        self.drivers[SECOND_DRIVER] = SimDriver(self, SECOND_DRIVER)
        self.up[SECOND_DRIVER] = deque()
        self.down[SECOND_DRIVER] = deque()
        self.feed([ClientJoined(SECOND_DRIVER)])
        self.drivers[SECOND_DRIVER].define()

    def leave(self) -> None:
        for group_id in [group_id for group_id, driver in self.groups.items() if driver == SECOND_DRIVER]:
            del self.groups[group_id]
            self.faults |= REMOVALS
        del self.drivers[SECOND_DRIVER], self.up[SECOND_DRIVER], self.down[SECOND_DRIVER]
        self.feed([ClientGone(SECOND_DRIVER)])

    def submit(
        self,
        driver: SimDriver,
        plan: Plan,
        deps: tuple[ObjectId, ...] = (),
        refs: tuple[ObjectId, ...] = (),
        place: Place | None = None,
    ) -> ObjectId:
        task_id = driver.ids.take(plan.returns)
        self.plans[task_id] = plan
        self.deps[task_id] = deps
        for object_id in map(ObjectId, range(task_id, task_id + plan.returns)):
            driver.held.add(object_id)
            driver.allowed[object_id] += 1
        if plan.kind == "stream":
            driver.streams[task_id] = []
        if place is not None:
            # The task may need more than a bundle has, and the group may have been removed before.
            self.faults |= {"task_unschedulable", "task_placement_group_removed"}
        driver.send(m.Submit(spec_of(plan, task_id, deps=deps, refs=refs, place=place)))
        return task_id

    def create_group(self, driver: SimDriver, bundles: list[int]) -> GroupId:
        """Create a placement group with bundles of these amounts of CPUs, in ten-thousandths."""
        group_id = GroupId(driver.ids.take())
        self.groups[group_id] = driver.id
        amounts = tuple((("CPU", amount),) for amount in bundles)
        driver.send(m.CreateGroup(group_id, amounts, "PACK", f"group#{group_id & 0xFFFF}", driver=driver.id))
        return group_id

    def remove_group(self, group_id: GroupId) -> None:
        """Remove a group by a message of its creator: another driver's message could arrive before the creation."""
        self.faults |= REMOVALS
        self.drivers[self.groups.pop(group_id)].send(m.RemoveGroup(group_id))

    def remove_groups(self) -> None:
        """Remove all groups, since tasks in a group that cannot be reserved would wait for ever."""
        for group_id in list(self.groups):
            self.remove_group(group_id)

    def put(self, driver: SimDriver, text: str, refs: tuple[ObjectId, ...] = ()) -> ObjectId:
        object_id = driver.ids.take()
        self.puts[object_id] = text
        driver.held.add(object_id)
        driver.send(m.Put(object_id, inline(text), refs))
        return object_id

    def create_actor(
        self,
        driver: SimDriver,
        plan: Plan,
        restarts: int,
        deps: tuple[ObjectId, ...] = (),
        name: str = "",
        place: Place | None = None,
    ) -> ObjectId:
        actor_id = driver.ids.take()
        self.plans[actor_id] = plan
        self.deps[actor_id] = deps
        driver.held.add(actor_id)
        driver.actors.add(actor_id)
        if plan.value([]) == "!" or deps:
            self.faults.add("actor_died")
        driver.allowed[actor_id] += 1
        if place is not None:
            self.faults |= {"actor_unschedulable", "actor_placement_group_removed"}
        spec = spec_of(plan, actor_id, deps=deps, place=place)
        actor = m.ActorSpec("Actor", (), restarts, name=name, namespace="shared")
        if name:
            # Another actor may have the name; then this one is not made, and its calls fail.
            self.faults.add("actor_died")
            driver.asked[len(driver.asked) + 1] = actor_id
        driver.send(m.CreateActor(spec, actor, len(driver.asked) if name else 0))
        return actor_id

    def call(
        self, driver: SimDriver, actor_id: ObjectId, plan: Plan, deps: tuple[ObjectId, ...] = ()
    ) -> ObjectId:
        task_id = driver.ids.take(plan.returns)
        self.plans[task_id] = plan
        self.deps[task_id] = deps
        for object_id in map(ObjectId, range(task_id, task_id + plan.returns)):
            self.actor_of[object_id] = actor_id
            driver.held.add(object_id)
            driver.allowed[object_id] += 1
        if plan.kind == "stream":
            driver.streams[task_id] = []
        driver.send(m.Submit(spec_of(plan, task_id, deps=deps, actor_id=actor_id, method="call", digest=b"")))
        return task_id

    def release(self, driver: SimDriver, object_id: ObjectId) -> None:
        driver.held.discard(object_id)
        driver.actors.discard(object_id)
        driver.send(m.Release((object_id,)))

    def cancel(self, driver: SimDriver, object_id: ObjectId, *, force: bool, recursive: bool) -> None:
        self.faults |= CANCELS
        if force:
            # The killed worker may have gone on to another task.
            self.faults |= LOSSES
        driver.send(m.CancelTask(object_id, force, recursive))

    def kill_actor(self, driver: SimDriver, actor_id: ObjectId, *, no_restart: bool) -> None:
        self.faults |= {"actor_died", "actor_unavailable", "task_error"}
        driver.send(m.KillActor(actor_id, no_restart))

    # ------------------------------------------------------------------------------------------------------- the end

    def moves(self) -> list[Callable[[], None]]:
        """Return the actions that are possible now without a fault."""
        moves: list[Callable[[], None]] = []
        for peer, up in self.up.items():
            if up:
                moves.append(lambda peer=peer: self.deliver_up(peer, 3))  # type: ignore[misc]
        for peer, down in self.down.items():
            if down:
                moves.append(lambda peer=peer: self.deliver_down(peer))  # type: ignore[misc]
        for worker in self.workers.values():
            if worker.can_step():
                moves.append(worker.step)
        moves.extend(lambda worker_id=w: self.start_worker(worker_id) for w in self.starts)  # type: ignore[misc]
        moves.extend(lambda key=k: self.set_up(key) for k in self.opening)  # type: ignore[misc]
        if self.exits:
            moves.append(self.deliver_exit)
        moves.extend(
            lambda key=k: self.deliver_loss(key)  # type: ignore[misc]
            for k in self.lost
            if not self._members(k)
        )
        if self.calm:
            for driver in self.drivers.values():
                moves.extend(lambda d=driver, s=stream: d.take(s) for stream in driver.waiting_streams())  # type: ignore[misc]
        return moves

    def settle(self) -> None:
        """Take possible actions in random order until none is left and the core has no deadline."""
        self.calm = True
        rng = random.Random(1)
        for _ in range(200_000):
            moves = self.moves()
            if moves:
                rng.choice(moves)()
                continue
            if self.core.deadline() is None:
                return
            before = self.time
            self.tick()
            late = self.core.deadline()
            assert self.moves() or late is None or late > before, "the core wants to be woken for nothing"
        raise AssertionError("it does not end")

    def check_results(self) -> None:
        """Assert that each object of a driver has a value, and the value of a sequential run."""
        for driver in self.drivers.values():
            for object_id in driver.held - set(self.puts):
                value = driver.values.get(object_id)
                assert value is not None, f"{object_id:#x} never resolved: {self.core.explain(object_id)}"
                self._check_value(object_id, value)
            for task_id, items in driver.streams.items():
                self._check_stream(driver, task_id, items)

    def _check_stream(self, driver: SimDriver, task_id: ObjectId, items: list[ObjectId]) -> None:
        """Assert that the items of a stream are those of a sequential run, and all of them if the task succeeded."""
        plan = self.plans[task_id]
        args = [self._expected(dep) for dep in self.deps.get(task_id, ())]
        for index, object_id in enumerate(items):
            if object_id in driver.held and task_id not in self.actor_of:
                assert read(driver.values[object_id]) == plan.item(index, args)
        if task_id in driver.held and not isinstance(driver.values[task_id], m.Failure):
            assert len(items) == plan.items

    def _check_value(self, object_id: ObjectId, value: m.Inline | m.Stored | m.Failure) -> None:
        allowed = self.faults | {"task_error"}
        if isinstance(value, m.Failure):
            assert value.kind in allowed, value
        root = self._task_of(object_id)
        if root is None or root in self.actor_of or root not in self.deps or object_id >> 40 == SCHEDULER:
            return
        expected = self._expected(root)
        if isinstance(value, m.Failure):
            assert expected == "!" or self.faults, f"{value} instead of {expected}"
        else:
            assert read(value) == expected

    def _task_of(self, object_id: ObjectId) -> ObjectId | None:
        """Return the id of the task that makes an object; None for the items of streams and objects put by hand."""
        ids = [ObjectId(object_id - index) for index in range(3)]
        return next((task_id for task_id in ids if task_id in self.plans), None)

    def _expected(self, task_id: ObjectId) -> str:
        if task_id in self.puts:
            return self.puts[task_id]
        for driver in self.drivers.values():
            for stream, items in driver.streams.items():
                if task_id in items:
                    args = [self._expected(dep) for dep in self.deps.get(stream, ())]
                    return self.plans[stream].item(items.index(task_id), args)
        root = self._task_of(task_id)
        assert root is not None
        return self.plans[root].value([self._expected(dep) for dep in self.deps.get(root, ())])

    def close(self) -> None:
        """Release all refs, and assert that no record, segment, worker, environment or resource is left in use."""
        for driver in self.drivers.values():
            for stream in list(driver.streams):
                driver.drop(stream, end_too=True)
        for driver in self.drivers.values():
            for object_id in sorted(driver.held):
                self.release(driver, object_id)
        self.settle()
        for driver in self.drivers.values():
            for object_id in sorted(driver.held):
                self.release(driver, object_id)
        self.settle()
        ledger = self.core._ledger
        assert not ledger.tasks
        assert not ledger.objects, next(iter(ledger.objects.values())).label
        assert not ledger.actors
        assert not ledger.groups
        assert all(shape.group is None for shape in ledger.shapes.values()), "a shape of a group leaked"
        assert ledger.free == ledger.total, "a slot leaked"
        assert not ledger.storage.memory_bytes
        assert not ledger.storage.disk_bytes
        assert not ledger.storage.moves
        assert not self.files.memory, "a segment leaked"
        assert not self.files.disk, "a copy leaked"
        assert len(ledger.home.idle) == len(ledger.workers) <= max(1, ledger.total["CPU"] // CPU)
        assert not self.open, "an environment stayed open"
        assert all(not client.held for client in ledger.clients.values())
