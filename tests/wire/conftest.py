"""Fixtures for conversations with a live broker."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from metaq.ports import World
from tests.embedding import NOTHING, TOPICS, Dial, Serving, Settings, configured, serving, settings


class Serve:
    """Starts a broker with settings of its own: `broker = await serve(system={"maxTransferSize": 1000})`."""

    def __init__(self, folder: Path, stack: AsyncExitStack) -> None:
        self._folder = folder
        self._stack = stack

    async def __call__(
        self, system: Settings = NOTHING, pymetaq: Settings = NOTHING, topics: str = TOPICS, world: World | None = None
    ) -> Serving:
        config = configured(self._folder, settings(self._folder, system, pymetaq, topics=topics))
        return await self._stack.enter_async_context(serving(config, world))

    async def dial(self, broker: Serving) -> Dial:
        """Return what dials this broker."""
        dial = Dial(broker.port)
        self._stack.push_async_callback(dial.end)
        return dial


@pytest.fixture
async def serve(folder: Path) -> AsyncIterator[Serve]:
    """Start a broker with other settings than those of `broker`; see Serve."""
    async with AsyncExitStack() as stack:
        yield Serve(folder, stack)


@pytest.fixture
async def broker(serve: Serve) -> Serving:
    """A live broker on a free port: id 0, topics test (4 partitions, synced), quick (not synced), wild*."""
    return await serve()


@pytest.fixture
async def dial(serve: Serve, broker: Serving) -> Dial:
    """Connect to `broker`: `peer = await dial()`."""
    return await serve.dial(broker)
