"""One partition of an ordered producer: a line in which nobody is overtaken, over the network or through the spool."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, TypeAlias

from metaq.client.producing.attempt import Target
from metaq.client.producing.items import Item, Spooled, pack_item, unpack_item
from metaq.client.producing.options import OrderedOptions
from metaq.client.spool import Spool
from metaq.errors import ClientError, MetaqError, NoBroker, Refused, SpoolError, Status
from metaq.model import Receipt

log = logging.getLogger(__name__)

Outcome: TypeAlias = "asyncio.Future[Receipt | Spooled]"

_NEAR: Final = 100  # spooled messages whose sending is waited for, rather than spool more, if it goes well
_BATCH: Final = 32  # spooled messages looked at together


class Lane:
    """Messages of one partition, put one at a time, in the order of the calls.

    - While nothing is spooled, a message is put as soon as those before it are stored.
    - What could not be put, or may not be stored, is spooled, and so is all behind it, until the spool is empty again.
    - One task does both, so a message is never on its way while one before it is.
    """

    def __init__(
        self, name: str, target: Target, open_spool: Callable[[], Awaitable[Spool]], options: OrderedOptions
    ) -> None:
        self.name = name
        self.sent = 0
        self.spooled = 0
        self.trouble: MetaqError | None = None  # why messages wait
        self._target = target
        self._open_spool = open_spool
        self._options = options
        self._loop = asyncio.get_running_loop()
        self._spool: Spool | None = None
        self._line: deque[tuple[Item, Outcome]] = deque()  # those that wait for their turn; the first may be under way
        self._open: set[Outcome] = set()
        self._work = asyncio.Event()
        self._again = asyncio.Event()  # another attempt may do better
        self._attempting = asyncio.Lock()
        self._keeping: asyncio.Future[None] | None = None  # the last append
        self._idle: list[asyncio.Future[None]] = []
        self._is_closed = False
        self._task = self._loop.create_task(self._run(), name=f"lane {name}")

    @property
    def waiting(self) -> int:
        """How many messages are spooled."""
        return 0 if self._spool is None else self._spool.count

    def send(self, item: Item) -> Outcome:
        """Take a message and return the future of what becomes of it. Whoever cancels it does not call it back."""
        if self._is_closed:
            raise NoBroker(f"{self.name}: the producer is closed")
        outcome: Outcome = self._loop.create_future()
        self._open.add(outcome)
        outcome.add_done_callback(self._open.discard)
        spool = self._spool
        if spool is None or self._line or not spool.count or (self.trouble is None and spool.count <= _NEAR):
            self._line.append((item, outcome))
        else:
            self._keep(spool, item, outcome)
        self._work.set()
        return outcome

    async def resume(self) -> None:
        """Open the spool, in which something was left, and begin to send it. Raises SpoolError."""
        spool = await self._opened()
        if spool.count and self.trouble is None:
            self.trouble = NoBroker(f"{self.name}: not sent yet, left by a process that ended")
        self._work.set()

    def try_again(self) -> None:
        """Do not wait any longer before the next attempt."""
        self._again.set()

    async def skip(self) -> Item | None:
        """Drop the first message that is spooled and return it; None: there is none."""
        spool = self._spool
        if spool is None:
            return None
        async with self._attempting:
            items = await spool.peek()
            if not items:
                return None
            await spool.drop()
            self._again.set()
            return unpack_item(items[0])

    async def flush(self) -> None:
        """Wait until each message is stored, or spooled, or its sender has an error."""
        while self._open:
            await asyncio.wait(list(self._open))

    async def idle(self) -> None:
        """Wait until nothing is spooled any more either, or the lane is closed."""
        if self._is_closed:
            return
        self._work.set()  # the task then says so
        waiter = self._loop.create_future()
        self._idle.append(waiter)
        await waiter

    async def close(self) -> None:
        """Stop. What waits, or may not be stored, is spooled: it is sent when a producer opens the spool again."""
        if self._is_closed:
            return
        self._is_closed = True
        self._task.cancel()
        await asyncio.wait([self._task])
        self._wake_idle()
        if self._line:
            await self._spool_all(NoBroker(f"{self.name}: the producer is closed"))
        await self.flush()

    # the task

    async def _run(self) -> None:
        try:
            while True:
                if self.waiting:
                    await self._send_spooled()
                elif self._line:
                    await self._send_first()
                else:
                    self._work.clear()
                    self._wake_idle()
                    await self._work.wait()
        except Exception as exc:
            log.exception("%s: stopped", self.name)
            self._is_closed = True
            while self._line:
                _settle(self._line.popleft()[1], ClientError(f"{self.name}: stopped: {exc!r}"))
            raise

    def _wake_idle(self) -> None:
        idle, self._idle = self._idle, []
        for waiter in idle:
            if not waiter.done():
                waiter.set_result(None)

    async def _send_first(self) -> None:
        """Put the first in line, while nothing is spooled."""
        item, outcome = self._line[0]
        try:
            receipt = await self._target.put(item, self._options.patience, self._options.timeout)
        except MetaqError as exc:
            if _is_final(exc) and not self._options.keep_refused:
                self._line.popleft()
                _settle(outcome, exc)
            else:
                self._note(exc)
                await self._spool_all(exc)
        else:
            self._line.popleft()
            self.sent += 1
            self._note(None)
            _settle(outcome, receipt)

    async def _send_spooled(self) -> None:
        """Put what is first in the spool; after an error wait before the next attempt."""
        spool = await self._opened()
        if self._keeping is not None and not self._keeping.done():
            await asyncio.wait([self._keeping])  # only what is durable can be seen
        self._again.clear()
        try:
            async with self._attempting:
                for data in await spool.peek(_BATCH):
                    await self._target.put(unpack_item(data), 0.0, self._options.timeout)
                    self.sent += 1
                    self._note(None)
                    spool.drop_nowait()
        except MetaqError as exc:
            self._note(exc)
            await self._spool_all(exc)
            await self._pause()

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(self._options.retry):
                await self._again.wait()
        except TimeoutError:
            pass

    def _note(self, error: MetaqError | None) -> None:
        """Tell once when messages begin to wait, and when that is over."""
        if error is None:
            if self.trouble is not None:
                log.info("%s: messages are sent again", self.name)
        elif _is_final(error) and str(error) != str(self.trouble):
            log.error("%s: nothing is sent until the broker takes this message, or it is skipped: %s", self.name, error)
        elif self.trouble is None:
            log.warning("%s: messages are kept on this machine: %s", self.name, error)
        self.trouble = error

    # spooling

    async def _opened(self) -> Spool:
        if self._spool is None:
            self._spool = await self._open_spool()
        return self._spool

    async def _spool_all(self, reason: MetaqError) -> None:
        """Move all that wait in line into the spool."""
        if not self._line:
            return
        try:
            spool = await self._opened()
        except SpoolError as exc:
            exc.__context__ = reason
            while self._line:
                _settle(self._line.popleft()[1], exc)
            return
        while self._line:
            self._keep(spool, *self._line.popleft())

    def _keep(self, spool: Spool, item: Item, outcome: Outcome) -> None:
        try:
            kept = self._keeping = spool.append_nowait(pack_item(item))
        except SpoolError as exc:
            exc.__context__ = self.trouble
            _settle(outcome, exc)
        else:
            kept.add_done_callback(partial(self._kept, outcome))

    def _kept(self, outcome: Outcome, kept: asyncio.Future[None]) -> None:
        error = kept.exception()
        if error is None:
            self.spooled += 1
        _settle(outcome, Spooled(str(self._target.partition)) if error is None else error)


def _is_final(error: MetaqError) -> bool:
    """Say whether a broker refused the message, and not because its partition is closed."""
    return isinstance(error, Refused) and error.status != Status.FORBIDDEN


def _settle(outcome: Outcome, result: Receipt | Spooled | BaseException) -> None:
    if outcome.done():
        return
    if isinstance(result, BaseException):
        outcome.set_exception(result)
    else:
        outcome.set_result(result)
