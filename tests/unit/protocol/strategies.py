"""Hypothesis strategies for commands that can be sent, and for bytes that look like commands."""

from hypothesis import strategies as st

from metaq.errors import Status
from metaq.model import TopicPartition
from metaq.protocol.commands import (
    Command,
    Get,
    Mget,
    Mput,
    Msync,
    Offset,
    Operation,
    Put,
    Quit,
    Result,
    Stats,
    Sync,
    Transaction,
    Value,
    Version,
    Want,
)
from metaq.txid import NULL, LocalId, TransactionId, XaId

int32 = st.integers(-(1 << 31), (1 << 31) - 1)
int64 = st.integers(-(1 << 63), (1 << 63) - 1)
_characters = st.characters(exclude_characters=" \r\n", exclude_categories=["Cs"])
tokens = st.text(_characters, min_size=1, max_size=8)
names = st.sampled_from(["test", "meta-test", "消息", "put", "7"]) | tokens
parts = tokens.map(lambda text: text.replace(":", ";"))
ids: st.SearchStrategy[TransactionId] = st.one_of(
    st.builds(LocalId, parts, int64),
    st.builds(XaId, int32, st.binary(max_size=6), st.binary(max_size=6), parts),
    st.just(NULL),
)
targets = st.builds(TopicPartition, names, st.integers(-1, 20) | int32)
bodies = st.binary(max_size=40) | st.sampled_from([b"\r\n", b"put test 0 5 0 1\r\nhello"])
waits = st.integers(0, (1 << 63) - 1)
wants = st.builds(Want, targets, int64, int32)
statuses: st.SearchStrategy[Status | int] = st.sampled_from(Status) | st.integers(600, 999)

commands: st.SearchStrategy[Command] = st.one_of(
    # named in full: left out, Hypothesis would make it from its type, ignoring what its values refuse
    st.builds(Put, targets, bodies, int32, int32, int32, st.none() | ids),
    st.builds(Sync, targets, bodies, int32, int64, int32, int32),
    st.builds(Mput, targets, bodies, int32, int64, int32, int64, int32),
    st.builds(Msync, targets, bodies, int64, int64, int32, st.just(b"") | st.binary(min_size=44, max_size=44)),
    st.builds(Get, targets, names, int64, int32, int32, st.just(0) | waits),
    st.builds(Mget, names, st.lists(wants, max_size=3).map(tuple), int32, waits, int32, st.booleans()),
    st.builds(Offset, targets, names, int64, int32),
    st.builds(Stats, st.just("") | tokens.map(lambda text: f"{text}." if text.isspace() else text), int32),
    st.builds(Version, int32, st.lists(tokens, max_size=2).map(tuple)),
    st.builds(
        Transaction,
        ids,
        tokens,
        st.sampled_from(Operation),
        int32.map(lambda number: number & 0x7FFFFFFF),
        st.none() | parts.map(lambda text: f"q{text}"),
        int32,
    ),
    st.builds(Result, statuses, bodies, int32),
    st.builds(Value, bodies, int32),
)
command_lists = st.lists(commands, max_size=4) | st.lists(commands, max_size=2).map(lambda some: [*some, Quit()])

# Bytes near the grammar: pieces of lines in any order.
words = st.sampled_from(
    [
        "put",
        "mput",
        "get",
        "mget",
        "stamps",
        "wait",
        "sync",
        "offset",
        "stats",
        "version",
        "quit",
        "value",
        "result",
        "transaction",
        "vx",
        "q",
        "TX:a:1",
        "XID:1:aa:bb:q",
        "null",
        "BEGIN",
        "RECOVER",
        "0",
        "1",
        "-1",
        "5",
        "+5",
        "007",
        "_1",
        "1_0",
        "--",
        "-",
        "99999999999",
        "2147483648",
        "-2147483648",
        "７",
        "\t1",
        "\x1c1",
        "1\r",
        "�",
    ]
).map(str.encode)
fragments = st.one_of(words, st.sampled_from([b" ", b" ", b" ", b"\r\n", b"\r\n", b"\n", b"\r"]), st.binary(max_size=3))
streams = st.lists(fragments, max_size=40).map(b"".join) | st.binary(max_size=60)
