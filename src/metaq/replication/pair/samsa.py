"""The master's side of a synchronous pair: a message is there when the slave has it, too (reference: samsa).

Each round of appends is sent to the slave while it is written here, and acknowledged when both have it. Readers see
what both have. A partition whose copy failed takes no puts until it was brought up to where both have the same; what
was stored here alone meanwhile appears then.
"""

import asyncio
import logging
from collections.abc import Sequence
from functools import partial
from typing import Final

from metaq.broker.broker import Broker
from metaq.broker.ports import PairFigures
from metaq.config.pair import SamsaConfig
from metaq.errors import ClientError, NotCopied, Refused, RequestError, StoreError
from metaq.model import BrokerAddress, TopicPartition
from metaq.net.link import Link, LinkOptions
from metaq.net.pace import Pace
from metaq.ports import World
from metaq.protocol.decoder import Limits
from metaq.replication.pair.catching import CatchUp
from metaq.replication.pair.health import WORDS, Health
from metaq.replication.pair.lines import Line, Lines
from metaq.replication.pair.local import Fault
from metaq.replication.pair.noted import Noted
from metaq.replication.pair.remote import Slave
from metaq.replication.pair.sending import EXTENSION, Both, Copying, send
from metaq.store.log import EVERYTHING, Gate, PartitionLog
from metaq.store.replicating import Run
from metaq.store.store import place_of

log_ = logging.getLogger(__name__)

_WORKERS: Final = 16  # partitions that are brought up at a time
_LONGEST_PAUSE: Final = 5.0  # seconds between attempts to bring up a partition
_LONGEST_DELAY: Final = 2.0  # seconds between attempts to connect


class Samsa:
    """The master of a pair. `health` knows whether the slave is well; `attach` before the first put, then `run`."""

    def __init__(self, broker: Broker, world: World, config: SamsaConfig) -> None:
        self._broker = broker
        self._store = broker.store
        self._config = config
        self._loop = asyncio.get_running_loop()
        self.slave = BrokerAddress(config.slave_host, config.slave_port)
        body = broker.config.max_transfer_size
        limits, pace = Limits(reply=max(4 * body, 64 << 20)), Pace(broker.config.replica_congestion_control)
        options = LinkOptions(longest_delay=_LONGEST_DELAY, limits=limits, pace=pace)
        self.link = Link(world.network, self.slave, random=world.random, options=options, on_change=self._link_changed)
        self.lines = Lines()
        self.health = Health(config, str(self.slave))
        self._catch_up = CatchUp(self._store, broker.puts, Slave(self.link, config.send_timeout))
        self._due: asyncio.Queue[Line] = asyncio.Queue()
        self._timers: dict[Line, asyncio.TimerHandle] = {}
        self._settled = asyncio.Event()
        self._puts_refused = 0
        self._worker = world.threads.worker("metaq-pair")
        self._noted = Noted(world.files, place_of(broker.config).own, self._worker)
        self._to_note = asyncio.Event()

    def attach(self) -> None:
        """Have every round copied from here on. Blocks for a moment. Raises ConfigError, OSError.

        What the store has counts as copied until it is compared, but for what was noted as lacking at the slave.
        """
        noted = self._noted.read()
        for log in self._store.all():
            log.confirmed = min(log.end, noted.get(log.key, log.end))
        self._store.rounds.replicator = self
        self._broker.puts.check = self.check
        self._broker.puts.forget()

    async def run(self) -> None:
        """Keep the slave up until cancelled. `health` is run by whoever knows the registration."""
        self.link.start()
        try:
            async with asyncio.TaskGroup() as tasks:
                for number in range(_WORKERS):
                    tasks.create_task(self._work(), name=f"catch-up {number}")
                tasks.create_task(self._note(), name="notes of the pair")
        finally:
            for timer in self._timers.values():
                timer.cancel()
            await self.link.close()
            self._worker.close()

    async def settled(self, timeout: float) -> bool:
        """Wait until the slave has all there is; False: it has not after `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                await self._settled.wait()
        except TimeoutError:
            return False
        return True

    def figures(self) -> PairFigures:
        """Return how the pair is."""
        health = self.health
        return PairFigures(
            slave=str(self.slave),
            connected=self.link.is_open,
            behind=self.lines.behind,
            refused=sum(line.own for line in self.lines.all()),
            puts_refused=self._puts_refused,
            failed_copies=health.failed_copies,
            registered=health.registered,
            events={word: health.events.get(word, 0) for word in WORDS},
        )

    # -- puts

    def check(self, key: TopicPartition) -> None:
        """Raise NotCopied if what is put into a partition cannot be copied at present."""
        if not self.link.is_open:
            self._puts_refused += 1
            self.health.refused("it is disconnected")
            raise NotCopied("Slave is disconnected ")  # the words of the original, and its blank
        line = self.lines.get(key)
        if line is not None and not line.live:
            self._puts_refused += 1
            if not line.own:
                self.health.refused(line.reason)
            raise NotCopied(f"{self._failure(key)}: {line.reason}")

    def begin(self, runs: Sequence[Run], gate: Gate) -> Gate:
        """Send runs to the slave, in order; `gate` hears when they are written here and there (see Replicator)."""
        both = Both(gate, 1 + len(runs))
        for run in runs:
            line = self._line(run)
            end = run.offset + len(run.data)
            if line.pulling:
                both.part(None)
            elif line.live and line.sent == run.offset:
                line.sent = end
                done = partial(self._answered, line, run.log, end, both)
                deadline = self._loop.time() + self._config.send_timeout
                send(self.link, self._with_batches(run, end), Copying(deadline, str(self.slave), done))
            else:
                if line.live:
                    self._behind(line, f"it goes on at {run.offset}, sent is what ends at {line.sent}", own=False)
                both.part(NotCopied(f"{self._failure(run.log.key)}: {line.reason}"))
        return partial(self._written, runs, both)

    def _with_batches(self, run: Run, end: int) -> Run:
        if EXTENSION not in self.link.extensions:
            return run
        return run._replace(batches=list(self._store.producers.between(run.log.id, run.offset, end)))

    def _line(self, run: Run) -> Line:
        """Return the line of a run's partition. One that never had a log here has none at the slave, it is taken."""
        log = run.log
        line = self.lines.get(log.key)
        if line is None:
            line = self.lines.add(log.key)
            if self.link.is_open and run.offset == log.start:
                self.lines.set_live(line)
        if log.confirmed == EVERYTHING:
            log.confirmed = run.offset
            if line.live and line.sent > run.offset:
                line.anew = True
            elif line.live and run.offset == log.start:
                line.sent = run.offset
        return line

    def _answered(self, line: Line, log: PartitionLog, end: int, both: Both, error: ClientError | None) -> None:
        if error is not None:
            self.health.failed(str(error))
            self._behind(line, str(error), own=isinstance(error, Refused))
            both.part(NotCopied(self._failure(log.key)))
            return
        self.health.succeeded()
        log.confirmed = max(log.confirmed, end)
        if log.watchers is not None and log.visible >= end:
            log.wake()
        both.part(None)

    def _written(self, runs: Sequence[Run], both: Both, error: Exception | None) -> None:
        if error is not None:  # the slave may have what we have not
            for run in runs:
                line = self.lines.add(run.log.key)
                if not line.pulling:
                    run.log.confirmed = min(run.log.confirmed, run.log.visible)
                    self._behind(line, str(error), own=True)
        both.part(error)

    def _failure(self, key: TopicPartition) -> str:
        return f"Put message to [slave '{self.slave}'] [partition '{key}'] failed"

    # -- catching up

    def _link_changed(self, link: Link) -> None:
        self._broker.puts.forget()
        reason = "the slave is being compared" if link.is_open else "Slave is disconnected"
        if link.is_open:
            for log in self._store.all():
                self.lines.add(log.key)
            for topic in self._broker.config.topics:
                for partition in range(topic.num_partitions):
                    if not topic.name.endswith("*"):
                        self.lines.add(TopicPartition(topic.name, partition))
        else:
            self._settled.clear()
        for line in self.lines.all():
            line.pause = 0.0
            self._behind(line, reason, own=False)
        self._look()
        self.health.connected(link.is_open)

    def _behind(self, line: Line, reason: str, *, own: bool) -> None:
        """Have a partition brought up again; nothing is put into it meanwhile."""
        self.lines.set_behind(line, reason, own=own)
        self._broker.puts.forget()
        self._to_note.set()
        if self.link.is_open and not line.queued:
            line.queued = True
            self._due.put_nowait(line)

    async def _work(self) -> None:
        """Bring up partitions, one after the other."""
        while True:
            line = await self._due.get()
            timer = self._timers.pop(line, None)
            if timer is not None:
                timer.cancel()
            try:
                await self._catch_up.bring_up(line)
            except (Fault, ClientError, RequestError, StoreError, OSError) as exc:
                self._failed(line, exc)
            else:
                line.queued = False
                if self.link.is_open:
                    self.lines.set_live(line)
                    self._broker.puts.forget()
                    self._to_note.set()
            self._look()

    async def _note(self) -> None:
        """Keep on disk what is here alone; try again where the disk is full."""
        while True:
            await self._to_note.wait()
            self._to_note.clear()
            logs = [log for log in self._store.all() if log.confirmed < log.end]
            lines = [(log, self.lines.get(log.key)) for log in logs]
            try:
                await self._noted.write({log.key: log.confirmed for log, line in lines if line and not line.live})
            except OSError as exc:
                log_.error("what the slave lacks cannot be noted, after a restart it would be seen: %s", exc)
                await asyncio.sleep(_LONGEST_PAUSE)
                self._to_note.set()

    def _failed(self, line: Line, exc: Exception) -> None:
        """Say what is wrong, once, and try again after a while; or when there is a connection again."""
        reason = str(exc)
        own = not isinstance(exc, ClientError) or isinstance(exc, Refused)
        if reason != line.reason:
            log_.log(logging.ERROR if own else logging.DEBUG, "%s is not copied: %s", line.key, reason)
        if not own:
            self.health.failed(reason)
        line.pause = min(max(2 * line.pause, self._config.check_interval), _LONGEST_PAUSE)
        self.lines.set_behind(line, reason, own=own)
        if self.link.is_open:
            self._timers[line] = self._loop.call_later(line.pause, self._due.put_nowait, line)
        else:
            line.queued = False

    def _look(self) -> None:
        """Say whether all partitions that can be copied are."""
        well = self.link.is_open and not self.lines.behind
        self.health.set_well(well)
        if well:
            self._settled.set()
