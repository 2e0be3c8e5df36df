"""A registry's state and log on a simulated disk, changed by chance, and a model that knows what must have survived."""

import asyncio
from collections.abc import Callable, Coroutine
from random import Random
from typing import Final, NamedTuple

from metaq.errors import StoreError
from metaq.registry.changes import Begin, Change, Content, Internal, Nothing
from metaq.registry.layout import look
from metaq.registry.log import FileLog, LogOptions
from metaq.registry.opening import open_registry
from metaq.registry.requests import (
    ANYBODY,
    Acl,
    Check,
    Create,
    Delete,
    Mode,
    Multi,
    Op,
    Permission,
    Request,
    SetAcl,
    SetData,
)
from metaq.registry.snapshot import decode
from metaq.registry.state import Session, State
from metaq.registry.tree import CONTAINER, Moment, Znode
from tests.simulation.disk import PowerLoss
from tests.simulation.world import Machine, World

PLACE: Final = "/data/registry"
SMALL: Final = LogOptions(file_size=8192, snapshot_after=15_000)  # some files for each snapshot
PATHS: Final = ("/a", "/b", "/ü", "/a/x", "/a/y", "/b/x", "/a/x/1", "/a/x/2")
ACLS: Final = ([ANYBODY], [Acl(Permission.READ, "world", "anyone"), Acl(31, "digest", "user:hash")])
BEGIN: Final = Begin(4000, b"sixteen bytes it")
CHECK: Final = (Op.CHECK, Check("/", -1))
SIZES: Final[tuple[int, ...]] = (0, 1, 30, 200, 700, 3000)


Course = Callable[["Keeper"], Coroutine[object, None, None]]


class Memory(NamedTuple):
    """All that a registry remembers, as plain values that can be compared."""

    zxid: int
    sessions: dict[int, Session]
    nodes: dict[str, tuple[object, ...]]
    owned: dict[int, list[str]]
    containers: frozenset[str]


def remembered(state: State) -> Memory:
    tree = state.tree
    nodes = {path: _plain(node) for path, node in tree.nodes.items()}
    owners = {node.owner for node in tree.nodes.values()} - {0, CONTAINER}
    owned = {owner: tree.owned(owner) for owner in owners}
    return Memory(state.zxid, dict(state.sessions), nodes, owned, frozenset(tree.containers))


def _plain(node: Znode) -> tuple[object, ...]:
    return node.data, tuple(node.acl), node.stat(), frozenset(node.children), node.created_children


class Model:
    """What the registry remembered after each change, the first one before any, and how many are acknowledged."""

    def __init__(self) -> None:
        self.memories = [remembered(State.fresh())]
        self.acked = 0

    def acknowledge(self, count: int) -> None:
        assert count >= self.acked, "told out of order"
        self.acked = count

    def check(self, state: State) -> None:
        """Compare with what was found after an end; take that for the truth: everybody sees it now."""
        found = remembered(state)
        survived = next((count for count in reversed(range(len(self.memories))) if self.memories[count] == found), None)
        assert survived is not None, f"at no time did the registry remember {found}, but at last {self.memories[-1]}"
        assert survived >= self.acked, f"{self.acked} changes were acknowledged, {survived} are there"
        del self.memories[survived + 1 :]
        self.acked = survived


class Keeper:
    """One process on a machine that keeps a registry; several openings may follow one another."""

    def __init__(self, machine: Machine, model: Model, options: LogOptions = SMALL, seed: int = 1) -> None:
        self.machine = machine
        self.model = model
        self.options = options
        self.chance = Random(f"{seed} keeper")
        self.sizes = SIZES  # bytes of data that nodes get
        self.failures: list[StoreError] = []
        self.state = State.fresh()
        self._log: FileLog | None = None

    @property
    def log(self) -> FileLog:
        assert self._log is not None, "no log is open"
        return self._log

    def open(self, *, damaged: bool = False) -> None:
        """Open, and compare with the model. A snapshot that has its name is whole, unless the test has `damaged` it."""
        disk = self.machine.disk
        if disk.exists(PLACE) and not damaged:
            for path in look(disk, PLACE).snapshots.values():
                decode(disk.read(path))
        self.state, self._log = open_registry(PLACE, self.machine.outside, self.options)
        self._log.failed = self.failures.append
        self.model.check(self.state)

    def write(self, count: int = 1) -> None:
        """Make some changes, each committed alone."""
        for _ in range(count):
            self.change()
            self.commit()

    def change(self) -> None:
        """Make one change, any that fits, and append it."""
        change = None
        while change is None:
            moment = Moment(self.state.zxid + self.chance.randrange(1, 4), self.chance.randrange(1 << 40), 0)
            change = self._session(moment) if self.chance.random() < 0.15 else self._operations(moment)
        self.log.append(change)
        self.model.memories.append(remembered(self.state))

    def commit(self) -> None:
        count = len(self.model.memories) - 1
        self.log.commit(lambda: self.model.acknowledge(count))

    async def settle(self) -> None:
        """Return when all is acknowledged, or the log has failed."""
        while self.model.acked < len(self.model.memories) - 1 and not self.failures:
            await asyncio.sleep(0.001)

    def _session(self, moment: Moment) -> Change | None:
        state = self.state
        if len(state.sessions) < 3:
            change = self._change(moment, self.chance.randrange(1, 1 << 62), Internal.BEGIN_SESSION, BEGIN)
        elif self.chance.random() < 0.3:
            change = self._change(moment, 0, Internal.START, Nothing())
        else:
            change = self._change(moment, self.chance.choice([*state.sessions]), Internal.END_SESSION, Nothing())
        state.replay(change)
        return change

    def _change(self, moment: Moment, session: int, op: Op | Internal, request: Content) -> Change:
        return Change(moment.zxid, moment.time, session, op, request)

    def _operations(self, moment: Moment) -> Change | None:
        state = self.state
        session = self.chance.choice([0, *state.sessions])
        operations = [self._operation(session) for _ in range(self.chance.choice((1, 1, 1, 1, 2, 4)))]
        if len(operations) > 1:
            operations = [(op, request) for op, request in operations if op is not Op.SET_ACL]
        done, _ = state.tree.apply_all(operations, moment._replace(session=session))
        if not done:
            return None
        state.tree.events.clear()
        state.zxid = moment.zxid
        op, request = operations[0] if len(operations) == 1 else (Op.MULTI, Multi([*operations, CHECK]))
        return self._change(moment, session, op, request)

    def _operation(self, session: int) -> tuple[Op, Request]:
        chance, path = self.chance, self.chance.choice(PATHS)
        data = chance.choice((None, chance.randbytes(chance.choice(self.sizes))))
        acl = chance.choice(ACLS)
        match chance.randrange(8):
            case 0 | 1:
                modes = (Mode.PERSISTENT, *([Mode.EPHEMERAL, Mode.EPHEMERAL_SEQUENTIAL] if session else []))
                return Op.CREATE, Create(path, data, acl, chance.choice((*modes, Mode.PERSISTENT_SEQUENTIAL)))
            case 2:
                return Op.CREATE_CONTAINER, Create(path, data, acl, Mode.CONTAINER)
            case 3 | 4:
                return Op.SET_DATA, SetData(path, data, -1)
            case 5:
                return Op.SET_ACL, SetAcl(path, acl, -1)
            case _:
                return Op.DELETE, Delete(chance.choice([*self.state.tree.nodes]), -1)


def run_until(world: World, keeper: Keeper, course: Course, at: int) -> bool:
    """Run a course until the process ends in operation `at` of its disk, from now; return whether it has so many."""
    disk = keeper.machine.disk
    disk.crash_at(disk.operations + at)
    try:
        world.run(course(keeper))
    except PowerLoss:
        return True
    return False


def recover(world: World, keeper: Keeper) -> None:
    """Open twice: what the first one shows must be there for the second, whatever happens between them."""

    async def again() -> None:
        keeper.open()
        keeper.write(3)
        await keeper.settle()

    world.run(again())
    keeper.machine.crash(power=True)
    world.run(again())
    world.run(keeper.log.close())


def start_machine(world: World) -> Machine:
    machine = world.machine()
    machine.disk.make_dir("/data")
    machine.disk.sync_dir("/")
    return machine
