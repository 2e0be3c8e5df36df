"""Producers that pack batches and send them again after bad days, and what must be stored of them (protocol.md §9).

They use the broker's commands on a store of `tests.unit.store.course`: after a crash each sends again what it has no
answer to, in order, and whoever wonders what became of a batch that is answered sends it once more.
"""

import re
from dataclasses import dataclass, field, replace
from random import Random
from typing import Final

from metaq.broker.broker import Broker
from metaq.config.model import BrokerConfig
from metaq.model import TopicPartition
from metaq.protocol.commands import Mput, Put
from metaq.record import HEADER_SIZE, checksum, pack, walk
from metaq.store.store import MessageStore
from tests.simulation.world import Machine
from tests.unit.store.course import Life, Model, config, read_all

SIZES: Final = (1, 30, 100, 400, 900, 2100)
MOST_UNDER_WAY: Final = 5


def settings(**changes: object) -> BrokerConfig:
    """Return those of a course, with the topics that the senders use."""
    small = config(**changes)
    return replace(small, topics=(*small.topics, replace(small.defaults, name="safe", num_partitions=2)))


@dataclass(eq=False)
class Batch:
    """One that was sent. `safe`: no loss of power may take it. `result`: id and offset of its first message."""

    target: TopicPartition
    bodies: list[bytes]
    stamp: tuple[int, int, int]
    result: tuple[int, int] | None = None
    safe: bool = False
    refusal: bytes = b""

    def command(self) -> Mput:
        records = b"".join(pack(0, 0, body) for body in self.bodies)
        return Mput(self.target, records, len(self.bodies), *self.stamp, 1)


@dataclass
class Sender:
    """One producer in one partition."""

    number: int
    target: TopicPartition
    epoch: int = 0
    sequence: int = 0
    sent: list[Batch] = field(default_factory=list)  # of this epoch

    def under_way(self) -> list[Batch]:
        return [batch for batch in self.sent if batch.result is None]

    def room(self) -> int:
        """Return how many more it may send: five, counted from the oldest that has no answer."""
        waiting = self.under_way()
        return MOST_UNDER_WAY - (self.sequence - waiting[0].stamp[2] if waiting else 0)

    def next(self, bodies: list[bytes]) -> Batch:
        batch = Batch(self.target, bodies, (self.number, self.epoch, self.sequence))
        self.sequence += 1
        self.sent.append(batch)
        return batch

    def begin_epoch(self) -> None:
        """Give up what has no answer: what was lost with the power leaves a gap that nobody can close."""
        self.epoch, self.sequence, self.sent = self.epoch + 1, 0, []


class Sending(Life):
    """A process with a broker, and the producers that outlive it."""

    def __init__(self, machine: Machine, configuration: BrokerConfig, targets: tuple[TopicPartition, ...]) -> None:
        super().__init__(machine, Model(), configuration)
        self.senders = [Sender(number, target) for target in targets for number in (7, 8)]
        self.batches: list[Batch] = []
        self._serial = 0
        self._broker: Broker

    def open(self) -> MessageStore:
        store = super().open()
        self._broker = Broker(self.settings, store, self.machine.outside)
        return store

    def bodies(self, chance: Random) -> list[bytes]:
        """Return bodies that are like no others."""
        bodies = []
        for _ in range(chance.choice((1, 1, 2, 5))):
            self._serial += 1
            text = b"%d." % self._serial
            bodies.append((text * 2100)[: max(chance.choice(SIZES), len(text))])
        return bodies

    def send(self, *batches: Batch) -> None:
        """Send batches, as one connection does at once; they hear what is answered."""
        if not batches:
            return
        self.batches += [batch for batch in batches if batch not in self.batches]
        self._execute(list(batches), [batch.command() for batch in batches])

    def put(self, key: TopicPartition, *sizes: int) -> list[object]:  # type: ignore[override]
        raise AssertionError("senders send batches")

    def put_plainly(self, target: TopicPartition, bodies: list[bytes]) -> None:
        """Put messages without a stamp; whether they come twice is nobody's matter here."""
        batches = [Batch(target, [body], (0, 0, 0)) for body in bodies]
        self.batches += batches
        commands = [Put(target, batch.bodies[0], 0, checksum(batch.bodies[0]), 1) for batch in batches]
        self._execute(batches, commands)

    def _execute(self, batches: list[Batch], commands: "list[Mput] | list[Put]") -> None:
        self._broker.execute(Answers(self, batches), commands)  # type: ignore[arg-type]  # no more of a receiver is used

    def answered(self, batch: Batch, status: int, text: bytes) -> None:
        """Hear an answer: one that was stored before is answered as it was then."""
        if status != 200:
            batch.refusal = b"%d %b" % (status, text)
            return
        id, partition, offset = map(int, text.split())
        assert partition == batch.target.partition
        assert batch.result in (None, (id, offset)), f"{batch.stamp} was {batch.result}, now {id, offset}"
        batch.result = id, offset
        batch.safe = batch.safe or batch.target.topic == "safe"

    def crash(self, *, power: bool) -> None:
        """End the process. A loss of power may take what was acknowledged without being synced."""
        self.machine.crash(power=power)
        for batch in self.batches:
            if power and not batch.safe:
                batch.result = None
        for sender in self.senders:
            if power and sender.target.topic == "fast":
                sender.begin_epoch()

    async def check_batches(self, *, recovered: bool = False) -> None:
        """Everything acknowledged is stored where its answer said, once; everything stored was sent, once, whole.

        `recovered`: it was just opened, so what can be read is on disk.
        """
        for target in {batch.target for batch in self.batches}:
            log = self.store.get(target)
            found: dict[bytes, list[tuple[int, int]]] = {}
            order: list[bytes] = []
            for record in walk(b"" if log is None else await read_all(self.store, log)):
                found.setdefault(record.body, []).append((record.id, record.position))
                order.append(record.body)
            for batch in (batch for batch in self.batches if batch.target == target):
                self._check_batch(batch, found, order)
                batch.safe = batch.safe or (recovered and batch.bodies[0] in found)
            assert set(order) <= {body for b in self.batches if b.target == target for body in b.bodies}

    def _check_batch(self, batch: Batch, found: dict[bytes, list[tuple[int, int]]], order: list[bytes]) -> None:
        places = found.get(batch.bodies[0], [])
        assert len(places) <= 1, f"{batch.stamp} is stored {len(places)} times"
        if not places:
            assert batch.result is None, f"{batch.stamp} is lost, it was {batch.result}"
            assert not any(body in found for body in batch.bodies), f"{batch.stamp} is stored in part"
            return
        id, offset = places[0]
        assert batch.result in (None, (id, offset)), f"{batch.stamp} stands at {offset}, {batch.result} was answered"
        start = order.index(batch.bodies[0])
        assert order[start : start + len(batch.bodies)] == batch.bodies, f"{batch.stamp} is stored in part"
        for number, body in enumerate(batch.bodies):
            assert found[body] == [(id + number, offset)]
            offset += HEADER_SIZE + len(body)

    async def send_all_again(self) -> None:
        """Send what has no answer until all is stored, and what has one once more."""
        for sender in self.senders:
            self.send(*sender.sent[-MOST_UNDER_WAY:])
        await self.settle()
        for sender in self.senders:
            assert not sender.under_way(), [(batch.stamp, batch.refusal) for batch in sender.under_way()]
        await self.check_batches()


class Answers:
    """The peer of some batches sent at once: hands the answers out in order."""

    def __init__(self, sending: Sending, batches: list[Batch]) -> None:
        self._sending = sending
        self._batches = batches
        self.unsafe = 0

    def acknowledge(self, data: bytes, size: int) -> None:
        """Take all replies, in one piece."""
        self.unsafe -= size
        assert not self.unsafe
        for batch in self._batches:
            head, _, rest = data.partition(b"\r\n")
            match = re.fullmatch(rb"result (\d+) (\d+) 1", head)
            assert match is not None, data
            length = int(match[2])
            self._sending.answered(batch, int(match[1]), rest[:length])
            data = rest[length:]
        assert not data
