"""async_slave.properties as a slave reads it."""

import re
from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaq.config.slave import SlaveConfig, Sync, load, parse
from metaq.errors import ConfigError

PAGE: Final = Path(__file__).parents[3] / "docs" / "asynchronous-slave.md"
SEED: Final = Path(__file__).parents[2] / "data" / "seed"


def test_the_files_of_the_deployment_say_who_follows_how() -> None:
    hefei = parse((SEED / "async_slave.hefei.properties").read_bytes())
    guangzhou = parse((SEED / "async_slave.guangzhou.properties").read_bytes())
    assert (hefei.slave_id, hefei.slave_group) == (1, "meta-slave-group")
    assert (guangzhou.slave_id, guangzhou.slave_group) == (2, "meta-slave-group-gz")
    for each in (hefei, guangzhou):
        assert (each.max_delay, each.sync, each.warnings) == (0.5, Sync.TOPICS, ())


def test_the_file_of_the_documents_is_one() -> None:
    block = re.search("```properties\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert block is not None
    read = parse(block[1].encode("gbk"))
    assert (read.slave_id, read.slave_group, read.max_delay, read.sync) == (1, "meta-slave-group", 0.5, Sync.TOPICS)
    assert not read.warnings


def test_only_the_number_must_be_there() -> None:
    assert parse(b"slaveId=3", "x") == SlaveConfig(slave_id=3, slave_group="meta-slave-group_3", path="x")


def test_blank_values_count_as_not_set() -> None:
    text = b"slaveId= 4 \nslaveGroup=\nslaveMaxDelayInMills=\nautoSyncMasterConfig=\nsyncMasterConfig=\n"
    assert parse(text, "x") == SlaveConfig(slave_id=4, slave_group="meta-slave-group_4", path="x")


@pytest.mark.parametrize(
    ("text", "sync"),
    [
        ("autoSyncMasterConfig=true", Sync.TOPICS),
        ("autoSyncMasterConfig=TRUE\nsyncMasterConfig=all", Sync.ALL),
        ("syncMasterConfig=all", None),
        ("autoSyncMasterConfig=false\nsyncMasterConfig=topics", None),
    ],
)
def test_what_is_taken_over_from_the_master_is_an_option(text: str, sync: Sync | None) -> None:
    assert parse(f"slaveId=0\n{text}".encode()).sync is sync


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "f: slaveId must be set: a number from 0 on, another one for each slave of the same master"),
        ("slaveId=-1", "f: slaveId=-1: must be between 0 and 2147483647; "),
        ("slaveId=one", "f: slaveId=one: is no number; "),
        ("slaveId=1_0", "f: slaveId=1_0: is no number; "),
        ("slaveId=1\nslaveMaxDelayInMills=0", "f: slaveMaxDelayInMills=0: must be between 1 and 2147483647; "),
        ("slaveId=1\nsyncMasterConfig=some", "f: syncMasterConfig=some: write topics "),
        ("slaveId=\\u12", r"f:1: slaveId=\u12: "),
    ],
)
def test_a_mistake_is_named_with_what_would_be_right(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text.encode(), "f")
    assert str(caught.value).startswith(message)


def test_unknown_keys_and_odd_words_are_told_and_passed_over() -> None:
    read = parse(b"slaveID=2\nslaveId=1\nautoSyncMasterConfig=yes\n", "f")
    assert (read.slave_id, read.sync) == (1, None)
    assert read.warnings == (
        "f: slaveID: no such key, it is passed over; did you mean slaveId?",
        "f: autoSyncMasterConfig=yes: read as false; write true or false",
    )


def test_a_file_that_is_not_there_is_named_with_what_it_is_for(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone: cannot be read: .*; a slave needs it, with slaveId=NUMBER"):
        load(str(tmp_path / "gone"))


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with suppress(ConfigError):
        assert parse(data).slave_id >= 0
