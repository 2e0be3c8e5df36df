"""MessageStore: data directories → partition logs; open, append, read, close (design.md §2)."""

import asyncio
import logging
from collections.abc import Callable, ValuesView
from functools import partial

from metaq.config.model import BrokerConfig, TopicConfig
from metaq.errors import DiskFull, StoreError
from metaq.model import TopicPartition
from metaq.ports import Files, World
from metaq.store import checkpoint as checkpoints
from metaq.store.awaiting import call, read, read_last
from metaq.store.copied import append_copied
from metaq.store.ending import Endings
from metaq.store.entries import Batch, Epoch, pack
from metaq.store.folders import let_java_in, lock_all, lock_java_out, make_dirs
from metaq.store.housekeeping import Housekeeping
from metaq.store.journal import Identity, Journal
from metaq.store.layout import Place, Root
from metaq.store.log import Gate, PartitionLog
from metaq.store.mover import Mover
from metaq.store.opening import Foreign, Opened, OpenedLog, Opening
from metaq.store.partition_files import PartitionFiles
from metaq.store.reader import Reader
from metaq.store.rounds import Rounds
from metaq.store.space import Space
from metaq.store.watching import Watching

log_ = logging.getLogger(__name__)

_SHORTEST_INTERVAL = 0.01  # seconds between syncs, whatever `unflushInterval` says
_LOGS_IN_A_TURN = 5000
_IDLE_LOOK = 0.001  # seconds between looks whether the last round has gone, when closing

BOOT_ID = "/proc/sys/kernel/random/boot_id"


def place_of(config: BrokerConfig) -> Place:
    """Return where a configuration keeps its files; the data path of [system] comes first."""
    others = sorted({topic.data_path for topic in config.topics} - {config.data_path, ""})
    roots = [Root("", config.data_path), *(Root(path, path) for path in others)]
    return Place(config.data_log_path, tuple(roots))


class MessageStore:
    """The message log of one broker. For one event loop; nothing here is awaited on the way of a put or a get.

    `append` and `commit` are those of `Rounds`, `slice`, `slice_first` and `read_cold` those of `Reader`, `cut`,
    `drop`, `set_aside` and `move_aside` those of `Endings`. `failed` is called once, with the error, if the journal
    cannot be written any more; the broker must end then.
    """

    def __init__(self, config: BrokerConfig, world: World, opened: Opened, writer: PartitionFiles) -> None:
        loop = asyncio.get_running_loop()
        self._config = config
        self._world = world
        self._place = place_of(config)
        self._logs: dict[TopicPartition, PartitionLog] = {}
        self.watching = Watching(self._logs)
        self._settings: dict[str, TopicConfig] = {}  # as config.topic(name) gives them, which looks through a list
        self._locks: list[int] = []
        self._sync_timer: asyncio.TimerHandle | None = None
        self.failed: Callable[[Exception], None] = lambda error: log_.critical("the journal failed: %s", error)
        self._journal_worker = world.threads.worker("metaq-journal")
        self._files_worker = world.threads.worker("metaq-files")
        self._read_worker = world.threads.worker("metaq-read")
        boot_id = read_boot_id(world.files)
        identity = Identity(opened.generation, boot_id, config.journal_file_size)
        workers = (self._journal_worker, self._files_worker)
        self.journal = Journal(f"{self._place.own}/journal", identity, world.files, workers, world.clock)
        self.space = Space(
            world.files, [self._place.own, *(root.path for root in self._place.roots)], config.disk_reserve
        )
        wanted = asyncio.Event()
        self.mover = Mover(self._files_worker, writer, config.tail_memory, wanted)
        self.rounds = Rounds(self.journal, loop, self.mover, config.large_run, self._fail)
        self.pressure: Callable[[], None] = lambda: None  # told when `congested` becomes true
        self.reader = Reader(world.files, self._read_worker, open_files(config, world.files))
        self.producers = opened.producers
        self.next_log_id = opened.next_log_id
        self.housekeeping = Housekeeping(self, self, self._place.own, world.files, world.clock)
        self.housekeeping.wanted = wanted
        self.housekeeping.journal_limit = config.journal_limit
        self.housekeeping.boot_id = boot_id.hex()
        self.append, self.commit = self.rounds.append, self.rounds.commit
        self.slice, self.slice_first, self.read_cold = self.reader.slice, self.reader.slice_first, self.reader.read_cold
        self.endings = endings = Endings(self, self._logs, world.files, f"{self._place.own}/aside")
        self.cut, self.drop = endings.cut, endings.drop
        self.set_aside, self.move_aside = endings.set_aside, endings.move_aside
        self._connect()
        for found in opened.logs:
            self._add_found(found)

    def _connect(self) -> None:
        """Let the parts hear of each other."""
        self.rounds.most_waiting = self.mover.memory // 4
        self.rounds.crowded = self.mover.crowded = self._crowded
        self.rounds.sync_now = self.sync_now
        self.rounds.sync_later = self._sync_later
        self.rounds.full = self._journal_full
        self.rounds.undone = lambda log: self.producers.cut(log.id, log.visible)
        self.journal.failed = self.rounds.fail
        self.mover.failed = self.rounds.give_up

    @classmethod
    def open(cls, config: BrokerConfig, world: World, foreign: Foreign = Foreign.REFUSE) -> "MessageStore":
        """Recover and open. Blocks; call it from a coroutine, before the port opens. Raises StoreError or OSError.

        Afterwards the folder is marked: a Java broker refuses to start on it until `close` has ended in order.
        """
        files, place = world.files, place_of(config)
        own = [f"{place.own}/{name}" for name in ("journal", "checkpoint", "aside")]
        make_dirs(files, [*(root.path for root in place.roots), *own])
        locks = lock_all(files, place)
        writer = PartitionFiles(files, open_files(config, files))
        store = None
        try:
            opened = Opening(files, writer, place, read_boot_id(files), foreign).run()
            lock_java_out(files, place)
            checkpoints.save(files, f"{place.own}/checkpoint", opened.checkpoint)
            store = cls(config, world, opened, writer)
            store._begin_journal(opened)
        except BaseException:
            if store is not None:
                store.abandon()
            writer.close()
            for lock in locks:
                files.close(lock)
            raise
        store._locks = locks
        return store

    def _begin_journal(self, opened: Opened) -> None:
        free = [file.path for file in opened.free]
        number = max((file.number for file in [*opened.live, *opened.free]), default=0)
        self.journal.highest_id = opened.highest_id
        self.journal.open(self._world.random, opened.sequence, free, number)
        self.journal.older_bytes = sum(file.size for file in opened.live)
        self.housekeeping.retire_later([file.path for file in opened.live])
        self.housekeeping.schedule(self.all(), self._world.clock.time())

    def _add_found(self, found: OpenedLog) -> None:
        log = PartitionLog(found.id, found.key, found.directory, found.root.marker, self._topic(found.key.topic))
        log.limit = self._config.max_segment_size
        log.restore(found.bases, found.holes, found.end)
        log.announced = True
        log.durable = found.durable
        log.epochs = found.epochs
        self._logs[found.key] = log
        if log.config.data_path and found.root.path != log.config.data_path:
            log_.warning(
                "%s stays in %s, its dataPath %s is for new ones", log.key, found.root.path, log.config.data_path
            )

    # -- logs

    def get(self, key: TopicPartition) -> PartitionLog | None:
        """Return the log of a partition, None if nothing was ever put into it."""
        return self._logs.get(key)

    def _topic(self, name: str) -> TopicConfig:
        config = self._settings.get(name)
        if config is None:
            config = self._settings[name] = self._config.topic(name)
        return config

    def all(self) -> ValuesView[PartitionLog]:
        """Return all logs."""
        return self._logs.values()

    def create(self, key: TopicPartition, base: int = 0) -> PartitionLog:
        """Return the log of a partition, new if need be: its first offset is `base`. On disk with its first record."""
        log = self._logs.get(key)
        if log is not None:
            return log
        config = self._topic(key.topic)
        root = self._place.root_of(config.data_path) if config.data_path else self._place.roots[0]
        log = PartitionLog(self.next_log_id, key, f"{root.path}/{key}", root.marker, config)
        self.next_log_id += 1
        log.limit = self._config.max_segment_size
        log.restore([base], {}, base)
        self.watching.appeared(log)
        self._logs[key] = log
        return log

    def make_room(self, config: BrokerConfig) -> None:
        """Make the data paths of a reloaded file that are new. OSError: one cannot be made; nothing is taken then."""
        for root in place_of(config).roots:
            if root not in self._place.roots:
                self._world.files.make_dir(root.path)

    async def configure(self, config: BrokerConfig) -> None:
        """Take the topics of a reloaded file. Data paths of new topics must exist; those of old logs stay.

        For logs there are already it takes many turns of the loop; they have their old settings meanwhile.
        """
        self.make_room(config)
        self._config = config
        self._settings.clear()
        self._place = Place(self._place.log_path, tuple(dict.fromkeys([*self._place.roots, *place_of(config).roots])))
        for number, log in enumerate(list(self._logs.values()), 1):
            log.configure(self._topic(log.key.topic))
            if not number % _LOGS_IN_A_TURN:
                await asyncio.sleep(0)
        self.housekeeping.schedule(self.all(), self._world.clock.time())

    # -- puts

    def check_space(self, log: PartitionLog) -> None:
        """Raise DiskFull if the log's file system, or the journal's, is short of room."""
        full = self.space.full
        if full and (self._place.own in full or log.directory.rpartition("/")[0] in full):
            raise DiskFull("disk full")

    def room(self) -> int:
        """Return how many bytes producers may send at present; below 1: they should wait.

        Bounded is what is not safe yet, not moved yet, and not checkpointed yet. They do not wait for a full disk:
        nobody knows when there is room again, and until then puts are refused and reads go on.
        """
        if self.space.full:
            return self.rounds.most_waiting
        return min(
            self.rounds.most_waiting - self.rounds.waiting_bytes,
            self.mover.memory - self.mover.unmoved,
            self._config.journal_limit - self.journal.backlog(),
        )

    def calm(self) -> bool:
        """Return whether there is so much room that nobody need look at who sends how much."""
        return self.room() * 4 >= self.rounds.most_waiting * 3

    def congested(self) -> bool:
        """Return whether producers should wait."""
        return self.room() <= 0

    def _crowded(self) -> None:
        if not self.space.full:
            self.pressure()

    def append_batch(self, log: PartitionLog, records: bytes, batch: Batch) -> None:
        """Append the records of a batch, which begins at the log's end, and remember its stamp, if it has one."""
        self.rounds.append_batch(log, records, batch)
        if batch.stamp.producer:
            self.producers.note(batch, self._world.clock.time())

    def append_copied(
        self, log: PartitionLog, data: bytes | memoryview, base: int, messages: int = 1, highest_id: int = 0
    ) -> int:
        """Append whole records of another broker's log at `log.end`; return that offset. `commit` makes them safe.

        They stand in the segment that begins at `base`: the last one's base, or `log.end`, where a new one begins then;
        else SegmentMismatch, and nothing is changed. Our own segment size does not count. `messages` is how many they
        are, for the topic's threshold of syncs; `highest_id` the highest of their ids: none of ours comes below it.
        """
        offset = append_copied(self.rounds, log, data, base, messages)
        self.journal.highest_id = max(self.journal.highest_id, highest_id)
        return offset

    def stamp_copied(self, log: PartitionLog, batch: Batch) -> None:
        """Remember the stamp of a batch that ends in what `append_copied` appended last; it goes into the same round.

        Where copying began in the middle of the batch, its first records are in the log already.
        """
        self.rounds.stamps.setdefault(log, []).append(batch)
        self.producers.note(batch, self._world.clock.time())

    def begin_epoch(self, log: PartitionLog, epoch: int, gate: Gate) -> None:
        """Note, durably, that records from the end on belong to the master of this term."""
        start = log.end

        def step(error: Exception | None) -> None:
            if error is None:
                log.epochs.append((epoch, start))

        self.rounds.announce(log)
        self.rounds.add(pack(Epoch(log.id, epoch, start)), step, gate)

    # -- reads

    def nearest(self, log: PartitionLog, offset: int) -> int:
        """Return the nearest valid offset (reference: `offset`): the first, the segment's beginning, or the end."""
        if offset < log.start:
            return log.start
        end = log.readable
        return end if offset >= end else log.segment_of(offset)[0]

    async def read(self, log: PartitionLog, offset: int, size: int) -> bytes:
        """Return bytes below `log.visible`, which may be further than others see; fewer where a segment ends.

        Raises RequestError as `slice`, or OSError.
        """
        return await read(self.reader, log, offset, size)

    async def read_last(self, log: PartitionLog, size: int) -> bytes:
        """Return the last bytes below `log.visible`, at most `size` and of one segment. Raises OSError.

        For comparing the end with that of another broker's copy; what is appended meanwhile does not count.
        """
        return await read_last(self.reader, log, size)

    def forget_segment(self, log: PartitionLog, base: int) -> None:
        """Close what readers have open of a segment that is going away."""
        log.holes.pop(base, None)
        self.reader.forget(log.directory, base)

    # -- life

    def _sync_later(self) -> None:
        """Sync what topics that do not wait for the disk have written, within the shortest `unflushInterval`."""
        intervals = [log.config.unflush_interval for log in self._logs.values() if not log.sync]
        delay = max(_SHORTEST_INTERVAL, min(intervals, default=10.0))
        self._sync_timer = asyncio.get_running_loop().call_later(delay, self.sync_now)

    def sync_now(self) -> None:
        """Begin to sync what was written so far."""
        self.rounds.sync_due = False
        self.journal.sync_soon()

    async def keep_house(self) -> None:
        """Run the background work until cancelled. Raises StoreError if the disk fails."""
        await self.housekeeping.run()

    async def close(self) -> None:
        """Stop in order: all in the partition files, synced, the journal empty, the folder free for any broker.

        `keep_house` must have ended. What is committed from here on is refused. Raises StoreError if the journal cannot
        be emptied; the folder then stays marked unclean, and nothing is lost.
        """
        try:
            await self._until_idle()
            if self.rounds.failure is not None:
                raise StoreError(f"cannot empty the journal: {self.rounds.failure}")
            self.rounds.stop(StoreError("the store is closed"))
            await self.housekeeping.checkpoint(clean=True)
            await call(self._files_worker, partial(let_java_in, self._world.files, self._place))
        except OSError as exc:
            raise StoreError(f"cannot empty the journal: {exc}") from exc
        finally:
            self.abandon()

    async def _until_idle(self) -> None:
        while not self.rounds.idle() and self.rounds.failure is None:  # noqa: ASYNC110 - no event on the hot path
            await asyncio.sleep(_IDLE_LOOK)

    def abandon(self) -> None:
        """Close without a checkpoint, as a crash would: the next opening recovers."""
        self.rounds.stop(StoreError("the store is closed"))
        if self._sync_timer is not None:
            self._sync_timer.cancel()
        for worker in (self._journal_worker, self._files_worker, self._read_worker):
            worker.close()
        self.journal.close()
        self.mover.files.close()
        self.reader.close()
        for lock in self._locks:
            self._world.files.close(lock)
        self._locks = []

    def _fail(self, error: Exception) -> None:
        self.failed(error)

    def _journal_full(self) -> None:
        self.space.set_full(self.space.full | frozenset([self._place.own]))


def open_files(config: BrokerConfig, files: Files) -> int:
    """Return how many partition files the writer may keep open, and how many the readers.

    Without `openFiles` a quarter of what the process may open each; connections have the other half.
    """
    return config.open_files or max(16, files.most_open() // 4)


def read_boot_id(files: Files) -> bytes:
    """Return 16 bytes that change when the machine starts; zeros where the system does not tell."""
    try:
        return bytes.fromhex(files.read(BOOT_ID).decode().strip().replace("-", ""))
    except (OSError, ValueError):
        return bytes(16)
