"""A registry from a folder: opened, served, closed in order (style.md habit 10)."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from metaq.errors import StoreError
from metaq.ports import World
from metaq.registry.opening import open_registry
from metaq.registry.options import RegistryOptions
from metaq.registry.server import Server

log = logging.getLogger(__name__)

_DEFAULTS: Final = RegistryOptions()


class RunningRegistry:
    """A registry that serves at `port`, until it is closed or its disk fails: then nobody is answered any more."""

    def __init__(self, place: str, world: World, options: RegistryOptions) -> None:
        """Open the folder `place`, which is made if it is missing. Blocks.

        Raises StoreLocked if another process has it, CorruptStore, OSError.
        """
        self._failure: asyncio.Future[StoreError] = asyncio.get_running_loop().create_future()
        self._place = place
        state, self._log = open_registry(place, world)
        self._log.failed = self._fail
        self._server = Server(state, self._log, world, options)
        self.port = 0

    async def listen(self, host: str | None, port: int) -> None:
        """Accept connections; host None: at all addresses, port 0: any free one. OSError if it is taken."""
        self.port = await self._server.listen(host, port)
        log.info("the registry in %s serves port %d", self._place, self.port)

    async def failed(self) -> StoreError:
        """Return once the disk has failed, with what it said."""
        return await asyncio.shield(self._failure)

    async def close(self) -> None:
        """Answer what was asked, close all connections, make all durable. Raises StoreError if the disk has failed."""
        try:
            await self._server.close()
        finally:
            await self._log.close()

    def _fail(self, error: StoreError) -> None:
        log.critical("%s", error)
        self._server.fail()
        self._failure.set_result(error)


@asynccontextmanager
async def running_registry(
    place: str, host: str | None, port: int, world: World, options: RegistryOptions = _DEFAULTS
) -> AsyncIterator[RunningRegistry]:
    """Serve the registry in the folder `place`; raises what RunningRegistry raises."""
    registry = RunningRegistry(place, world, options)
    try:
        await registry.listen(host, port)
        yield registry
    finally:
        await registry.close()
