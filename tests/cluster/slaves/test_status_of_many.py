"""Whoever asks a slave of 50,000 partitions how it is does not hold it up."""

import asyncio
import json
from pathlib import Path

from metaq.admin.control import ControlServer
from metaq.app import real_world
from metaq.cli.run import Operator
from metaq.config.slave import SlaveConfig
from metaq.model import BrokerAddress
from metaq.replication.slave import Slave
from tests.embedding import configured, serving, settings
from tests.pauses import Pauses

COUNT = 50_000
PROMISED = 0.050  # seconds


async def test_a_slave_says_how_it_is_with_each_of_50000_partitions_a_few_at_a_time(
    folder: Path, pauses: Pauses
) -> None:
    config = configured(folder, settings(folder, {}))
    async with serving(config) as serves:
        slave = Slave(SlaveConfig(slave_id=1, slave_group="slaves"))
        slave.join(serves.running.broker, real_world())
        assert slave._follower is not None
        slave._follower.follow(BrokerAddress("127.0.0.1", 9), {f"t{n}": 50 for n in range(COUNT // 50)})
        control = ControlServer(str(folder / "control"), Operator(config, broker=serves.running))
        await control.open()
        reader, writer = await asyncio.open_unix_connection(str(folder / "control"), limit=1 << 26)
        try:
            with pauses.below(PROMISED, "`stats slave`"):
                lines = (await serves.running.broker.stats("slave")).count(b"\r\n")
            with pauses.below(PROMISED, "`stats`"):
                assert b"slave_lag_bytes 0\r\n" in await serves.running.broker.stats("")
            with pauses.below(PROMISED, "`slave-status`"):
                writer.write(b'{"command": "slave-status"}\n')
                reply = await reader.readuntil(b"\n")
        finally:
            writer.close()
            await control.close()
    assert lines == len(["STATS", "END"]) + len(slave.status().summary()) + COUNT
    told = json.loads(reply)
    assert told["ok"] is True
    assert [(each["topic"], each["partition"]) for each in told["partitions"]] == sorted(
        (f"t{n}", p) for n in range(COUNT // 50) for p in range(50)
    )
