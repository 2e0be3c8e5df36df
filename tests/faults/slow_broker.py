"""A broker whose disk writes so many bytes per second: `python -m tests.faults.slow_broker SERVER.INI RATE`.

Says `ready` and ends on SIGTERM as `metaq server run` does. Every write takes its time in the thread that asked for it.
"""

import asyncio
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import uvloop

from metaq import app
from metaq.config.broker import parse
from metaq.files import OsFiles


class SlowFiles(OsFiles):
    """Files on a disk that writes `rate` bytes per second in each thread."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self._rate = rate

    def pwrite(self, fd: int, data: bytes | bytearray | memoryview, position: int) -> None:
        self._wait(len(data))
        super().pwrite(fd, data, position)

    def pwrite_durable(self, fd: int, data: bytes, position: int) -> None:
        self._wait(len(data))
        super().pwrite_durable(fd, data, position)

    def pwrite_all(self, fd: int, parts: Sequence[bytes | memoryview], position: int) -> None:
        self._wait(sum(map(len, parts)))
        super().pwrite_all(fd, parts, position)

    def _wait(self, size: int) -> None:
        time.sleep(size / self._rate)


async def main(path: str, rate: float) -> None:
    config = parse(Path(path).read_bytes(), path)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    world = replace(app.real_world(), files=SlowFiles(rate))

    def ready(running: app.RunningBroker) -> None:
        print(f"ready meta://{running.address} port={running.port}", flush=True)

    await app.run(config, ready=ready, stop=stop, world=world)


if __name__ == "__main__":
    app.tune_process()
    uvloop.run(main(sys.argv[1], float(sys.argv[2])))
