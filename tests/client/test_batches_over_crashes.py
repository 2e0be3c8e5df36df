"""A producer under load whose broker is killed again and again: each message once, in order."""

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path

import metaq.aio
from tests.client.conftest import QUICK
from tests.embedding import configured, settings

MESSAGES = 30_000


async def started(config: Path) -> asyncio.subprocess.Process:
    """Return a broker in a process of its own, once it listens."""
    command = [sys.executable, "-m", "metaq", "server", "run", "-f", str(config)]
    environment = {**os.environ, "PYTHONPATH": str(Path(metaq.__file__).parent.parent)}
    return await asyncio.create_subprocess_exec(
        *command, env=environment, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def test_a_killed_broker_has_each_message_once_and_in_order(tmp_path: Path) -> None:
    port = free_port()
    configured(tmp_path, settings(tmp_path, {"serverPort": port}))
    broker = await started(tmp_path / "server.ini")
    try:
        async with metaq.aio.connect(f"metaq://127.0.0.1:{port}", link=QUICK, connect_timeout=20.0) as mq:
            producer = mq.producer("test", timeout=60.0, in_flight=5_000)

            sent: list[metaq.aio.Sent] = []

            async def send() -> None:
                for n in range(MESSAGES):
                    sent.append(await producer.send_nowait(b"%d" % n, partition=n % 4))
                    if not n % 100:
                        await asyncio.sleep(0.001)

            sending = asyncio.ensure_future(send())
            for share in (1, 2):
                while len(sent) <= share * MESSAGES // 4 or not sent[share * MESSAGES // 4].done():
                    await asyncio.sleep(0.002)
                broker.send_signal(signal.SIGKILL)
                await broker.wait()
                broker = await started(tmp_path / "server.ini")
            async with asyncio.timeout(60):
                await sending
                receipts = [await each for each in sent]
            found: dict[str, list[int]] = {}
            async for message in mq.browse("test"):
                found.setdefault(message.partition, []).append(int(message.data))
                receipt = receipts[int(message.data)]
                assert (receipt.id, receipt.partition, receipt.offset) == (
                    message.id,
                    message.partition,
                    message.offset,
                )
            assert found == {f"0-{p}": list(range(p, MESSAGES, 4)) for p in range(4)}
    finally:
        if broker.returncode is None:
            broker.kill()
            await broker.wait()
