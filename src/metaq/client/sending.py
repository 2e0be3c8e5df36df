"""One message on its way to a broker, and who waits for it. On the hot path of every producer."""

import asyncio
from collections import deque
from collections.abc import Generator
from functools import lru_cache
from typing import Protocol

from metaq.client.routes import Route
from metaq.errors import ClientError, LinkClosed, MetaqError, Refused, Status
from metaq.model import BrokerPartition, Receipt
from metaq.net.calls import Call
from metaq.protocol.commands import Reply, Result
from metaq.record import checksum, encode_body


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


def parse_receipt(broker_id: int, body: bytes) -> Receipt:
    """Return what the answer to a put says. Raises ValueError."""
    id, partition, offset = body.split(b" ")
    return Receipt(int(id), _name(broker_id, partition), int(offset))


class Waiter(Protocol):
    """Who learns of the final outcome."""

    def stored(self, index: int, receipt: Receipt) -> None: ...
    def failed(self, index: int, error: MetaqError) -> None: ...


class Picker(Protocol):
    """Says where to send it; see picker.Picker."""

    is_free: bool  # whether another partition than the one chosen first will do

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
        "checksum",
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

    def __init__(self, owner: Owner, data: bytes, attribute: str | None, fixed: BrokerPartition | None) -> None:
        self.owner = owner
        self.data = data
        self.attribute = attribute
        self.fixed = fixed  # the partition the user named
        self.flag, self.body = encode_body(data, attribute)
        self.checksum = checksum(self.body)
        self.attempts = 0
        self.picker: Picker
        self.avoid: frozenset[BrokerPartition] = frozenset()  # partitions that were found closed
        self.route: Route | None = None
        self.timeout = 0.0  # seconds each attempt may take
        self.uncertain: ClientError | None = None  # what came of an attempt that may have stored it
        self.waiter: Waiter
        self.index = 0  # among those of one waiter

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


class Sent(asyncio.Future[Receipt]):
    """The outcome of one `send_nowait`. An error that nobody asked it for is raised by `flush` instead."""

    def __init__(self, loop: asyncio.AbstractEventLoop, failures: "deque[Sent] | None" = None) -> None:
        super().__init__(loop=loop)
        self.seen = False  # whether somebody asked
        self._failures = failures  # where it puts itself if it fails

    def stored(self, index: int, receipt: Receipt) -> None:
        """Hand the receipt to who waits, unless he has gone."""
        if not self.done():
            self.set_result(receipt)

    def failed(self, index: int, error: MetaqError) -> None:
        """Hand the error to who waits, unless he has gone."""
        if not self.done():
            self.set_exception(error)
            super().exception()  # or asyncio would print what flush raises anyway
            if self._failures is not None:
                self._failures.append(self)

    def __await__(self) -> Generator[None, None, Receipt]:
        self.seen = True
        return (yield from super().__await__())

    def result(self) -> Receipt:
        """Return the receipt, or raise what went wrong; InvalidStateError before that is known."""
        self.seen = True
        return super().result()

    def exception(self) -> BaseException | None:
        """Return what went wrong, if something did; InvalidStateError before that is known."""
        self.seen = True
        return super().exception()


class Batch:
    """The outcomes of one `send_many`, in the order of its messages."""

    def __init__(self) -> None:
        self.receipts: list[Receipt | None] = []
        self.errors: list[tuple[int, MetaqError]] = []
        self._left = 0
        self._sealed: asyncio.Future[None] | None = None

    def add(self) -> int:
        """Make room for one more outcome and return its index."""
        self.receipts.append(None)
        self._left += 1
        return len(self.receipts) - 1

    def stored(self, index: int, receipt: Receipt) -> None:
        """Note one receipt."""
        self.receipts[index] = receipt
        self._settled()

    def failed(self, index: int, error: MetaqError) -> None:
        """Note one error."""
        self.errors.append((index, error))
        self._settled()

    def _settled(self) -> None:
        self._left -= 1
        if not self._left and self._sealed is not None and not self._sealed.done():
            self._sealed.set_result(None)

    async def outcome(self) -> list[Receipt]:
        """Wait until all are settled and return the receipts.

        Raises the error of the first message that failed, with a note that says how many did.
        """
        if self._left:
            self._sealed = asyncio.get_running_loop().create_future()
            await self._sealed
        if self.errors:
            index, error = min(self.errors, key=lambda pair: pair[0])
            error.add_note(f"message {index} of {len(self.receipts)}; {len(self.errors)} were not acknowledged")
            raise error
        return [receipt for receipt in self.receipts if receipt is not None]
