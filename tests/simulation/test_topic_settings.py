"""What a section [topic=NAME] sets, and what a reload of it does to partitions that exist, in virtual time."""

import asyncio
from typing import Final

from metaq.config.broker import parse
from metaq.config.model import BrokerConfig
from tests.embedding import settings
from tests.simulation.test_whole_broker import BROKER, HOUR, machine_of, play, put, serving
from tests.simulation.world import World

INI: Final = "/srv/server.ini"
NEVER: Final = "deletePolicy=delete,9999\ndeleteWhen=0 0 0 1 1 ? 2099\n"
EACH_MINUTE: Final = "deletePolicy=delete,2\ndeleteWhen=0 * * * * ?\n"


def written(world: World, topics: str) -> BrokerConfig:
    """Write the server.ini with these topics and return what it means."""
    system = {"serverPort": 8123, "hostName": BROKER, "maxSegmentSize": 100}
    text = settings("/srv", system, {"bindAddress": BROKER, "journalFileSize": 1 << 16}, topics=topics).encode()
    disk = machine_of(world).disk
    fd = disk.open(INI, write=True, create=True)
    disk.truncate(fd, 0)
    disk.pwrite(fd, text, 0)
    disk.close(fd)
    return parse(text, INI)


def test_retention_of_a_topic_is_its_own_and_a_reload_of_it_reaches_partitions_that_exist() -> None:
    async def scene(world: World) -> None:
        before = written(world, f"[topic=test]\n{NEVER}[topic=quick]\n{NEVER}")
        async with serving(world, before) as (broker, dial):
            peer = await dial()
            for topic in (b"test", b"quick"):
                for _ in range(10):
                    await put(peer, b"x" * 30, topic)
            await asyncio.sleep(130)  # until all of it is in the partition files
            machine_of(world).clock.set_back(-3 * HOUR)
            await asyncio.sleep(130)
            assert (await peer.asks(b"get test g 0 0 100 1\r\n")).startswith(b"value 100 ")
            written(world, f"[topic=test]\n{EACH_MINUTE}[topic=quick]\n{NEVER}")
            await broker.running.reload()
            await asyncio.sleep(130)
            assert (await peer.asks(b"get test g 0 0 100 1\r\n")).startswith(b"result 301 ")
            assert (await peer.asks(b"get quick g 0 0 100 1\r\n")).startswith(b"value 100 ")

    play(scene)


def test_the_number_of_partitions_of_a_topic_is_its_own_and_those_beyond_a_smaller_one_stay_readable() -> None:
    async def scene(world: World) -> None:
        before = written(world, "[topic=test]\nnumPartitions=6\n[topic=quick]\n")
        async with serving(world, before) as (broker, dial):
            peer = await dial()
            send = b"put test 5 5 0 -1 1\r\nhello"
            assert (await peer.asks(send)).startswith(b"result 200 ")
            assert b"wrong partition 6" in await peer.asks(b"put test 6 5 0 -1 1\r\nhello")
            assert b"wrong partition 5" in await peer.asks(b"put quick 5 5 0 -1 1\r\nhello")
            written(world, "[topic=test]\nnumPartitions=2\n[topic=quick]\n")
            await broker.running.reload()
            assert b"wrong partition 5" in await peer.asks(send)
            assert (await peer.asks(b"get test g 5 0 100 1\r\n")).startswith(b"value 25 ")

    play(scene)
