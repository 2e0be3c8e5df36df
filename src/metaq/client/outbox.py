"""The batches of one producer on their way to one partition: in order, and each stored once (protocol.md §9)."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from metaq.client.batch import Batch, Stamp, halves, next_batch
from metaq.client.parcel import MOST_BYTES, MOST_RECORDS, Parcel
from metaq.client.picker import takes_batches
from metaq.client.routes import Route
from metaq.client.sending import parse_answer
from metaq.errors import ClientError, LinkClosed, MetaqError, NoBroker, Refused, Status
from metaq.model import BrokerAddress, BrokerPartition, TopicPartition
from metaq.net.link import Link
from metaq.protocol.commands import Reply, Result
from metaq.protocol.encoder import mput_head

log = logging.getLogger(__name__)

_UNDER_WAY: Final = 5  # batches; so many a broker remembers, the oldest without an answer must be among them
_NONE: Final = 1 << 63
_EARLY: Final = 0.01  # seconds a timer may be early
_ATTEMPTS: Final = 4  # a batch is sent again when a fraction of its time is over without an answer


class Owner(Protocol):
    """The producer around it."""

    def quick_route(self, partition: BrokerPartition) -> Route | None:
        """Return the way there if it is open now."""

    async def route(self, partition: BrokerPartition, deadline: float) -> Route:
        """Return the way there once it is open; ClientError or RegistryError if that takes too long."""

    def place(
        self, parcel: Parcel, partition: BrokerPartition, address: BrokerAddress | None, refusal: Refused | None
    ) -> None:
        """Find another partition for a parcel to which any will do; this one is closed if it was refused."""

    def put_each(self, parcel: Parcel, fixed: BrokerPartition | None, batch: Batch | None) -> None:
        """Send messages one by one. An attempt with `batch`, if there was one, may have stored them."""

    def settled(self, parcel: Parcel) -> None:
        """Count a parcel that has its outcome."""

    def dirty(self, outbox: "Outbox") -> None:
        """Have `flush` called at the end of this turn."""

    def named(self, error: ClientError, partition: BrokerPartition, address: BrokerAddress | None) -> ClientError:
        """Return the error with the place in its text."""


class Outbox:
    """Parcels that wait for a partition, and the batches under way there.

    - What waits is sent, as one batch, when nothing is under way, or when there is as much as a batch may hold.
    - A batch without an answer is sent again as it was, those behind it after it, until the outcome is known or its
      time is over. Then it is given up, and those behind it go their own way.
    - If the broker takes a batch for out of order, nothing of it is stored; once nothing else is under way, it and
      those behind it go again in the next epoch, in order.
    """

    def __init__(self, owner: Owner, topic: str, partition: BrokerPartition, producer: int) -> None:
        self.partition = partition
        self._owner = owner
        self._target = TopicPartition(topic, partition.partition)
        self._name = str(partition)
        self._producer = producer
        self._loop = asyncio.get_running_loop()
        self._epoch = self._sequence = 0
        self._waiting: deque[Parcel] = deque()
        self._open: Parcel | None = None  # the last one that waits, if more may be added
        self._records = self._size = 0  # of those that wait, the open one left out
        self._formed = 0  # batches, the halves of others left out
        self._under_way: list[Batch] = []  # in the order of their stamps
        self._again: list[Batch] = []  # to be sent in the next epoch, in this order
        self._hole = _NONE  # the first number of this epoch under which certainly nothing is stored, nor behind it
        self._unwanted = _NONE  # bytes of the smallest message that was refused since one was stored
        self._drains = False  # the next epoch begins when nothing is under way
        self._task: asyncio.Task[None] | None = None  # waits for the broker
        self._is_closed = False

    # what is put in

    def add(self, body: bytes, flag: int, timeout: float) -> tuple[Parcel, int]:
        """Take one message; return its parcel and its index there."""
        parcel = self._open
        if parcel is None or parcel.timeout != timeout or len(parcel.bodies) >= MOST_RECORDS:
            self._seal()
            parcel = self._open = Parcel(timeout, self.partition)
            parcel.expires = self._loop.time() + timeout
        index = parcel.add(body, flag)
        parcel.size += len(body)
        if parcel.size > MOST_BYTES or index + 1 >= MOST_RECORDS:
            self._seal()
        return parcel, index

    def put(self, parcel: Parcel) -> None:
        """Take a parcel that is sealed."""
        self._seal()
        self._waiting.append(parcel)
        self._records += parcel.count
        self._size += parcel.size

    def _seal(self) -> None:
        parcel, self._open = self._open, None
        if parcel is not None:
            parcel.seal()
            self._waiting.append(parcel)
            self._records += parcel.count
            self._size += parcel.size

    @property
    def is_full(self) -> bool:
        """Whether as much waits as one batch may hold."""
        return self._records >= MOST_RECORDS or self._size >= MOST_BYTES

    def takes(self, *, full: bool) -> bool:
        """Say whether a parcel, a full one or a small one, would leave at once."""
        if self._waiting or self._open is not None or self._again or self._drains or self._task is not None:
            return False
        return not self._under_way or (full and self._has_window)

    @property
    def _has_window(self) -> bool:
        """Whether the broker would still remember the oldest batch under way once it has the next one."""
        return not self._under_way or self._sequence - self._under_way[0].stamp.sequence < _UNDER_WAY

    @property
    def has_work(self) -> bool:
        """Whether `flush` may have something to do."""
        return bool(self._waiting or self._open is not None or self._again or self._drains)

    @property
    def is_busy(self) -> bool:
        """Whether anything is in it."""
        return bool(self._waiting or self._open is not None or self._again or self._under_way)

    # sending

    def flush(self) -> None:
        """Send what may be sent now."""
        if self._drains and not self._under_way:
            self._drains = False
            self._epoch += 1
            self._sequence = 0
            self._hole = _NONE
        while not self._drains and self._task is None and self._has_window:
            if self._under_way and not (self._again or self.is_full):
                return
            if self._under_way and any(len(batch.order) > 1 for batch in (self._under_way[0], *self._again[:1])):
                return  # while it is found out which message is unwanted, one goes after the other
            if not (self._again or self._waiting or self._open is not None):
                return
            route = self._owner.quick_route(self.partition)
            if route is None or not takes_batches(route):
                self._mend()
                return
            batch = self._again.pop(0) if self._again else self._form()
            if self._loop.time() >= batch.expires:
                self._fail(batch, NoBroker("not sent in time"))
                continue
            batch.stamp = Stamp(self._producer, self._epoch, self._sequence)
            self._sequence += 1
            self._under_way.append(batch)
            self._send(batch, route.link)

    def _form(self) -> Batch:
        """Return a batch of the first that wait."""
        self._seal()
        parcels = [self._waiting.popleft()]
        records, size = parcels[0].count, parcels[0].size
        while self._waiting:
            parcel = self._waiting[0]
            if records + parcel.count > MOST_RECORDS or size + parcel.size > MOST_BYTES:
                break
            records += parcel.count
            size += parcel.size
            parcels.append(self._waiting.popleft())
        self._records -= records
        self._size -= size
        self._formed += 1
        return Batch(self, parcels, (self._formed,))

    def _send(self, batch: Batch, link: Link) -> None:
        opaque = link.next_opaque()
        batch.deadline = min(batch.expires, self._loop.time() + batch.patience / _ATTEMPTS)
        batch.is_out = True
        batch.address = link.address
        head = mput_head(self._target, len(batch.records), batch.count, batch.stamp, opaque)
        link.send(opaque, batch, head + batch.records, at_once=True)

    # outcomes

    def on_answer(self, batch: Batch, reply: Reply) -> None:
        """Settle a batch (called by it)."""
        if not isinstance(reply, Result):
            self._give_up(batch, LinkClosed("answered mput with data"))
        elif reply.status == Status.SUCCESS:
            try:
                id, _, offset = parse_answer(reply.body)
            except ValueError:
                self._give_up(batch, LinkClosed(f"answered mput with {reply.body[:60]!r}"))
            else:
                self._stored(batch, id, offset)
        else:
            error = Refused(int(reply.status), reply.body.decode("utf-8", "replace"))
            if reply.status == Status.CONFLICT:
                self._out_of_order(batch, error)
            else:
                self._refused(batch, error)
        self._owner.dirty(self)

    def on_failed(self, batch: Batch, error: ClientError) -> None:
        """Have a batch sent again if it has time left (called by it)."""
        if not isinstance(error, NoBroker):
            batch.uncertain = batch.uncertain or error
        if self._is_closed or self._loop.time() >= batch.expires:
            self._give_up(batch, error)
            self._owner.dirty(self)
        else:
            self._mend()

    def _stored(self, batch: Batch, id: int, offset: int) -> None:
        self._under_way.remove(batch)
        self._unwanted = _NONE
        for parcel in batch.parcels:
            parcel.stored_at(id, self._name, offset)
            id += parcel.count
            offset += parcel.size
            self._owner.settled(parcel)

    def _out_of_order(self, batch: Batch, error: Refused) -> None:
        """The broker misses a batch before this one, or has forgotten the producer.

        If an attempt may have stored it and the broker no longer knows, nobody can.
        """
        self._under_way.remove(batch)
        self._drains = True
        epoch, sequence = next_batch(error.text)
        was_missed = sequence > 0 and (epoch, sequence) <= batch.stamp[1:]
        if batch.uncertain is not None and not was_missed and batch.stamp.sequence <= self._hole:
            self._fail(batch, batch.uncertain)
        elif self._is_closed or self._loop.time() >= batch.expires:
            self._fail(batch, error)
        else:
            log.debug("%s: batch %d of epoch %d goes again: %s", self._target, *batch.stamp[:0:-1], error)
            self._epoch = max(self._epoch, epoch)
            self._hole = min(self._hole, batch.stamp.sequence)
            batch.uncertain = None
            self._again.append(batch)
            self._again.sort(key=_order)

    def _refused(self, batch: Batch, error: Refused) -> None:
        """Nothing of it is stored; find out which of its messages the broker does not want.

        Only their sizes differ in its eyes: where one is unwanted, a larger one is too, until something is stored.
        """
        self._under_way.remove(batch)
        self._drains = True
        self._hole = min(self._hole, batch.stamp.sequence)
        if error.status == Status.FORBIDDEN and not self._is_closed:
            for parcel in batch.parcels:
                if parcel.fixed is None:
                    self._owner.place(parcel, self.partition, batch.address, error)
                else:
                    self._fail_parcel(parcel, error, batch.address)
        elif batch.count == 1 or batch.smallest >= self._unwanted or self._is_closed:
            self._unwanted = min(self._unwanted, batch.smallest)
            self._fail(batch, error)
        else:
            self._again += halves(batch)
            self._again.sort(key=_order)

    def _give_up(self, batch: Batch, error: ClientError) -> None:
        """Its outcome stays unknown. Those behind it are sent again if it was not stored: see _out_of_order."""
        self._under_way.remove(batch)
        self._fail(batch, batch.uncertain or error)

    def _fail(self, batch: Batch, error: ClientError) -> None:
        for parcel in batch.parcels:
            self._fail_parcel(parcel, error, batch.address)

    def _fail_parcel(self, parcel: Parcel, error: ClientError, address: BrokerAddress | None) -> None:
        parcel.failed_with(self._owner.named(error, self.partition, address))
        self._owner.settled(parcel)

    # the broker is away, or another

    def _mend(self) -> None:
        if self._task is None and not self._is_closed:
            self._task = self._loop.create_task(self._wait_for_broker(), name=f"outbox {self._target}")

    async def _wait_for_broker(self) -> None:
        """Send again what is without an answer as soon as the broker is there; fail what has no time left."""
        try:
            while not self._is_closed:
                self._let_go()
                if not self.is_busy or (not self._missing() and self._under_way):
                    break
                deadline = self._first_deadline()
                try:
                    route = await self._owner.route(self.partition, deadline)
                except MetaqError as exc:
                    hopeless = self._loop.time() < deadline - _EARLY
                    self._expire(exc if isinstance(exc, ClientError) else NoBroker(str(exc)), everything=hopeless)
                    continue
                if not takes_batches(route):
                    self._degrade()
                    break
                for batch in self._missing():
                    self._send(batch, route.link)
                if not self._missing():
                    break
        finally:
            self._task = None
            self._owner.dirty(self)

    def _missing(self) -> list[Batch]:
        return [batch for batch in self._under_way if not batch.is_out]

    def _let_go(self) -> None:
        """Let others take what was certainly not sent and may go anywhere."""
        free: list[Parcel] = []
        for batch in [b for b in self._missing() if b.uncertain is None]:
            if all(parcel.fixed is None for parcel in batch.parcels):
                self._under_way.remove(batch)
                self._drains = True
                free += batch.parcels
        for batch in [b for b in self._again if all(parcel.fixed is None for parcel in b.parcels)]:
            self._again.remove(batch)
            free += batch.parcels
        for parcel in [p for p in self._waiting if p.fixed is None]:
            self._drop(parcel)
            free.append(parcel)
        for parcel in free:
            self._owner.place(parcel, self.partition, None, None)

    def _drop(self, parcel: Parcel) -> None:
        self._waiting.remove(parcel)
        self._records -= parcel.count
        self._size -= parcel.size

    def _first_deadline(self) -> float:
        self._seal()
        waiting = (self._waiting[0].expires,) if self._waiting else ()
        return min(*(batch.expires for batch in (*self._missing(), *self._again)), *waiting, float("inf"))

    def _expire(self, error: ClientError, *, everything: bool) -> None:
        now = float("inf") if everything else self._loop.time() + _EARLY
        for batch in self._missing():
            if batch.expires <= now:
                self._give_up(batch, error)
        for batch in [batch for batch in self._again if batch.expires <= now]:
            self._again.remove(batch)
            self._fail(batch, error)
        for parcel in [parcel for parcel in self._waiting if parcel.expires <= now]:
            self._drop(parcel)
            self._fail_parcel(parcel, error, None)

    def _degrade(self) -> None:
        """A broker that knows no batches stands there now: all go one by one."""
        missing = self._missing()
        for batch in missing:
            self._under_way.remove(batch)
        batches, self._again = [*missing, *self._again], []
        self._drains = True
        for batch in batches:
            for parcel in batch.parcels:
                fixed = parcel.fixed or (self.partition if batch.uncertain else None)
                self._owner.put_each(parcel, fixed, batch)
        self._seal()
        waiting, self._waiting = self._waiting, deque()
        self._records = self._size = 0
        for parcel in waiting:
            self._owner.put_each(parcel, parcel.fixed, None)

    async def close(self, error: Callable[[], ClientError]) -> None:
        """Send nothing any more. What is out has its outcome when it is answered, or the link closed."""
        self._is_closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        self._seal()
        for batch in self._missing():
            self._give_up(batch, error())
        batches, self._again = self._again, []
        for batch in batches:
            self._fail(batch, error())
        while self._waiting:
            self._fail_parcel(self._waiting.popleft(), error(), None)


def _order(batch: Batch) -> tuple[int, ...]:
    return batch.order
