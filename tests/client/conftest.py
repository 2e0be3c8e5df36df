"""Fixtures: a scripted broker, and a client of it whose waits are short."""

from collections.abc import AsyncIterator, Iterator

import pytest

import metaq.aio
from metaq.client.background import LoopThread
from metaq.net.link import LinkOptions
from tests.client.fake_broker import FakeBroker

QUICK = LinkOptions(connect_timeout=2.0, first_delay=0.002, longest_delay=0.02)


@pytest.fixture
async def broker() -> AsyncIterator[FakeBroker]:
    async with FakeBroker() as fake:
        yield fake


@pytest.fixture
def fake() -> Iterator[FakeBroker]:
    """A scripted broker in a thread of its own."""
    thread = LoopThread()
    broker = thread.make(FakeBroker)
    thread.call(broker.start())
    yield broker
    thread.call(broker.stop())
    thread.close()


@pytest.fixture
async def mq(broker: FakeBroker) -> AsyncIterator[metaq.aio.MessageQueue]:
    client = await metaq.aio.connect(broker.url, link=QUICK, timeout=0.5)
    yield client
    await client.close()


__all__ = ["QUICK", "broker", "fake", "mq"]
