"""Whether the slave of a pair is well: failures are counted, the master leaves ZooKeeper and comes back, people hear.

One task does what is wanted, so that nothing is done twice; what fails is tried again for ever.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

from metaq.config.pair import SamsaConfig
from metaq.errors import RegistryError

log_ = logging.getLogger(__name__)


WORDS: Final = ("slave-lost", "slave-back", "unregistered", "registered")


class Notify(Protocol):
    """Runs a command; it may take its time, and must not raise."""

    def __call__(self, command: Sequence[str], /) -> Awaitable[None]: ...


async def nobody() -> None:
    """Do nothing: there is no registration."""


class Health:
    """Counts copies that failed in a row. `events` counts what was told, by its word (see WORDS)."""

    def __init__(self, config: SamsaConfig, slave: str) -> None:
        self.failures = 0
        self.failed_copies = 0
        self.events: dict[str, int] = {}
        self.register: Callable[[], Awaitable[None]] = nobody
        self.withdraw: Callable[[], Awaitable[None]] = nobody
        self.notify: Notify | None = None
        self.registered = True  # whoever starts the broker registers it first
        self._config = config
        self._slave = slave
        self._wanted = True
        self._well = False
        self._changed = asyncio.Event()
        self._told: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        self._lost = False
        self._counted = 0.0  # when a put that was refused counted last

    def failed(self, reason: str) -> None:
        """Hear that a copy failed."""
        self.failures += 1
        self.failed_copies += 1
        if self.failures < self._config.failure_threshold:
            return
        self.failures = 0
        if self._wanted:
            self._wanted = False
            log_.error("%s: %d copies failed in a row, the broker leaves ZooKeeper until its slave is well: %s",
                self._slave, self._config.failure_threshold, reason)  # fmt: skip
            self._changed.set()

    def refused(self, reason: str) -> None:
        """Hear that a put was refused since the slave is not well: counted now and then, as one that was tried.

        Each for itself would end the registration at once where producers are many and a connection is made anew.
        """
        now = asyncio.get_running_loop().time()
        if now - self._counted >= self._config.check_interval:
            self._counted = now
            self.failed(reason)

    def succeeded(self) -> None:
        """Hear that the slave has a copy."""
        self.failures = 0

    def connected(self, connected: bool) -> None:
        """Hear that the slave is there, or gone."""
        if not connected and not self._lost:
            self._lost = True
            log_.error("%s: the slave is gone, puts are refused until it is back", self._slave)
            self._tell("slave-lost", "there is no connection")

    def set_well(self, well: bool) -> None:
        """Hear whether the slave has all that it can have."""
        if well and not self._well:
            self.failures = 0
            log_.info("%s: the slave has all there is", self._slave)
            if self._lost:
                self._lost = False
                self._tell("slave-back", "it has all there is")
        self._well = well
        if well and not self._wanted:
            self._wanted = True
            self._changed.set()

    async def run(self) -> None:
        """Do what is wanted until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_registered(), name="registration of the pair")
            tasks.create_task(self._tell_people(), name="notices of the pair")

    async def _keep_registered(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            wanted = self._wanted
            if wanted == self.registered:
                continue
            try:
                await (self.register() if wanted else self.withdraw())
            except RegistryError as exc:
                log_.warning("%s: trying again: %s", "registering" if wanted else "withdrawing", exc)
                self._changed.set()
                await asyncio.sleep(self._config.check_interval)
                continue
            self.registered = wanted
            if wanted:
                self._tell("registered", "the slave is well")
            else:
                self._tell("unregistered", f"{self._config.failure_threshold} copies failed in a row")
            self._changed.set()  # it may have changed meanwhile

    def _tell(self, event: str, text: str) -> None:
        self.events[event] = self.events.get(event, 0) + 1
        self._told.put_nowait((event, text))

    async def _tell_people(self) -> None:
        """Run the command for each event, one after the other, in the order in which they came."""
        while True:
            event, text = await self._told.get()
            if self.notify is not None and self._config.notify_command:
                await self.notify([*self._config.notify_command, event, self._slave, text])
