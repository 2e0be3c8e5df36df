"""What the roles of a pair make of a configuration, and what they tell people, by a command."""

import asyncio
from pathlib import Path

import pytest

from metaq import app
from metaq.config.broker import parse
from metaq.config.pair import SamsaConfig
from metaq.errors import ConfigError
from metaq.replication.pair.notify import run_command
from metaq.replication.pair.roles import SamsaRole, gregor_from_file, samsa_from_file
from tests.embedding import configured, settings


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere: cannot be read: .*slave=HOST:PORT"):
        samsa_from_file(str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match=r"nowhere: cannot be read: .*may be empty"):
        gregor_from_file(str(tmp_path / "nowhere"))


def test_a_broker_is_not_its_own_slave(tmp_path: Path) -> None:
    config = parse(settings(tmp_path, {"serverPort": 8123}).encode(), "server.ini")
    pair = SamsaConfig(slave_host="localhost", slave_port=8123, path="samsa_master.properties")
    with pytest.raises(ConfigError, match="slave=localhost:8123: that is this broker"):
        SamsaRole(pair).configure(config)


async def test_a_slave_leaves_zookeeper_to_its_master(tmp_path: Path) -> None:
    (tmp_path / "gregor_slave.properties").write_bytes(b"")
    text = settings(tmp_path, zookeeper={"zk.zkEnable": "true", "zk.zkConnect": "127.0.0.1:1"})
    stop = asyncio.Event()
    running: list[app.RunningBroker] = []

    def ready(broker: app.RunningBroker) -> None:
        running.append(broker)
        stop.set()

    role = gregor_from_file(str(tmp_path / "gregor_slave.properties"))
    await app.run(configured(tmp_path, text), ready=ready, stop=stop, role=role)
    assert len(running) == 1, "it looked for ZooKeeper, and did not find it"


async def test_a_command_gets_its_words_as_they_are_and_what_fails_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await run_command(["/bin/sh", "-c", f'echo "$1" > {tmp_path}/told', "hook", "a word; with $HOME"])
    assert (tmp_path / "told").read_text() == "a word; with $HOME\n"
    await run_command(["/bin/sh", "-c", "exit 3"])
    await run_command(["/nowhere/at/all"])
    await run_command(["/bin/sh", "-c", "exec sleep 60"], timeout=0.1)
    ended, missing, late = (record.getMessage() for record in caplog.records)
    assert ended == "notifyCommand: /bin/sh ended with 3"
    assert missing.startswith("notifyCommand: /nowhere/at/all cannot be run")
    assert late == "notifyCommand: /bin/sh is killed, it runs longer than 0.1 s"
