"""A registry as a process of its own, so that it can be killed: `python -m tests.faults.serve_registry FOLDER`.

Says `ready PORT` when it serves; SIGTERM ends it in order. Small files and many snapshots, so that a kill meets them.
"""

import asyncio
import signal
import sys

from metaq.app import real_world
from metaq.registry.log import LogOptions
from metaq.registry.opening import open_registry
from metaq.registry.options import RegistryOptions
from metaq.registry.server import Server


async def serve(place: str) -> None:
    end = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end.set)
    world = real_world()
    state, log = open_registry(place, world, LogOptions(file_size=65_536, snapshot_after=200_000))
    try:
        server = Server(state, log, world, RegistryOptions())
        print("ready", await server.listen("127.0.0.1", 0), flush=True)
        await end.wait()
        await server.close()
    finally:
        await log.close()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
