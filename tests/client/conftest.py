"""Fixtures: a scripted broker, and a client of it whose waits are short."""

from collections.abc import AsyncIterator

import pytest

import metaq.aio
from metaq.net.link import LinkOptions
from tests.client.fake_broker import FakeBroker

QUICK = LinkOptions(connect_timeout=2.0, first_delay=0.002, longest_delay=0.02)


@pytest.fixture
async def broker() -> AsyncIterator[FakeBroker]:
    async with FakeBroker() as fake:
        yield fake


@pytest.fixture
async def mq(broker: FakeBroker) -> AsyncIterator[metaq.aio.MessageQueue]:
    client = await metaq.aio.connect(broker.url, link=QUICK, timeout=0.5)
    yield client
    await client.close()


__all__ = ["QUICK", "broker", "mq"]
