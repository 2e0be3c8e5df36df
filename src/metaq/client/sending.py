"""One message on its way to a broker, and who waits for it. On the hot path of every producer."""

import asyncio
from collections.abc import Callable, Generator
from functools import lru_cache
from typing import Protocol, Self

from metaq.client.outcome import Outcome
from metaq.client.parcel import Parcel, anew
from metaq.client.routes import Route
from metaq.errors import ClientError, LinkClosed, MetaqError, Refused, Status
from metaq.model import BrokerPartition, Receipt
from metaq.net.calls import Call
from metaq.protocol.commands import Reply, Result
from metaq.record import HEADER_SIZE, encode_body


@lru_cache(65536)
def _name(broker_id: int, partition: bytes) -> str:
    return str(BrokerPartition(broker_id, int(partition)))


def checked(data: bytes, attribute: str | None) -> tuple[bytes, str | None]:
    """Return the message if it is one. Raises TypeError."""
    if not isinstance(data, bytes):
        raise TypeError(f"a message is bytes, not {type(data).__name__}; encode text first")
    if attribute is not None and not isinstance(attribute, str):
        raise TypeError(f"an attribute is text, not {type(attribute).__name__}; decode bytes first")
    return data, attribute


def parse_answer(body: bytes) -> tuple[int, bytes, int]:
    """Return the id, partition and offset in the answer to a put. Raises ValueError."""
    id, partition, offset = body.split(b" ")
    return int(id), partition, int(offset)


def parse_receipt(broker_id: int, body: bytes) -> Receipt:
    """Return what the answer to a put says. Raises ValueError."""
    id, partition, offset = parse_answer(body)
    return Receipt(id, _name(broker_id, partition), offset)


class Waiter(Protocol):
    """Who learns of the final outcome."""

    def stored(self, index: int, receipt: Receipt) -> None: ...
    def failed(self, index: int, error: MetaqError) -> None: ...


class Picker(Protocol):
    """Says where to send it; see picker.Picker."""

    is_free: bool  # whether another partition than the one chosen first will do

    @property
    def is_batching(self) -> bool: ...

    def quick(self, put: "Put", /) -> Route | None: ...
    async def wait(self, put: "Put", deadline: float, /) -> Route: ...


class Owner(Protocol):
    """The producer: told of each attempt's outcome, it decides whether it is final."""

    def on_stored(self, put: "Put", receipt: Receipt) -> None: ...
    def on_failed(self, put: "Put", error: ClientError) -> None: ...


class Put(Call):
    """A message, encoded, with what is needed to send it again, elsewhere if need be."""

    __slots__ = (
        "attempts",
        "attribute",
        "avoid",
        "body",
        "data",
        "fixed",
        "flag",
        "index",
        "owner",
        "picker",
        "route",
        "timeout",
        "uncertain",
        "waiter",
    )

    def __init__(self, data: bytes, attribute: str | None, fixed: BrokerPartition | None) -> None:
        self.data = data
        self.attribute = attribute
        self.fixed = fixed  # the partition the user named
        self.flag, self.body = encode_body(data, attribute)
        self.size = len(self.body) + HEADER_SIZE
        self.owner: Owner
        self.attempts = 0
        self.picker: Picker
        self.avoid: frozenset[BrokerPartition] = frozenset()  # partitions that were found closed
        self.route: Route | None = None
        self.timeout = 0.0  # seconds each attempt may take
        self.uncertain: ClientError | None = None  # what came of an attempt that may have stored it
        self.waiter: Waiter
        self.index = 0  # among those of one waiter

    @classmethod
    def packed(cls, flag: int, body: bytes, fixed: BrokerPartition | None) -> Self:
        """Return one whose body is ready; nothing chooses by its data."""
        put = cls(body, None, fixed)
        put.flag = flag
        return put

    def answer(self, reply: Reply) -> None:
        route = self.route
        assert route is not None
        if not isinstance(reply, Result):
            self.owner.on_failed(self, LinkClosed(f"{route.link.address}: answered put with data"))
        elif reply.status is not Status.SUCCESS:
            self.owner.on_failed(self, Refused(int(reply.status), reply.body.decode("utf-8", "replace")))
        else:
            try:
                receipt = parse_receipt(route.partition.broker_id, reply.body)
            except ValueError:
                self.owner.on_failed(self, LinkClosed(f"{route.link.address}: answered put with {reply.body[:60]!r}"))
            else:
                self.owner.on_stored(self, receipt)

    def fail(self, error: ClientError) -> None:
        self.owner.on_failed(self, error)


class Answer(asyncio.Future[Receipt]):
    """The outcome of one message, for who waits for it in the loop."""

    def stored(self, index: int, receipt: Receipt) -> None:
        """Hand the receipt to who waits, unless he has gone."""
        if not self.done():
            self.set_result(receipt)

    def failed(self, index: int, error: MetaqError) -> None:
        """Hand the error to who waits, unless he has gone."""
        if not self.done():
            self.set_exception(error)
            self.exception()  # or asyncio would print it if nobody asks


class Sent(Outcome):
    """The outcome of one `send_nowait`: awaitable, and much like a future.

    An error that nobody asked it for is raised by `flush` instead.
    """

    __slots__ = ()

    def result(self) -> Receipt:
        """Return the receipt, or raise what went wrong; InvalidStateError before that is known."""
        self._parcel.ask(self._index)
        outcome = self._known()
        if isinstance(outcome, Exception):
            raise anew(outcome)
        return outcome

    def exception(self) -> Exception | None:
        """Return what went wrong, if something did; InvalidStateError before that is known."""
        self._parcel.ask(self._index)
        outcome = self._known()
        return outcome if isinstance(outcome, Exception) else None

    def add_done_callback(self, function: Callable[["Sent"], object]) -> None:
        """Have a function called with this, soon after the outcome is known."""
        loop = asyncio.get_running_loop()

        def call() -> None:
            loop.call_soon(function, self)

        if not self._parcel.call_when_known(self._index, call):
            call()

    def _known(self) -> Receipt | Exception:
        outcome = self._parcel.outcome(self._index)
        if outcome is None:
            raise asyncio.InvalidStateError("the outcome is not known yet")
        return outcome

    def __await__(self) -> Generator[None, None, Receipt]:
        self._parcel.ask(self._index)
        waiter: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
        self._parcel.tell(self._index, waiter)
        return (yield from waiter)


async def known(parcel: Parcel, index: int) -> None:
    """Wait until the outcome of a message is known; of all, with index -1."""
    waiter = asyncio.get_running_loop().create_future()

    def wake() -> None:
        if not waiter.done():
            waiter.set_result(None)

    if parcel.call_when_known(index, wake):
        await waiter
