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
    """A registry that serves at `port`, until its disk fails: then nobody is answered any more."""

    def __init__(self, port: int, failure: "asyncio.Future[StoreError]") -> None:
        self.port = port
        self._failure = failure

    async def failed(self) -> StoreError:
        """Return once the disk has failed, with what it said."""
        return await asyncio.shield(self._failure)


@asynccontextmanager
async def running_registry(
    place: str, host: str | None, port: int, world: World, options: RegistryOptions = _DEFAULTS
) -> AsyncIterator[RunningRegistry]:
    """Serve the registry in the folder `place`, which is made if it is missing; host None: at all addresses.

    Raises StoreLocked if another process has the folder, CorruptStore, StoreError if the disk failed, OSError if the
    port is taken.
    """
    failure: asyncio.Future[StoreError] = asyncio.get_running_loop().create_future()
    state, changes = open_registry(place, world)
    try:
        server = Server(state, changes, world, options)

        def fail(error: StoreError) -> None:
            log.critical("%s", error)
            server.fail()
            failure.set_result(error)

        changes.failed = fail
        try:
            bound = await server.listen(host, port)
            log.info("the registry in %s serves port %d", place, bound)
            yield RunningRegistry(bound, failure)
        finally:
            await server.close()
    finally:
        await changes.close()
        failure.cancel()
