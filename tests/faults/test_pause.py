"""A broker that stands still for longer than its session with ZooKeeper lasts, and then goes on as if nothing was."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import metaq.aio
from metaq.aio import LinkClosed, NoBroker, Refused, RequestTimeout
from metaq.cluster.paths import Paths
from metaq.cluster.zk import ZooKeeperClient
from tests.client.conftest import QUICK
from tests.embedding import configured, settings
from tests.faults.conftest import Launch

PATIENCE = 20.0  # seconds
PATHS = Paths("/meta")
MASTER = PATHS.broker_address(0)
TOPIC = f"{PATHS.publish('test')}/0-m"


async def until(condition: Callable[[], bool] | Callable[[], Awaitable[bool]]) -> None:
    """Return when a condition holds."""
    async with asyncio.timeout(PATIENCE):
        while True:
            found = condition()
            if found if isinstance(found, bool) else await found:
                return
            await asyncio.sleep(0.01)


async def send_on(mq: metaq.aio.MessageQueue, acknowledged: set[bytes], stop: asyncio.Event) -> None:
    """Send one message after the other; what cannot be sent now is given up, and the next one is tried."""
    producer = mq.producer("test", timeout=0.5)
    number = 0
    while not stop.is_set():
        body = b"%d" % number
        number += 1
        try:
            await producer.send(body)
        except (LinkClosed, NoBroker, Refused, RequestTimeout):
            await asyncio.sleep(0.01)
        else:
            acknowledged.add(body)


async def read_on(mq: metaq.aio.MessageQueue, received: set[bytes]) -> None:
    async for message in mq.consumer("test", group="g", start="earliest"):
        received.add(message.data)


async def test_a_broker_that_stands_still_for_longer_than_its_session_registers_again_and_all_go_on(
    launch: Launch, tmp_path: Path, zk: str
) -> None:
    session = {"zk.zkEnable": "true", "zk.zkConnect": zk, "zk.zkSessionTimeoutMs": 600}
    configured(tmp_path, settings(tmp_path, zookeeper=session))
    broker = await launch()
    watcher = ZooKeeperClient(zk)
    await watcher.connect(PATIENCE)
    acknowledged: set[bytes] = set()
    received: set[bytes] = set()
    stop = asyncio.Event()

    async def registered() -> bool:
        return None not in (await watcher.get(MASTER), await watcher.get(TOPIC))

    async def gone() -> bool:
        return await watcher.get(MASTER) is None and await watcher.get(TOPIC) is None

    async with metaq.aio.connect(f"zk://{zk}/meta", link=QUICK) as mq:
        sending = asyncio.ensure_future(send_on(mq, acknowledged, stop))
        reading = asyncio.ensure_future(read_on(mq, received))
        try:
            await until(lambda: len(acknowledged) > 20 and len(received) > 20)
            os.kill(broker.pid, signal.SIGSTOP)
            await until(gone)
            before = len(acknowledged)
            os.kill(broker.pid, signal.SIGCONT)
            await until(registered)
            await until(lambda: len(acknowledged) > before + 20)
            stop.set()
            await sending
            await until(lambda: received >= acknowledged)
        finally:
            sending.cancel()
            reading.cancel()
            await asyncio.gather(sending, reading, return_exceptions=True)
    await watcher.close()
    assert await broker.stop() == 0, broker.words()
    words = broker.words()
    assert "session" in words
    assert "Traceback" not in words
