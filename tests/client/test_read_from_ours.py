"""Reading from a slave of ours that copies by itself: it is stopped and started while messages come."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest

from metaq import aio
from tests.client.conftest import QUICK
from tests.cluster.conftest import until
from tests.copies import Pair

COUNT: Final = 60  # messages of each of three parts


@pytest.fixture
async def pair(tmp_path: Path, zk: str) -> AsyncIterator[Pair]:
    made = Pair(tmp_path, zk)
    try:
        yield await made.start()
    finally:
        await made.end()


async def test_messages_come_once_and_in_order_while_the_slave_goes_and_returns(pair: Pair) -> None:
    async with aio.connect(pair.url, link=QUICK) as mq, asyncio.timeout(30):
        producer = mq.producer("test")
        consumer = mq.consumer("test", group="g", read_from="slave:2", max_lag=1.0)

        async def through(part: int) -> list[bytes]:
            """Send the messages of a part, and return what is received meanwhile."""
            sent = [b"%d" % number for number in range(part * COUNT, (part + 1) * COUNT)]
            sending = asyncio.ensure_future(producer.send_many(sent))
            got = [(await anext(consumer)).data for _ in range(COUNT)]
            await sending
            return got

        got = await through(0)
        first = pair.slave
        assert pair.gets(first)
        await first.end()
        got += await through(1)
        await pair.restart_slave()
        await pair.copied()
        await until(lambda: pair.gets(pair.slave) > 0)
        got += await through(2)
        assert got == [b"%d" % number for number in range(3 * COUNT)]
