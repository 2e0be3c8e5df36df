"""All eight items of `stats` against a live broker (protocol.md §4)."""

import os
import re
import zlib

from metaq.record import HEADER_SIZE
from tests.embedding import Dial, Peer, Serving
from tests.wire.conftest import Serve

SUMMARY = [
    *("pid", "broker_id", "port", "uptime", "version", "slave", "curr_connections", "threads"),
    *("cmd_put", "cmd_get", "cmd_offset", "tx_begin", "tx_xa_begin", "tx_commit", "tx_rollback"),
    *("get_miss", "put_failed", "total_messages", "topics", "config_checksum"),
]
FIGURES = ["put", "get", "offset", "get_miss", "put_failed", "message_size"]
COUNTER = r"Count=(\d+),Value=(\d+),Value/Count=([\d.]+|invalid),Count/Duration=([\d.]+|invalid),Duration=(\d+)"


async def lines(peer: Peer, item: str) -> list[str]:
    """Return the lines between STATS and END that answer `stats item`."""
    match = re.fullmatch(
        rb"result 200 (\d+) -17\r\nSTATS\r\n(.*)END\r\n",
        await peer.asks(b"stats %b -17\r\n" % item.encode()),
        re.DOTALL,
    )
    assert match is not None
    assert int(match[1]) == len(match[2]) + 12
    return match[2].decode().splitlines()


def rows_of(found: list[str]) -> list[tuple[str, str]]:
    """Return key and value of each line."""
    return [(key, text) for key, _, text in (line.partition(" ") for line in found)]


async def busy(dial: Dial) -> Peer:
    """Do some of everything: 3 puts of 10 bytes, 1 refused, 2 gets, 1 of them a miss, 2 offsets, 1 moved get."""
    peer = await dial()
    for partition in (0, 0, 1):
        assert (await peer.asks(b"put test %d 10 0 -1 1\r\n0123456789" % partition)).startswith(b"result 200 ")
    for sent in (
        b"put test 9 1 0 -1 1\r\nx",
        b"get test g 0 0 100 1\r\n",
        b"get test g 0 60 100 1\r\n",
        b"get test g 0 -1 100 1\r\n",
        b"offset test g 0 0 1\r\n",
        b"offset nothing g 0 0 1\r\n",
    ):
        await peer.asks(sent)
    return peer


async def test_the_summary_has_the_keys_of_the_original_in_its_order(broker: Serving, dial: Dial) -> None:
    peer = await busy(dial)
    await dial()
    rows = [line.split(" ") for line in await lines(peer, "")]
    assert [row[0] for row in rows] == SUMMARY
    values = {row[0]: row[1] for row in rows}
    assert int(values.pop("threads")) >= 4
    assert int(values.pop("uptime")) < 60
    assert values == {
        "pid": str(os.getpid()),
        "broker_id": "0",
        "port": str(broker.port),
        "version": "1.4.6.2",
        "slave": "false",
        "curr_connections": "2",
        "cmd_put": "4",
        "cmd_get": "3",
        "cmd_offset": "3",
        "tx_begin": "0",
        "tx_xa_begin": "0",
        "tx_commit": "0",
        "tx_rollback": "0",
        "get_miss": "2",
        "put_failed": "1",
        "total_messages": "3",
        "topics": "3",
        "config_checksum": str(zlib.crc32(broker.config.text)),
    }


async def test_a_connection_that_ends_is_not_counted_any_more(dial: Dial) -> None:
    peer, other = await dial(), await dial()
    await other.sends(b"quit\r\n")
    await other.closes()
    assert "curr_connections 1" in await lines(peer, "")


async def test_help_lists_the_items_but_reset(dial: Dial) -> None:
    assert await lines(await dial(), "help") == [
        "*EMPTY* Returns broker info.",
        "help Returns help menu.",
        "topics Returns topics statistics detail info.",
        "offsets Returns partitions detail info.",
        "realtime Returns realtime statistics detail info.",
        "config Returns broker's config file content.",
    ]


async def test_topics_shows_those_with_messages_then_those_without(dial: Dial) -> None:
    peer = await busy(dial)
    assert await lines(peer, "topics") == [
        "test partitions 2 message_count 3 message_bytes 90 accept_publish true accept_subscribe true",
        "quick *Empty*",
        "wild* *Empty*",
    ]


async def test_offsets_shows_each_partition_with_first_offset_and_end(dial: Dial) -> None:
    peer = await busy(dial)
    assert sorted(await lines(peer, "offsets")) == [
        "test part 0 min_offset 0 max_offset 60",
        "test part 1 min_offset 0 max_offset 30",
    ]


async def test_one_topic_shows_its_partitions_messages_and_figures(dial: Dial) -> None:
    peer = await busy(dial)
    names = [f"topic_realtime_{figure} null" for figure in FIGURES]
    assert await lines(peer, "test") == [
        "test",
        "resultCode 0",
        "partitions 2",
        "message_count 3",
        f"bytes {3 * (10 + HEADER_SIZE)}",
        *names,
    ]
    assert (await lines(peer, "quick"))[:3] == ["quick", "resultCode 2", "partitions 0"]
    assert (await lines(peer, "nothing"))[:2] == ["nothing", "resultCode 1"]


async def test_realtime_counts_topics_with_stat_until_reset(serve: Serve) -> None:
    dial = await serve.dial(await serve(topics="[topic=test]\nstat=true\n[topic=quick]\n"))
    peer = await busy(dial)
    rows = rows_of(await lines(peer, "realtime"))
    assert [key for key, _ in rows] == [f"realtime_{figure}" for figure in FIGURES]
    counts = {key: match[1] for key, text in rows if (match := re.fullmatch(COUNTER, text))}
    assert counts["realtime_put"] == "4"
    assert counts["realtime_put_failed"] == "1"
    assert counts["realtime_get"] == "3"
    detail = dict(rows_of((await lines(peer, "test"))[1:]))
    assert re.fullmatch(COUNTER, detail["topic_realtime_put"])
    assert (await lines(peer, "quick"))[-6] == "topic_realtime_put Invalid keyTwo:quick"
    assert await lines(peer, "reset") == ["reset ok"]
    assert all(text == "null" or text.startswith("Count=0,") for _, text in rows_of(await lines(peer, "realtime")))


async def test_config_is_the_file_itself_however_often_it_is_asked_for(broker: Serving, dial: Dial) -> None:
    peer = await dial()
    answer = b"result 200 %d 5\r\n%b" % (len(broker.config.text), broker.config.text)
    await peer.sends(b"stats config 5\r\n" * 3)  # Q19: the original answers a repeated opaque only once
    await peer.gets_exactly(answer * 3)


async def test_long_statistics_all_come_before_quit_closes(serve: Serve) -> None:
    broker = await serve(system={"unflushThreshold": 1000}, topics="[topic=many]\nnumPartitions=1500\n")
    peer = await (await serve.dial(broker))()
    await peer.sends(b"".join(b"put many %d 1 0 -1 1\r\nx" % number for number in range(1500)))
    for _ in range(1500):
        assert (await peer.frame()).startswith(b"result 200 ")
    await peer.sends(b"stats offsets 2\r\n" * 20 + b"version 3\r\nquit\r\n")
    replies = [await peer.frame() for _ in range(21)]
    assert sum(reply.startswith(b"result 200 7 3\r\n") for reply in replies) == 1
    assert sum(reply.count(b"many part ") == 1500 for reply in replies) == 20
    await peer.closes()
