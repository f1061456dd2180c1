"""Transcripts of a core: `t >> event << command << command`, and the functions that make events and commands for them.

`>>` gives the core an event, or several in one batch. Every command that follows must be asserted by `<<`, in order,
before the next event and before the end of the test; `quiet()` asserts that no command follows. Every message crosses
the wire format in both directions, and the core is audited after every event. The time is `t.now`, in seconds; only
the test moves it.
"""

from __future__ import annotations

from typing import Any, ClassVar

from ipyremote import messages as m
from ipyremote.backend import RareOptions
from ipyremote.core import (
    Command,
    Core,
    Event,
    Received,
    Send,
    StartWorker,
    Tick,
    WorkerExited,
    WorkerStarted,
)
from ipyremote.core.events import EXITED, NOT_STARTED, SIGNALLED, WorkerEnd
from ipyremote.ids import COUNTER_BITS, DRIVER, ClientId, GroupId, ObjectId

CPU = m.RESOURCE_UNIT
#: Worker ids in the order in which a core starts workers; a core starts as many as it has processors.
W2, W3, W4, W5, W6, W7 = (ClientId(number) for number in range(2, 8))
FN = b"function"
#: Ends of workers: killed by a signal, left with an exit code, and no process for want of memory.
KILLED = WorkerEnd(SIGNALLED, 9, "signal 9 (SIGKILL)")
EXIT_CODE_0 = WorkerEnd(EXITED, 0, "exit code 0")
EXIT_CODE_1 = WorkerEnd(EXITED, 1, "exit code 1")
NO_PROCESS = WorkerEnd(NOT_STARTED, 0, "no memory")


class Transcript:
    """A core with its time, and the commands that the test has not asserted yet."""

    #: The transcripts of the present test; `conftest` checks that all their commands were asserted.
    written: ClassVar[list[Transcript]] = []

    def __init__(
        self,
        *,
        cpus: float = 2,
        gpus: int = 0,
        max_workers: int = 256,
        keep_alive: float = 0.0,
        start: bool = True,
        labels: dict[str, str] | None = None,
        **others: float,
    ):
        amounts = {"CPU": cpus, "GPU": gpus, **others}
        Transcript.written.append(self)
        self.now = 0.0
        self.core = Core(
            resources={name: round(amount * CPU) for name, amount in amounts.items()},
            now=0.0,
            max_workers=max_workers,
            keep_alive=keep_alive,
            labels=labels,
        )
        self.pending: list[Command] = []
        if start:
            self.start_workers(max(1, int(cpus)))
            self >> Received(DRIVER, m.Define(FN, b"code"))

    def start_workers(self, count: int) -> None:
        """Wake the core, assert that it starts `count` workers, and let them greet."""
        self >> Tick()
        for worker_id in range(W2, W2 + count):
            self << StartWorker(ClientId(worker_id))
        for worker_id in range(W2, W2 + count):
            self >> started(ClientId(worker_id))

    def __rshift__(self, event: Event | list[Event]) -> Transcript:
        assert [] == self.pending, "commands before this event were not asserted"
        events = event if isinstance(event, list) else [event]
        self.pending = [_sent(command) for command in self.core.handle([_wired(e) for e in events], self.now)]
        self.core.audit()
        return self

    def __lshift__(self, command: Command) -> Transcript:
        assert self.pending, f"no command is left; expected {command}"
        assert command == self.pending.pop(0)
        return self

    def quiet(self) -> None:
        """Assert that no command is left."""
        assert [] == self.pending

    def taken(self) -> list[Command]:
        """Take and return the commands that are left, for a test that does not assert them one by one."""
        commands, self.pending = self.pending, []
        return commands

    def later(self, seconds: float) -> Transcript:
        """Move the time forward and wake the core."""
        self.now += seconds
        return self >> Tick()

    def run_away(self, worker: ClientId, *specs: m.TaskSpec) -> None:
        """Have a worker run tasks one by one, without asserting any command."""
        for spec in specs:
            self.core.handle([Received(DRIVER, m.Submit(spec))], self.now)
            self.core.handle([done(worker, spec)], self.now)


def _wired(event: Event) -> Event:
    """Return the event with its message encoded and decoded."""
    if not isinstance(event, Received):
        return event
    _, (message,) = m.decode_from_client(m.encode_frame(1, [event.message]))
    assert message == event.message
    return Received(event.sender, message)


def _sent(command: Command) -> Command:
    """Return the command with its message encoded and decoded."""
    if not isinstance(command, Send):
        return command
    _, (message,) = m.decode_to_client(m.encode_frame(1, [command.message]))
    assert message == command.message
    return Send(command.to, message)


def ident(number: int, client: ClientId = DRIVER) -> ObjectId:
    """Return the `number`th id that a client makes."""
    return ObjectId((client << COUNTER_BITS) + number)


def rare(**given: int) -> RareOptions:
    """Return a record of rare options that asks for nothing else."""
    return RareOptions(**{**dict.fromkeys(RareOptions._fields, 0), **given})


def task(number: int, /, *, client: ClientId = DRIVER, cpus: float = 1, **fields: Any) -> m.TaskSpec:
    """Return the spec of a task with the label `f#number`. `cpus` and `resources` are in whole units."""
    resources = {"CPU": cpus, **fields.pop("resources", {})}
    if "max_calls" in fields:
        fields["rare"] = rare(max_calls=fields.pop("max_calls"))
    fields.setdefault("digest", FN)
    fields.setdefault("name", "f")
    fields.setdefault("number", str(number))
    return m.TaskSpec(
        task_id=ident(number, client),
        args=m.Inline(b""),
        resources=tuple(sorted((name, round(amount * CPU)) for name, amount in resources.items() if amount)),
        **fields,
    )


def call(number: int, actor: int, /, *, client: ClientId = DRIVER, **fields: Any) -> m.TaskSpec:
    """Return the spec of a method call of the driver's `actor`th actor, with the label `A.m#number`."""
    return task(number, client=client, digest=b"", name="A.m", actor_id=ident(actor), method="m", **fields)


def started(worker: ClientId) -> Event:
    """Return the event that a worker has greeted. Its process id is its worker id plus 100."""
    return WorkerStarted(worker, 100 + worker)


def exited(worker: ClientId, start: int = 0, finish: int = 0, end: WorkerEnd = KILLED) -> Event:
    """Return the event that a worker's process has ended, by default by SIGKILL."""
    return WorkerExited(worker, end, start, finish)


def submit(spec: m.TaskSpec, sender: ClientId = DRIVER) -> Event:
    return Received(sender, m.Submit(spec))


def create(spec: m.TaskSpec, **fields: Any) -> Event:
    return Received(DRIVER, m.CreateActor(spec, m.ActorSpec("A", **fields)))


def bundles(*amounts: dict[str, float]) -> tuple[m.Resources, ...]:
    """Return the bundles of a placement group in their form on the wire. `amounts` are in whole units."""
    return tuple(tuple(sorted((name, round(n * CPU)) for name, n in some.items())) for some in amounts)


def group(number: int, *amounts: dict[str, float], sender: ClientId = DRIVER, **fields: Any) -> Event:
    """Return the event that a client creates placement group `number`, labelled `group#number`; by default one CPU."""
    fields.setdefault("strategy", "PACK")
    fields.setdefault("label", f"group#{number}")
    made = m.CreateGroup(GroupId(number), bundles(*(amounts or ({"CPU": 1},))), **fields)
    return Received(sender, made)


def remove(number: int, sender: ClientId = DRIVER) -> Event:
    """Return the event that a client removes a placement group."""
    return Received(sender, m.RemoveGroup(GroupId(number)))


def value(text: str = "1") -> m.Inline:
    return m.Inline(text.encode())


def done(
    worker: ClientId, spec: m.TaskSpec, *values: m.Value, attempt: int = 0, micros: int = 100, refs: Any = ()
) -> Event:
    """Return the event that a worker reports the end of a run; without `values` each return is `value()`."""
    given = values or (value(),) * spec.returns
    return Received(worker, m.TaskDone(spec.task_id, attempt, given, refs, micros))


def run(
    worker: ClientId, spec: m.TaskSpec, number: int, *values: Any, attempt: int = 0, **fields: Any
) -> Command:
    """Return the command that sends a task to a worker, as the worker's `number`th run."""
    return Send(worker, m.RunTask(spec, attempt, number, values, **fields))


def ready(number: int, result: Any = None, to: ClientId = DRIVER, client: ClientId = DRIVER) -> Command:
    """Return the command that tells a client the value of an object, by default `value()`."""
    return Send(to, m.ObjectReady(ident(number, client), value() if result is None else result))


def define(worker: ClientId) -> Command:
    return Send(worker, m.Define(FN, b"code"))


def failure_of(command: Command) -> m.Failure:
    """Return the failure that a command tells a client."""
    assert isinstance(command, Send)
    assert isinstance(command.message, m.ObjectReady)
    assert isinstance(command.message.value, m.Failure)
    return command.message.value
