"""The model check: Hypothesis looks for an interleaving, with faults, that breaks a promise of the core.

The simulation checks the promises: `audit` passes after every event; each ref resolves exactly once; results are those
of a sequential run; a retry is charged if and only if the task had started; calls keep their order; and when all refs
are released, no task, object, holder, segment or resource is left in use.

`--hypothesis-profile=deep` searches for longer.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from ipyremote import messages as m
from ipyremote.backend.placement import Place
from ipyremote.ids import ObjectId
from tests.core.peers import CPU, Plan, SimDriver
from tests.core.simulation import CANCELS, LOSSES, SECOND_DRIVER, World
from tests.core.transcript import KILLED

NAMES = st.sampled_from("abcdefgh")
RETRIES = st.sampled_from([-1, -1, 0, 3])
CPUS = st.sampled_from([CPU, CPU, CPU // 2, 2 * CPU, 0])
PICK = st.integers(0, 1_000)

#: Environments and `max_calls` of tasks: most tasks run in the session's own environment, and without `max_calls`.
ENVIRONMENT = st.sampled_from(["", "", "", "x", "y"])
MAX_CALLS = st.sampled_from([0, 0, 0, 2])

leaves = st.one_of(
    st.builds(
        Plan,
        st.sampled_from(["value", "value", "raise"]),
        NAMES,
        retries=RETRIES,
        cpus=CPUS,
        returns=st.integers(1, 2),
        environment=ENVIRONMENT,
        max_calls=MAX_CALLS,
    ),
    st.builds(Plan, st.just("large"), NAMES, retries=RETRIES, cpus=CPUS),
    st.builds(
        Plan,
        st.just("flaky"),
        NAMES,
        retries=st.sampled_from([-1, 3]),
        cpus=CPUS,
        environment=ENVIRONMENT,
        max_calls=MAX_CALLS,
    ),
    st.builds(Plan, st.just("spin"), NAMES, retries=RETRIES, cpus=CPUS, environment=ENVIRONMENT),
)


streams = st.builds(
    Plan,
    st.just("stream"),
    NAMES,
    retries=RETRIES,
    cpus=CPUS,
    items=st.integers(0, 6),
    limit=st.sampled_from([-1, 1, 2]),
    raises=st.sampled_from([0, 0, 1]),
    environment=ENVIRONMENT,
    max_calls=MAX_CALLS,
).filter(lambda plan: plan.retries or not plan.raises)


def _branches(children: st.SearchStrategy[Plan]) -> st.SearchStrategy[Plan]:
    some = st.lists(children, min_size=1, max_size=3).map(tuple)
    one = st.lists(children, min_size=1, max_size=1).map(tuple)
    return st.one_of(
        st.builds(Plan, st.sampled_from(["wait", "hand"]), NAMES, some, RETRIES, CPUS),
        st.builds(Plan, st.just("tail"), NAMES, one, RETRIES, CPUS),
        st.builds(
            Plan, st.just("leave"), NAMES, st.lists(streams, min_size=1, max_size=2).map(tuple), RETRIES, CPUS
        ),
    )


plans = st.recursive(leaves, _branches, max_leaves=5)
calls = st.one_of(leaves, _branches(leaves)).filter(lambda plan: plan.kind != "flaky")
creations = st.builds(
    Plan,
    st.sampled_from(["value", "value", "raise", "wait"]),
    st.just("A"),
    st.just(()),
    cpus=CPUS,
    environment=ENVIRONMENT,
)


class Cluster(RuleBasedStateMachine):
    """A state machine whose rules are the actions of users, the network and faults."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.joined = False

    @initialize(cpus=st.integers(2, 4), keeps_reports=st.booleans())
    def start(self, cpus: int, keeps_reports: bool) -> None:
        self.world = World(cpus, keeps_reports=keeps_reports)

    def driver(self, pick: int) -> SimDriver:
        drivers = list(self.world.drivers.values())
        return drivers[pick % len(drivers)]

    def some_place(self, pick: int) -> Place | None:
        """Return a place in one of the placement groups, or None."""
        groups = sorted(self.world.groups)
        if not groups or pick % 3 == 0:
            return None
        return Place(groups[pick % len(groups)], pick % 2 - 1, captures=False)

    def some_object(self, driver: SimDriver, pick: int) -> tuple[ObjectId, ...]:
        """Return one of the objects of a driver, or none."""
        objects = sorted(driver.held - driver.actors)
        return (objects[pick % len(objects)],) if objects and pick % 3 else ()

    @rule(plan=plans, who=PICK, dep=PICK, ref=PICK, where=PICK)
    def submit(self, plan: Plan, who: int, dep: int, ref: int, where: int) -> None:
        driver = self.driver(who)
        dependency, inner = self.some_object(driver, dep), self.some_object(driver, ref)
        self.world.submit(driver, plan, dependency, inner, self.some_place(where))

    @rule(plan=leaves, who=PICK, count=st.integers(2, 20), where=PICK)
    def submit_many(self, plan: Plan, who: int, count: int, where: int) -> None:
        driver = self.driver(who)
        for _ in range(count):
            self.world.submit(driver, plan, place=self.some_place(where))

    @rule(who=PICK, bundles=st.lists(st.sampled_from([CPU, CPU, CPU // 2, 2 * CPU]), min_size=1, max_size=2))
    def create_group(self, who: int, bundles: list[int]) -> None:
        self.world.create_group(self.driver(who), bundles)

    @rule(pick=PICK)
    def remove_group(self, pick: int) -> None:
        groups = sorted(self.world.groups)
        if groups:
            self.world.remove_group(groups[pick % len(groups)])

    @rule(plan=streams, who=PICK, dep=PICK)
    def submit_stream(self, plan: Plan, who: int, dep: int) -> None:
        driver = self.driver(who)
        self.world.submit(driver, plan, self.some_object(driver, dep))

    @rule(plan=streams.filter(lambda plan: not plan.raises), who=PICK, actor=PICK)
    def call_stream(self, plan: Plan, who: int, actor: int) -> None:
        driver = self.driver(who)
        actors = sorted(driver.actors)
        if actors:
            self.world.call(driver, actors[actor % len(actors)], plan)

    @rule(who=PICK, pick=PICK)
    def take_an_item(self, who: int, pick: int) -> None:
        driver = self.driver(who)
        waiting = driver.waiting_streams()
        if waiting:
            driver.take(waiting[pick % len(waiting)])

    @rule(who=PICK, pick=PICK, end_too=st.booleans())
    def drop_a_generator(self, who: int, pick: int, end_too: bool) -> None:
        driver = self.driver(who)
        if driver.streams:
            driver.drop(sorted(driver.streams)[pick % len(driver.streams)], end_too=end_too)

    @rule(who=PICK, ref=PICK)
    def put(self, who: int, ref: int) -> None:
        driver = self.driver(who)
        self.world.put(driver, "p", self.some_object(driver, ref))

    @rule(
        plan=creations,
        who=PICK,
        restarts=st.sampled_from([0, 1, -1]),
        dep=PICK,
        name=st.sampled_from(["", "", "x", "y"]),
        where=PICK,
    )
    def create_actor(self, plan: Plan, who: int, restarts: int, dep: int, name: str, where: int) -> None:
        driver = self.driver(who)
        dependency, place = self.some_object(driver, dep), self.some_place(where)
        self.world.create_actor(driver, plan, restarts, dependency, name, place)

    @rule(plan=calls, who=PICK, actor=PICK, dep=PICK, count=st.integers(1, 4))
    def call(self, plan: Plan, who: int, actor: int, dep: int, count: int) -> None:
        driver = self.driver(who)
        actors = sorted(driver.actors)
        for _ in range(count if actors else 0):
            self.world.call(driver, actors[actor % len(actors)], plan, self.some_object(driver, dep))

    @rule(who=PICK, pick=PICK)
    def release(self, who: int, pick: int) -> None:
        driver = self.driver(who)
        held = sorted(driver.held)
        if held:
            self.world.release(driver, held[pick % len(held)])

    @rule(who=PICK, kind=st.sampled_from(["tasks", "actors", "objects", "workers"]))
    def look_on(self, who: int, kind: str) -> None:
        self.driver(who).send(m.ListState(1, kind, limit=10_000, detail=True))

    @rule(who=PICK, pick=PICK, force=st.booleans(), recursive=st.booleans())
    def cancel(self, who: int, pick: int, force: bool, recursive: bool) -> None:
        driver = self.driver(who)
        for object_id in self.some_object(driver, pick):
            self.world.cancel(driver, object_id, force=force, recursive=recursive)

    @rule(who=PICK, pick=PICK, no_restart=st.booleans())
    def kill_actor(self, who: int, pick: int, no_restart: bool) -> None:
        driver = self.driver(who)
        actors = sorted(driver.actors)
        if actors:
            self.world.kill_actor(driver, actors[pick % len(actors)], no_restart=no_restart)

    @precondition(lambda self: self.world.workers)
    @rule(pick=PICK, survives=st.integers(0, 8))
    def worker_dies(self, pick: int, survives: int) -> None:
        self.world.faults |= {*LOSSES, "task_error"}
        workers = sorted(self.world.workers)
        self.world.end_worker(workers[pick % len(workers)], KILLED, survives=survives)

    @precondition(lambda self: self.world.opening)
    @rule(fails=st.booleans())
    def environment_is_set_up(self, fails: bool) -> None:
        self.world.set_up(self.world.opening[0], fails=fails)

    @precondition(lambda self: self.world.open)
    @rule()
    def environment_is_lost(self) -> None:
        self.world.lose_environment(min(self.world.open))

    @rule(who=PICK, needed=st.sampled_from([0, 1, 150, 1000]))
    def memory_is_full(self, who: int, needed: int) -> None:
        peers = sorted(self.world.down.keys() & (self.world.workers.keys() | self.world.drivers.keys()))
        self.world.up[peers[who % len(peers)]].append(m.NoRoom(needed))

    @precondition(lambda self: self.world.starts)
    @rule()
    def worker_cannot_start(self) -> None:
        self.world.start_worker(self.world.starts[0], fails=True)

    @precondition(lambda self: not self.joined)
    @rule()
    def second_driver_joins(self) -> None:
        self.joined = True
        self.world.join()

    @precondition(lambda self: SECOND_DRIVER in self.world.drivers)
    @rule()
    def second_driver_leaves(self) -> None:
        self.world.faults |= CANCELS
        self.world.leave()

    @rule(seconds=st.sampled_from([None, 0.001, 0.003, 1.5, 11.0]))
    def time_passes(self, seconds: float | None) -> None:
        self.world.tick(seconds)

    @rule(picks=st.lists(PICK, min_size=1, max_size=30))
    def things_happen(self, picks: list[int]) -> None:
        for pick in picks:
            moves = self.world.moves()
            if moves:
                moves[pick % len(moves)]()

    def teardown(self) -> None:
        self.world.settle()
        self.world.remove_groups()
        self.world.settle()
        self.world.check_results()
        self.world.close()


TestCluster = Cluster.TestCase
# Settings are made here because the profile is chosen on the command line, before this import.
TestCluster.settings = settings(suppress_health_check=list(HealthCheck))
