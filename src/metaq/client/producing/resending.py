"""Sending again, in the background, what a one-way producer put on disk."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final

from metaq.client.directory import Changes
from metaq.client.producer import Producer
from metaq.client.producing.items import unpack_item
from metaq.client.producing.options import OneWayOptions
from metaq.client.sending import Answer
from metaq.client.spool import Spool
from metaq.errors import MetaqError, NoBroker, Refused

log = logging.getLogger(__name__)

_BATCH: Final = 256  # messages under way at once
_REFUSED: Final = 10  # messages in a row that a broker refuses, until it is left alone for a while


class Resending:
    """Empties spools, in no particular order: a message that is refused goes to the end of its spool."""

    def __init__(self, core: Producer, spools: Sequence[Spool], changes: Changes, options: OneWayOptions) -> None:
        self.sent = 0
        self._core = core
        self._spools = spools
        self._changes = changes
        self._options = options
        self._loop = asyncio.get_running_loop()
        self._work = asyncio.Event()
        self._idle: list[asyncio.Future[None]] = []
        self._answered: Callable[[], None] = lambda: None
        self._task: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """How many messages there are."""
        return sum(spool.count for spool in self._spools)

    def begin(self, answered: Callable[[], None]) -> None:
        """Begin; `answered` is called whenever a broker has taken or refused a message, or nothing is left."""
        self._answered = answered
        self._task = self._loop.create_task(self._run(), name=f"resending to {self._core.topic}")

    def wake(self) -> None:
        """There is something to send."""
        self._work.set()

    async def idle(self) -> None:
        """Wait until nothing is left, or it is closed."""
        if self._task is None or self._task.done():
            return
        self._work.set()
        waiter = self._loop.create_future()
        self._idle.append(waiter)
        await waiter

    async def close(self) -> None:
        """Stop. What is under way stays in its spool."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        self._wake_idle()

    def _wake_idle(self) -> None:
        idle, self._idle = self._idle, []
        for waiter in idle:
            if not waiter.done():
                waiter.set_result(None)

    async def _run(self) -> None:
        while True:
            self._work.clear()
            seen = self._changes.generation
            goes_well = True
            for spool in self._spools:
                try:
                    goes_well = await self._empty(spool) and goes_well
                except MetaqError as exc:
                    log.warning("%s: messages stay on this machine: %s", self._core.topic, exc)
                    goes_well = False
            if not goes_well:
                await self._changes.wait(seen, self._options.retry)
                continue
            if not self.waiting:
                self._answered()
                self._wake_idle()
            await self._work.wait()

    async def _empty(self, spool: Spool) -> bool:
        """Send what is in a spool; False as soon as that makes no sense for now."""
        number, refused = 1, 0
        while items := await spool.peek(number):
            outcomes = await self._send(items)
            failed = [data for data, error in zip(items, outcomes, strict=True) if error is not None]
            answered = len(items) - sum(not isinstance(error, Refused | None) for error in outcomes)
            if not answered:
                return False
            self._answered()
            await asyncio.gather(*(spool.append_nowait(data, beyond=True) for data in failed))
            await spool.drop(len(items))
            self.sent += len(items) - len(failed)
            refused = refused + len(failed) if len(failed) == len(items) else 0
            if answered < len(items) or refused >= _REFUSED:
                return False
            number = 1 if failed else _BATCH
        return True

    async def _send(self, items: list[bytes]) -> list[MetaqError | None]:
        """Send messages; return what went wrong with each."""
        outcomes = [Answer(loop=self._loop) for _ in items]
        gone: MetaqError | None = None  # nobody is there to take the rest
        for sent, data in zip(outcomes, items, strict=True):
            if gone is None:
                try:
                    async with asyncio.timeout(self._options.patience):
                        await self._core.send_to(sent, *unpack_item(data), self._options.timeout)
                    continue
                except MetaqError as exc:
                    gone = exc
                except TimeoutError:
                    gone = NoBroker(f"{self._core.topic}: no connection within {self._options.patience:g} s")
            sent.failed(0, gone)
        await asyncio.wait(outcomes)
        found: list[MetaqError | None] = []
        for sent in outcomes:
            error = sent.exception()
            assert error is None or isinstance(error, MetaqError)
            found.append(error)
        return found
