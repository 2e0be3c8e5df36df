"""Parcels on their way out: which partition each goes to, and whether as part of a batch or as puts."""

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Final

from metaq.client.batch import Batch
from metaq.client.flight import MOST_IN_FLIGHT, Flight
from metaq.client.outbox import Outbox
from metaq.client.parcel import MOST_BYTES, MOST_RECORDS, Parcel
from metaq.client.picker import Picker, takes_batches
from metaq.client.putting import Putting, named
from metaq.client.routes import Route
from metaq.client.sending import Put
from metaq.errors import ClientError, MetaqError, NoBroker, Refused
from metaq.model import BrokerAddress, BrokerPartition
from metaq.record import HEADER_SIZE


@dataclass(frozen=True, slots=True)
class ShippingOptions:
    """How parcels travel."""

    producer: int  # its number, drawn by chance
    linger: float  # seconds a message may wait for others
    retries: int  # of puts


_LOOKS: Final = 16  # partitions looked at for one at which nothing is under way


class Shipping:
    """What one producer has for all partitions, and the outbox of each.

    Parcels to which any partition will do wait here until one can take them: one at which nothing is under way, or,
    for a full parcel, less than may be.
    """

    def __init__(
        self, topic: str, pickers: tuple[Picker, Picker], flight: Flight, putting: Putting, options: ShippingOptions
    ) -> None:
        """`pickers`: for partitions that are named or chosen, and for those of which any will do."""
        self._topic = topic
        self._picker, self._free_picker = pickers
        self._flight = flight
        self._putting = putting
        self._options = options
        self._loop = asyncio.get_running_loop()
        self._outboxes: dict[BrokerPartition, Outbox] = {}
        self._dirty: dict[Outbox, None] = {}
        self._free: deque[Parcel] = deque()
        self._open: Parcel | None = None  # more may be added; behind those that are free
        self._is_due = False  # a flush is due in this turn
        self._was_alone = True  # one message was under way after the last flush
        self._timer: asyncio.TimerHandle | None = None
        self._placing: set[asyncio.Task[None]] = set()
        self._is_closed = False

    # what is to be sent; it is counted as under way already, and leaves once `wake`, `leave` or `flush` is called

    def add(self, body: bytes, flag: int, timeout: float) -> tuple[Parcel, int]:
        """Take one message to which any partition will do; return its parcel and its index there."""
        parcel = self._open
        if parcel is None or parcel.timeout != timeout:
            self._seal()
            parcel = self._open = Parcel(timeout)
            parcel.expires = self._loop.time() + timeout
        index = parcel.add(body, flag)
        parcel.size += len(body)
        if parcel.size > MOST_BYTES or index + 1 >= MOST_RECORDS:
            self._seal()
            self._flush_free()
        return parcel, index

    def add_quickly(self, body: bytes, timeout: float) -> tuple[Parcel, int] | None:
        """Do that with a message without an attribute, and count it, if a parcel is open and more may be under way.

        Spelled out: this runs for every message.
        """
        parcel, flight = self._open, self._flight
        if parcel is None or parcel.timeout != timeout or flight.count >= flight.most or flight.bytes >= MOST_IN_FLIGHT:
            return None
        size = len(body)
        bodies = parcel.bodies
        index = len(bodies)
        bodies.append(body)
        flight.count += 1
        flight.bytes += size + HEADER_SIZE
        parcel.size += size
        if parcel.size > MOST_BYTES or index + 1 >= MOST_RECORDS:
            self._seal()
            self._flush_free()
        return parcel, index

    def add_to(self, partition: BrokerPartition, body: bytes, flag: int, timeout: float) -> tuple[Parcel, int]:
        """Take one message for a partition."""
        outbox = self._outbox(partition)
        place = outbox.add(body, flag, timeout)
        self._touch(outbox)
        return place

    def put(self, parcel: Parcel) -> None:
        """Take a parcel, for `parcel.fixed` if that is a partition."""
        if parcel.fixed is None:
            self._seal()
            self._free.append(parcel)
            return
        outbox = self._outboxes.get(parcel.fixed)
        if outbox is None or not outbox.is_busy:
            route = self._picker.to(parcel.fixed)
            if route is not None and not takes_batches(route):
                self.put_each(parcel, parcel.fixed, None)
                return
            outbox = outbox or self._outbox(parcel.fixed)
        outbox.put(parcel)
        self._touch(outbox)

    def _touch(self, outbox: Outbox) -> None:
        self._dirty[outbox] = None
        if outbox.is_full:
            outbox.flush()

    def _outbox(self, partition: BrokerPartition) -> Outbox:
        outbox = self._outboxes.get(partition)
        if outbox is None:
            outbox = self._outboxes[partition] = Outbox(self, self._topic, partition, self._options.producer)
        return outbox

    def _seal(self) -> None:
        parcel, self._open = self._open, None
        if parcel is not None:
            parcel.seal()
            self._free.append(parcel)

    # sending

    def leave(self) -> None:
        """Have a message sent that somebody waits for: at once if it is alone, else as `wake` does.

        It is taken to be alone if nothing else is under way, and was not when the last one left.
        """
        if self._was_alone and self._flight.count == 1 and not self._options.linger and not self._is_due:
            self.flush()
        else:
            self.wake()

    def wake(self) -> None:
        """Have all sent that may be, at the end of this turn or after the linger."""
        if self._options.linger:
            if self._timer is None:
                self._timer = self._loop.call_later(self._options.linger, self._linger_ended)
        elif not self._is_due:
            self._is_due = True
            self._loop.call_soon(self.flush)

    def _linger_ended(self) -> None:
        self._timer = None
        self.flush()

    def flush(self) -> None:
        """Send what may be sent now."""
        self._is_due = False
        self._was_alone = self._flight.count == 1
        if self._is_closed:
            return
        dirty, self._dirty = self._dirty, {}
        for outbox in dirty:
            outbox.flush()
        if self._free or self._open is not None:
            self._flush_free()

    def _flush_free(self) -> None:
        while not self._placing and not self._is_closed:
            if not self._free:
                if self._open is None:
                    return
                self._seal()
            parcel = self._free[0]
            route = self._free_picker.any()
            if route is None:
                self._place(self._free.popleft(), None)
            elif not takes_batches(route):
                self.put_each(self._free.popleft(), None, None)
            else:
                full = len(self._free) > 1 or parcel.count >= MOST_RECORDS or parcel.size >= MOST_BYTES
                outbox = self._idle(route, full=full)
                if outbox is None:
                    return
                self._fill(outbox)
                outbox.flush()

    def _fill(self, outbox: Outbox) -> None:
        """Put as much into an outbox as one batch takes."""
        self._seal()
        records = size = 0
        while self._free:
            parcel = self._free[0]
            records += parcel.count
            size += parcel.size
            if records > parcel.count and (records > MOST_RECORDS or size > MOST_BYTES):
                return
            outbox.put(self._free.popleft())

    def _idle(self, route: Route | None, *, full: bool) -> Outbox | None:
        """Return an outbox whose partition can take a parcel at once, that of `route` if it can."""
        for _ in range(min(self._free_picker.partition_count, _LOOKS)):
            if route is None:
                return None
            if takes_batches(route):
                outbox = self._outbox(route.partition)
                if outbox.takes(full=full):
                    return outbox
            route = self._free_picker.any()
        return None

    def _place(self, parcel: Parcel, error: MetaqError | None) -> None:
        """Look for a partition of a parcel until one can take it, or its time is over: then it fails with `error`."""
        task = self._loop.create_task(self._find_place(parcel, error), name=f"parcel for {self._topic}")
        self._placing.add(task)
        task.add_done_callback(self._placed)

    def _placed(self, task: asyncio.Task[None]) -> None:
        self._placing.discard(task)
        if self._free or self._open is not None:
            self.wake()

    async def _find_place(self, parcel: Parcel, error: MetaqError | None) -> None:
        question = Put.packed(0, b"", None)
        question.avoid = parcel.avoid
        try:
            route = await self._free_picker.wait(question, parcel.expires)
        except MetaqError as exc:
            self._fail(parcel, error or exc)
        except asyncio.CancelledError:
            self._fail(parcel, error or self._closed_error())
            raise
        else:
            if takes_batches(route):
                outbox = self._outbox(route.partition)
                outbox.put(parcel)
                outbox.flush()
            else:
                self.put_each(parcel, None, None)

    def _fail(self, parcel: Parcel, error: MetaqError) -> None:
        parcel.failed_with(error)
        self.settled(parcel)

    async def close(self) -> None:
        """Send nothing any more; what was not sent fails."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        tasks = list(self._placing)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self._seal()
        while self._free:
            self._fail(self._free.popleft(), self._closed_error())
        for outbox in list(self._outboxes.values()):
            await outbox.close(self._closed_error)

    def _closed_error(self) -> ClientError:
        return NoBroker(f"{self._topic}: not sent, the producer is closed")

    # for the outboxes

    def quick_route(self, partition: BrokerPartition) -> Route | None:
        """Return the way there if it is open now."""
        return self._picker.to(partition)

    async def route(self, partition: BrokerPartition, deadline: float) -> Route:
        """Return the way there once it is open. Raises NoBroker, RegistryError, RequestTimeout."""
        return await self._picker.wait(Put.packed(0, b"", partition), deadline)

    def place(
        self, parcel: Parcel, partition: BrokerPartition, address: BrokerAddress | None, refusal: Refused | None
    ) -> None:
        """Find another partition for a parcel to which any will do; this one is closed if it was refused."""
        if refusal is None:
            self._free.append(parcel)
            self.wake()
        else:
            parcel.avoid |= {partition}
            self._place(parcel, self.named(refusal, partition, address))

    def put_each(self, parcel: Parcel, fixed: BrokerPartition | None, batch: Batch | None) -> None:
        """Send messages one by one. An attempt with `batch`, if there was one, may have stored them."""
        uncertain = None if batch is None else batch.uncertain
        if batch is not None and uncertain is not None and not self._options.retries:
            assert fixed is not None
            self._fail(parcel, self.named(uncertain, fixed, batch.address))
            return
        if self._is_closed:
            self._fail(parcel, self._closed_error())
            return
        flags = parcel.flags or {}
        for index, body in enumerate(list(parcel.bodies)):
            put = Put.packed(flags.get(index, 0), body, fixed)
            put.picker = self._picker if parcel.fixed is not None else self._free_picker
            put.waiter, put.index, put.avoid = parcel, index, parcel.avoid
            put.timeout, put.deadline = parcel.timeout, parcel.expires
            put.uncertain = uncertain
            put.attempts = 0 if uncertain is None else 1
            self._putting.follow(put)

    def settled(self, parcel: Parcel) -> None:
        """Count a parcel that has its outcome."""
        self._flight.end(parcel.count, parcel.size)

    def dirty(self, outbox: Outbox) -> None:
        """Have `flush` called at the end of this turn, if there may be anything to do."""
        if not (outbox.has_work or self._free or self._open is not None):
            return
        self._dirty[outbox] = None
        if not self._is_due:
            self._is_due = True
            self._loop.call_soon(self.flush)

    def named(self, error: ClientError, partition: BrokerPartition, address: BrokerAddress | None) -> ClientError:
        """Return the error with the place in its text."""
        return named(error, self._topic, partition, address)
