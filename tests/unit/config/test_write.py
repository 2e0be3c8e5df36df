"""The server.ini of a new home reads back as what was asked for."""

from pathlib import Path

import pytest

from metaq.config.broker import parse
from metaq.config.write import Draft, server_ini

ENV = {"HOME": "/home/meta"}


@pytest.mark.parametrize(
    "draft",
    [
        Draft(),
        Draft(
            broker_id=7,
            server_port=0,
            topics=("orders", "a*", "主题"),
            num_partitions=16,
            zookeeper="a:1,b:2/c",
            data_path="/var/lib/métà \\q",
            host_name="h.example",
            bind_address="127.0.0.1",
            synced=False,
        ),
        Draft(zookeeper=None),
    ],
)
def test_it_reads_back_as_it_was_drafted(draft: Draft) -> None:
    text = server_ini(draft)
    assert text.isascii()
    config = parse(text.encode(), "conf/server.ini", env=ENV, is_dir=lambda path: False)
    assert config.warnings == ()
    assert (config.broker_id, config.server_port) == (draft.broker_id, draft.server_port)
    assert tuple(topic.name for topic in config.topics) == tuple(draft.topics)
    assert config.defaults.num_partitions == draft.num_partitions
    assert (config.defaults.unflush_threshold <= 0) is draft.synced
    assert config.zookeeper.enable is (draft.zookeeper is not None)
    assert config.zookeeper.connect == draft.zookeeper or draft.zookeeper is None
    assert config.data_path == (draft.data_path or "/home/meta/meta")
    assert (config.host_name, config.bind_address) == (draft.host_name, draft.bind_address)


def test_it_is_commented_and_fits_a_terminal() -> None:
    lines = server_ini(Draft()).splitlines()
    assert max(map(len, lines)) <= 80
    assert sum(line.startswith(";") for line in lines) >= 15


def test_it_can_be_written_and_loaded_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "server.ini"
    file.write_text(server_ini(Draft(data_path=str(tmp_path / "data"))), "ascii")
    assert parse(file.read_bytes(), str(file)).data_log_path == str(tmp_path / "data")
