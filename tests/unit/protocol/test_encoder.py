"""What the encoder refuses, and its quick forms."""

import pytest

from metaq.errors import Status
from metaq.model import TopicPartition
from metaq.protocol.commands import (
    Command,
    Get,
    Offset,
    Operation,
    Oversized,
    Put,
    Result,
    Stats,
    Sync,
    Transaction,
    Value,
    Version,
)
from metaq.protocol.encoder import encode, put_head, put_reply, result, value_head
from metaq.txid import NULL, LocalId

HERE = TopicPartition("test", 0)


def at(topic: str, partition: int = 0) -> TopicPartition:
    return TopicPartition(topic, partition)


@pytest.mark.parametrize("bad", ["", "a b", "a\rb", "a\nb", "\ud800"])
def test_a_token_that_could_not_be_read_back_is_refused(bad: str) -> None:
    commands: list[Command] = [
        Put(at(bad), b"", 0, -1, 1),
        Put(HERE, b"", 0, -1, 1, LocalId(f"{bad or ' '}", 1)),
        Sync(at(bad), b"", 0, 1, -1, 1),
        Get(at(bad), "g", 0, 1, 1),
        Get(HERE, bad, 0, 1, 1),
        Offset(HERE, bad, 0, 1),
        Version(1, (bad,)),
        Transaction(NULL, bad, Operation.RECOVER, 0, None, 1),
        Transaction(NULL, "s", Operation.RECOVER, 0, bad, 1),
    ]
    if bad:
        commands.append(Stats(bad, 1))
    for command in commands:
        with pytest.raises(ValueError):
            encode(command)


@pytest.mark.parametrize("qualifier", ["30", "７", "a:b"])
def test_a_qualifier_that_would_be_read_as_something_else_is_refused(qualifier: str) -> None:
    with pytest.raises(ValueError, match="would be read as something else"):
        encode(Transaction(NULL, "s", Operation.RECOVER, 0, qualifier, 1))


@pytest.mark.parametrize(
    "command",
    [
        Put(HERE, b"", 1 << 31, -1, 1),
        Put(HERE, b"", 0, 1 << 31, 1),
        Put(HERE, b"", 0, 0, -(1 << 31) - 1),
        Put(at("test", 1 << 31), b"", 0, 0, 1),
        Sync(HERE, b"", 0, 1 << 63, 0, 1),
        Get(HERE, "g", 1 << 63, 1, 1),
        Get(HERE, "g", 0, 1 << 31, 1),
        Offset(HERE, "g", 0, 1 << 31),
        Stats("", 1 << 31),
        Version(1 << 31),
        Result(Status.SUCCESS, b"", 1 << 31),
        Value(b"", 1 << 31),
    ],
)
def test_a_number_that_does_not_fit_its_field_is_refused(command: Command) -> None:
    with pytest.raises(ValueError, match="not fit"):
        encode(command)


def test_a_negative_length_is_refused() -> None:
    with pytest.raises(ValueError, match="not fit"):
        put_head(HERE, -1, 0, 0, 1)


def test_an_oversized_command_cannot_be_sent() -> None:
    with pytest.raises(ValueError, match="thrown away"):
        encode(Oversized(HERE, 1, 1))


def test_names_beyond_ascii_are_sent_as_utf_8() -> None:
    assert encode(Get(at("消息"), "组", 0, 1, 1)) == "get 消息 组 0 0 1 1\r\n".encode()


def test_the_empty_item_of_stats_is_two_spaces() -> None:
    assert encode(Stats("", -1)) == b"stats  -1\r\n"


def test_extensions_follow_the_opaque_of_version() -> None:
    assert encode(Version(18, ("metaq",))) == b"version 18 metaq\r\n"


def test_a_timeout_of_zero_is_not_sent() -> None:
    begin = Transaction(LocalId("a", 1), "s", Operation.BEGIN, 0, None, 1)
    assert encode(begin) == b"transaction TX:a:1 s BEGIN 1\r\n"


def test_the_quick_forms_write_what_encode_writes() -> None:
    assert put_reply(-5, 3, 7, -9) == encode(Result(Status.SUCCESS, b"-5 3 7", -9))
    assert result(404, "组", 1) == encode(Result(Status.NOT_FOUND, "组".encode(), 1))
    assert value_head(3, 1) + b"abc" == encode(Value(b"abc", 1))
    assert put_head(HERE, 3, 1, -1, 1, LocalId("a", 1)) + b"abc" == encode(Put(HERE, b"abc", 1, -1, 1, LocalId("a", 1)))
