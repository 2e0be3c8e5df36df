"""A store on a simulated disk, taken through a course of events, and a model that knows what must have survived.

A course is a coroutine that is given a `Life`, one process with one store at a time. `crashed` runs it up to a
chosen operation of the disk, ends the process there or cuts the power, opens the store again and lets the model check
the five invariants of the message log.
"""

import asyncio
import io
import zipfile
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import accumulate
from typing import Final

from metaq.config.model import BrokerConfig, TopicConfig
from metaq.errors import SequenceConflict
from metaq.model import TopicPartition
from metaq.record import HEADER, HEADER_SIZE, pack, scan
from metaq.store import checkpoint as checkpoints
from metaq.store.entries import Batch, Stamp
from metaq.store.layout import JAVA_LOCK
from metaq.store.log import PartitionLog, segment_name
from metaq.store.reader import Cold, Parts
from metaq.store.store import MessageStore
from tests.simulation.disk import PowerLoss, SimDisk
from tests.simulation.world import Machine, World

Course = Callable[["Life"], Coroutine[object, None, None]]

HOME: Final = "/data"
ELSEWHERE: Final = "/disk2/meta"  # a data path that a topic may have
LOCK: Final = f"{HOME}/transactions/{JAVA_LOCK}"
SAFE: Final = TopicPartition("safe", 0)  # syncs before it acknowledges
ALSO: Final = TopicPartition("safe", 1)
FAST: Final = TopicPartition("fast", 0)  # acknowledges what is written


def config(**changes: object) -> BrokerConfig:
    """Return settings so small that files are switched, segments rolled and runs large after a few puts."""
    defaults = TopicConfig(name="", unflush_threshold=0, data_path=HOME)
    small = BrokerConfig(
        broker_id=1,
        defaults=defaults,
        topics=(replace(defaults, name="fast", unflush_threshold=1000),),
        data_path=HOME,
        data_log_path=HOME,
        max_segment_size=2000,
        journal_file_size=8192,
        large_run=3000,
        tail_memory=1 << 20,
        disk_reserve=0,
        open_files=3,
    )
    return replace(small, **changes)  # type: ignore[arg-type]  # tests name fields of BrokerConfig


@dataclass(slots=True, eq=False)
class Put:
    """One record that was appended; `durable`: a power loss must not take it."""

    offset: int
    data: bytes
    acked: bool = False
    durable: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Sent:
    """A producer's batch that was appended; `batch` is what the store was told of it."""

    batch: Batch
    puts: list[Put]
    torn: bool = False  # it may be there in part: a cut went through it, and perhaps did not come to pass


@dataclass(slots=True)
class Expected:
    """What is known of one partition. `first`: below it retention may have taken everything."""

    puts: list[Put] = field(default_factory=list)
    sent: dict[int, list[Sent]] = field(default_factory=dict)  # by producer, in order
    seen: tuple[int, bytes] = (0, b"")  # what a reader saw, from which offset on
    ending: int | None = None  # a cut to here, or a drop (0), is on its way
    first: int = 0
    retires: bool = False


class Model:
    """Knows what was acknowledged and what was read; says what is wrong after a crash."""

    def __init__(self) -> None:
        self.logs: dict[TopicPartition, Expected] = {}
        self.serial = 0
        self.kept: list[bytes] = []  # what must be somewhere on the disk, be it in no partition any more
        self.keeping: list[bytes] = []  # the same, until the next crash has been looked at: it may come to nothing

    def of(self, key: TopicPartition) -> Expected:
        return self.logs.setdefault(key, Expected())

    def record(self, size: int) -> bytes:
        """Return a record of about `size` bytes that is like no other."""
        self.serial += 1
        text = b"%d." % self.serial
        return pack(self.serial, 0, (text * (size // len(text) + 1))[: max(size - HEADER_SIZE, len(text))])

    def acknowledge(self, puts: list[Put]) -> None:
        for put in puts:
            put.acked = True

    def synced(self) -> None:
        """A round was acknowledged as durable: then all that was acknowledged before is."""
        for log in self.logs.values():
            for put in log.puts:
                put.durable = put.durable or put.acked

    def ended(self, key: TopicPartition, to: int) -> None:
        """A cut is done."""
        self.kept += self.keeping
        self.keeping.clear()
        log = self.of(key)
        log.puts = [put for put in log.puts if put.offset < to]
        for producer, sent in log.sent.items():
            log.sent[producer] = [each for each in sent if each.puts[-1] in log.puts]
        log.seen = (log.seen[0], log.seen[1][: max(0, to - log.seen[0])])
        log.ending = None

    def keep(self, key: TopicPartition, to: int) -> None:
        """What is on disk of a partition from `to` on must be somewhere, whatever happens from here on."""
        self.keeping += [put.data for put in self.of(key).puts if put.durable and put.offset >= to]

    def crash(self, *, power: bool) -> None:
        """Forget what need not survive."""
        for key, log in self.logs.items():
            if log.ending is not None:
                for put in log.puts:
                    if put.offset >= log.ending:
                        put.acked = put.durable = False
                for producer, sent in log.sent.items():  # one that goes across the cut may be there in part
                    across = [s.batch.offset < log.ending <= s.puts[-1].offset for s in sent]
                    log.sent[producer] = [replace(s, torn=t) for s, t in zip(sent, across, strict=True)]
                log.seen = (log.seen[0], log.seen[1][: max(0, log.ending - log.seen[0])])
                log.ending = None
            if power:
                for put in log.puts:
                    put.acked = put.acked and put.durable
                if key.topic == "fast":
                    log.seen = (0, b"")

    def check(self, key: TopicPartition, start: int, content: bytes) -> None:
        """Compare with what a partition holds from `start` on, then take that for the truth."""
        log = self.of(key)
        assert start <= log.first or log.retires, f"{key} begins at {start}"
        end = start + len(content)
        tried: dict[int, list[Put]] = {}
        for put in log.puts:
            tried.setdefault(put.offset, []).append(put)
        found: list[Put] = []
        position = start
        while position < end:
            here = [p for p in tried.get(position, ()) if content.startswith(p.data, position - start)]
            assert here, f"{key}: what stands at {position} was never put there; the end is {end}"
            found.append(here[-1])
            position += len(here[-1].data)
        for put in log.puts:
            assert put in found or not put.acked or put.offset < start, f"{key}: the record at {put.offset} is lost"
        first = max(log.seen[0], start)
        seen = log.seen[1][first - log.seen[0] :]
        assert content[first - start : first - start + len(seen)] == seen, f"{key}: what a reader saw has changed"
        retired = [put for put in log.puts if put.offset < start]
        for put in retired:  # a power loss may bring it back: its removal was perhaps not synced
            put.acked = put.durable = False
        for put in found:
            put.acked = put.durable = True  # it can be read, so it is on disk (rule 4)
        log.puts = retired + found
        log.seen = (start, content)

    def check_sent(self, key: TopicPartition, start: int, find: Callable[[Batch], int | None]) -> None:
        """Compare with what a store remembers of batches, after `check`: those that are there, whole or not at all.

        `find` gives the offset of a batch that was stored, None if it is to be stored when it is sent again.
        """
        log = self.of(key)
        for producer, sent in log.sent.items():
            whole = [each for each in sent if all(put in log.puts for put in each.puts)]
            for each in reversed(sent):
                if each not in whole:
                    assert each.torn or not any(put in log.puts for put in each.puts), (
                        f"{key}: {each.batch} is there in part"
                    )
                    assert find(each.batch) is None, f"{key}: {each.batch} is not there, but taken for stored"
            for each in whole[-5:]:
                if each.batch.offset >= start:
                    assert find(each.batch) == each.batch.offset, f"{key}: {each.batch} would be stored twice"
            log.sent[producer] = whole


class Life:
    """One process on a machine. `opened` gives it a store; several may follow one another."""

    def __init__(self, machine: Machine, model: Model, settings: BrokerConfig) -> None:
        self.machine = machine
        self.model = model
        self.settings = settings
        self.errors: list[Exception] = []
        self.failures: list[Exception] = []
        self.when_stopped: Callable[[], object] = int  # called when the store is closed in order
        self._store: MessageStore | None = None

    @property
    def store(self) -> MessageStore:
        assert self._store is not None, "no store is open"
        return self._store

    def open(self) -> MessageStore:
        self._store = store = MessageStore.open(self.settings, self.machine.outside)
        store.failed = self.failures.append
        return store

    def log(self, key: TopicPartition) -> PartitionLog:
        return self.store.create(key)

    def put(self, key: TopicPartition, *sizes: int) -> list[Put]:
        """Append records in one batch; the model hears when they are acknowledged."""
        log = self.store.create(key)
        records = [self.model.record(size) for size in sizes]
        self.store.journal.highest_id = self.model.serial
        puts = [Put(self.store.append(log, record), record) for record in records]
        self.model.of(key).puts += puts
        self._commit(log, puts, sum(map(len, records)))
        return puts

    def copy(self, key: TopicPartition, base: int, *sizes: int, of: tuple[int, Put] | None = None) -> list[Put]:
        """Append records at once, as those of another broker, in the segment that begins at `base`.

        `of`: they are the rest of a producer's first batch; its first record was copied before, without a stamp.
        """
        log = self.store.create(key)
        records = [self.model.record(size) for size in sizes]
        offset = self.store.append_copied(log, b"".join(records), base, len(records), self.model.serial)
        ends = accumulate(map(len, records), initial=offset)
        puts = [Put(each, record) for each, record in zip(ends, records, strict=False)]
        self.model.of(key).puts += puts
        if of is not None:
            producer, begun = of
            size, first_id = log.end - begun.offset, self.model.serial - len(puts)
            batch = Batch(log.id, begun.offset, size, 1 + len(puts), first_id, Stamp(producer, 0, 0))
            self.store.stamp_copied(log, batch)
            self.model.of(key).sent[producer] = [Sent(batch, [begun, *puts], torn=True)]
        self._commit(log, puts, sum(map(len, records)))
        return puts

    def _commit(self, log: PartitionLog, puts: list[Put], size: int) -> None:
        def gate(error: Exception | None) -> None:
            if error is not None:
                self.errors.append(error)
                return
            self.model.acknowledge(puts)
            if log.sync:
                self.model.synced()

        self.store.commit(gate, size)

    def batch(self, key: TopicPartition, producer: int, *sizes: int, epoch: int = 0, base: int | None = None) -> Sent:
        """Append records as a producer's next batch; at most five may be under way.

        `base`: as one of another broker's, in the segment that begins there.
        """
        log = self.store.create(key)
        sent = self.model.of(key).sent.setdefault(producer, [])
        last = sent[-1].batch.stamp if sent else Stamp(producer, epoch, -1)
        stamp = Stamp(producer, max(epoch, last.epoch), last.sequence + 1 if epoch <= last.epoch else 0)
        offset, first_id = log.end, self.model.serial + 1
        records = [self.model.record(size) for size in sizes]
        data = b"".join(records)
        batch = Batch(log.id, offset, len(data), len(records), first_id, stamp)
        assert self.store.producers.find(stamp, log.id, len(data), len(records)) is None
        if base is None:
            self.store.journal.highest_id = self.model.serial
            self.store.append_batch(log, data, batch)
        else:
            self.store.append_copied(log, data, base, len(records), self.model.serial)
            self.store.stamp_copied(log, batch)
        ends = accumulate(map(len, records), initial=offset)
        mine = Sent(batch, [Put(each, record) for each, record in zip(ends, records, strict=False)])
        sent[:] = [*sent[-5:], mine]  # the store remembers six: what then goes in a cut leaves fewer
        self.model.of(key).puts += mine.puts
        self._commit(log, mine.puts, len(data))
        return mine

    async def settle(self) -> None:
        """Wait until all puts are acknowledged or refused."""
        while not self.store.rounds.idle():
            await asyncio.sleep(0.001)

    async def cut(self, key: TopicPartition, to: int) -> None:
        """Cut and wait for it."""
        self.model.of(key).ending = to
        done = asyncio.get_running_loop().create_future()
        self.store.cut(self.log(key), to, done.set_result)
        assert await done is None
        self.model.synced()
        self.model.ended(key, to)

    async def drop(self, key: TopicPartition) -> None:
        """Drop and wait for it."""
        self.model.of(key).ending = 0
        done = asyncio.get_running_loop().create_future()
        self.store.drop(self.log(key), done.set_result)
        assert await done is None
        self.model.synced()
        self.model.ended(key, 0)

    async def set_aside(self, key: TopicPartition, to: int) -> None:
        """Set aside and wait for it."""
        log = self.log(key)
        self.model.keep(key, to)
        self.model.of(key).ending = to
        done = asyncio.get_running_loop().create_future()
        self.store.set_aside(log, to, done.set_result)
        assert await done is None
        self.model.synced()
        self.model.ended(key, to)

    async def move_aside(self, key: TopicPartition) -> None:
        """Move a log aside and wait for it."""
        log = self.log(key)
        self.model.keep(key, log.start)
        self.model.of(key).ending = 0
        done = asyncio.get_running_loop().create_future()
        self.store.move_aside(log, done.set_result)
        assert await done is None
        self.model.synced()
        self.model.ended(key, 0)

    async def epoch(self, key: TopicPartition, term: int) -> None:
        done = asyncio.get_running_loop().create_future()
        self.store.begin_epoch(self.log(key), term, done.set_result)
        assert await done is None
        self.model.synced()

    async def checkpoint(self) -> None:
        await self.store.housekeeping.checkpoint()

    async def close(self) -> None:
        store, self._store = self.store, None
        await store.close()
        self.when_stopped()

    async def look(self) -> None:
        """Read every partition from its first offset to its end, and note what was seen.

        What was seen before is still there, where it was.
        """
        for key, log in list(self.store._logs.items()):
            content = await read_all(self.store, log)
            start, seen = self.model.of(key).seen
            first = max(start, log.start)
            assert content[first - log.start :].startswith(seen[first - start :]), f"{key}: what was read has changed"
            self.model.of(key).seen = (log.start, content)

    async def check(self) -> None:
        """Compare every partition with the model."""
        for key in {*self.model.logs, *self.store._logs}:
            log = self.store.get(key)
            await_content = b"" if log is None else await read_all(self.store, log)
            start = 0 if log is None else log.start
            self.model.check(key, start, await_content)
            self.model.check_sent(key, start, partial(self._find, log))
        kept = [HEADER.unpack_from(put.data)[2] for log in self.model.logs.values() for put in log.puts]
        assert self.store.journal.highest_id >= max(kept, default=0), "ids would be given out twice"

    def _find(self, log: PartitionLog | None, batch: Batch) -> int | None:
        """Return where the store says that a batch is, None if it does not know it."""
        if log is None:
            return None
        try:
            found = self.store.producers.find(batch.stamp, log.id, batch.length, batch.record_count)
        except SequenceConflict:
            return None
        return None if found is None else found.offset


async def read_all(store: MessageStore, log: PartitionLog) -> bytes:
    """Return what a reader finds between the first offset and the end."""
    content = bytearray()
    while (offset := log.start + len(content)) < log.visible:
        found = store.slice(log, offset, 1900)
        if isinstance(found, Cold):
            found = await read_cold(store, found)
        content += b"".join(found)
    return bytes(content)


async def read_cold(store: MessageStore, want: Cold) -> Parts:
    done: asyncio.Future[Parts] = asyncio.get_running_loop().create_future()

    def finish(parts: Parts | None, error: BaseException | None) -> None:
        if parts is not None:
            done.set_result(parts)
        else:
            assert error is not None
            done.set_exception(error)

    store.read_cold(want, finish)
    return await done


def start_machine(world: World, capacity: int | None = None) -> Machine:
    """Return a machine that has a home for the broker."""
    machine = world.machine(capacity=capacity)
    machine.disk.make_dir(HOME)
    machine.disk.sync_dir("/")
    machine.crash(power=False)  # the next process counts its operations from 1
    return machine


def crash(machine: Machine, model: Model, *, power: bool) -> None:
    """End the process, or cut the power; the next process is ready, with operations counted from 1."""
    machine.crash(power=power)
    model.crash(power=power)
    check_marks(machine.disk)


def check_marks(disk: SimDisk) -> None:
    """A folder that is not clean must keep a Java broker out (rule 8)."""
    place = f"{HOME}/pymetaq/checkpoint"
    state = checkpoints.load(disk, place) if disk.exists(place) else None
    assert state is None or state.clean or disk.exists(LOCK), "not clean, but a Java broker would start on it"


def operations(course: Course, settings: BrokerConfig, seed: int = 1) -> int:
    """Return how many operations of the disk a course takes when nothing happens to it; check that it ends well."""
    with World(seed) as world:
        life = Life(start_machine(world), Model(), settings)
        world.run(course(life))
        count = life.machine.disk.operations
        crash(life.machine, life.model, power=False)
        recover(world, life)
        return count


def crashed(course: Course, settings: BrokerConfig, at: int, *, power: bool, seed: int = 1) -> None:
    """Run a course up to operation `at` of the disk, crash, recover, and check what is left."""
    with World(seed) as world:
        life = Life(start_machine(world), Model(), settings)
        run_until(world, life, course, at)
        crash(life.machine, life.model, power=power)
        recover(world, life)


def run_until(world: World, life: Life, course: Course, at: int) -> None:
    """Run a course until the process ends in operation `at`, if it has so many."""
    life.machine.disk.crash_at(at)
    try:
        world.run(course(life))
    except PowerLoss:
        return


def recover(world: World, life: Life) -> None:
    """Open, check, go on, stop in order, and check what any other broker would find."""
    world.run(reopened(life))
    check_stopped(life.machine.disk, life.model)


async def reopened(life: Life) -> None:
    """Open the store, compare it with the model, put something, and stop in order."""
    life.open()
    await life.check()
    for key in [*life.model.logs] or [SAFE]:
        life.put(key, 90, 30)
    await life.close()


def check_stopped(disk: SimDisk, model: Model) -> None:
    """After a stop in order there are plain partition files with all that was acknowledged, and nobody is kept out."""
    assert not disk.exists(LOCK)
    state = checkpoints.load(disk, f"{HOME}/pymetaq/checkpoint")
    assert state is not None and state.clean
    for key in model.logs:
        root = ELSEWHERE if disk.exists(f"{ELSEWHERE}/{key}") else HOME
        start, content = content_of(disk, f"{root}/{key}")
        model.check(key, start, content)


def check_kept(disk: SimDisk, model: Model, *, stopped: bool = False) -> None:
    """What must be somewhere on the disk is: in a partition, in an archive, or kept aside."""
    found = disk.snapshot().items()  # what a journal still has after a stop in order is not there to stay
    contents = [content for path, content in found if content and not (stopped and "/pymetaq/journal/" in path)]
    for content in [content for content in contents if content.startswith(b"PK")]:
        with suppress(zipfile.BadZipFile), zipfile.ZipFile(io.BytesIO(content)) as archive:  # half of one is none
            contents += [archive.read(name) for name in archive.namelist()]
    for kept in (*model.kept, *model.keeping):
        assert any(kept in content for content in contents), f"{kept[:40]!r}… is nowhere"


def content_of(disk: SimDisk, directory: str) -> tuple[int, bytes]:
    """Return first offset and bytes of a partition folder, read as the original does; its segments must join."""
    if not disk.exists(directory):
        return 0, b""
    names = [entry.name for entry in disk.list(directory) if entry.name.endswith(".meta")]
    start = int(names[0].removesuffix(".meta")) if names else 0
    content = b""
    for name in names:
        assert name == segment_name(start + len(content)), f"{directory}: the segments do not join at {name}"
        data = disk.read(f"{directory}/{name}")
        assert scan(data) == len(data), f"{directory}/{name}: not whole records"
        content += data
    return start, content


@contextmanager
def opened(settings: BrokerConfig | None = None, seed: int = 1) -> Iterator[tuple[World, Life]]:
    """Give a world with one machine and a process on it."""
    with World(seed) as world:
        yield world, Life(start_machine(world), Model(), settings or config())
