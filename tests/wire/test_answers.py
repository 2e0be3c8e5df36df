"""Every status and text that a broker of one node gives (protocol.md §2)."""

import pytest

from metaq.record import HEADER_SIZE, checksum
from tests.embedding import Dial, Serving
from tests.wire.conftest import Serve

NO_HANDLER = "未注册请求处理器，请求处理器类为com.taobao.metamorphosis.network.SyncCommand"


def reply(status: int, text: str) -> bytes:
    """Return the reply to a request with opaque 1."""
    return b"result %d %d 1\r\n%b" % (status, len(text.encode()), text.encode())


def put_failed(status: int, broker: Serving, partition: str, detail: str) -> bytes:
    """Return the reply to a put that failed."""
    url = f"meta://127.0.0.1:{broker.port}"
    return reply(status, f"Put message to [broker '{url}'] [partition '{partition}'] failed.Detail:{detail}")


@pytest.mark.parametrize(
    ("sent", "partition", "detail"),
    [
        (b"put nothing 0 5 0 -1 1\r\nhello", "nothing-0", "The server do not accept topic nothing"),
        (b"put test 4 5 0 -1 1\r\nhello", "test-4", "wrong partition 4"),
        (b"put test -2 5 0 -1 1\r\nhello", "test--2", "wrong partition -2"),
        (b"put nothing -1 5 0 -1 1\r\nhello", "nothing--1", "The server do not accept topic nothing"),
        (
            b"put test 0 5 0 12345 1\r\nhello",
            "test-0",
            "Checksum failure,message may be corrupted when transfering on networking.",
        ),
        (
            b"put test 0 5 1 -1 1\r\nhello",
            "test-0",
            "the attribute that the flag announces does not fit into the body",
        ),
        (
            b"put test 0 1048557 0 -1 1\r\n" + bytes(1048557),
            "test-0",
            "message of 1048557 bytes is larger than the limit of 1048556",
        ),
    ],
)
async def test_a_put_that_cannot_be_stored_is_told_why(
    sent: bytes, partition: str, detail: str, broker: Serving, dial: Dial
) -> None:
    peer = await dial()
    assert await peer.asks(sent) == put_failed(500, broker, partition, detail)
    assert await peer.asks(b"version 1\r\n") == b"result 200 7 1\r\n1.4.6.2"


@pytest.mark.parametrize(
    ("sent", "status", "text"),
    [
        (b"get test g 3 0 100 1", 404, "The topic `test` in partition `3` is not exists"),
        (b"get no g 0 0 100 1", 404, "The topic `no` in partition `0` is not exists"),
        (b"get no g -1 0 100 1", 404, "The topic `no` in partition `-1` is not exists"),
        (b"get no g 0 0 0 1", 404, "The topic `no` in partition `0` is not exists"),
        (b"offset no g 0 0 1", 404, "The topic `no` in partition `0` is not exists"),
        (b"get test g 0 0 0 1", 400, "Bad request,invalid max size:0"),
        (b"get test g 0 0 -5 1", 400, "Bad request,invalid max size:-5"),
        (b"get test g 0 -1 0 1", 400, "Bad request,invalid max size:0"),
        (b"get test g 0 -1 5 1", 301, "0"),
        (b"get test g 0 -9223372036854775808 5 1", 301, "0"),
        (b"get test g 0 9223372036854775807 5 1", 301, "25"),
        (b"get test g 0 25 5 1", 404, "Could not find message at position 25"),
        (b"get test g 0 26 5 1", 404, "Could not find message at position 26"),
        (b"offset test g 0 -5 1", 200, "0"),
        (b"offset test g 0 24 1", 200, "0"),
        (b"offset test g 0 25 1", 200, "25"),
        (b"sync test 0 5 0 9999 -1 1\r\nhello", 503, NO_HANDLER),
        (b"sync test 0 5 0 9999 1\r\nhello", 503, NO_HANDLER),
        (b"version 1 metaq", 200, "1.4.6.2 metaq/2 mput wait mget"),
    ],
)
async def test_a_question_is_answered_in_the_words_of_the_original(
    sent: bytes, status: int, text: str, dial: Dial
) -> None:
    peer = await dial()
    await peer.sends(b"put test 0 5 0 -1 1\r\nhello")
    await peer.gets(rb"result 200 \d+ 1\r\n\d+ 0 0")
    assert await peer.asks(sent + (b"" if b"\r\n" in sent else b"\r\n")) == reply(status, text)


async def test_a_group_past_the_end_is_sent_back_where_the_operator_wants_that(serve: Serve) -> None:
    dial = await serve.dial(await serve(system={"updateConsumerOffsets": "true"}))
    peer = await dial()
    await peer.sends(b"put test 0 5 0 -1 1\r\nhello")
    await peer.gets(rb"result 200 \d+ 1\r\n\d+ 0 0")
    assert await peer.asks(b"get test g 0 1000 5 1\r\n") == b"result 301 2 1\r\n25"
    assert await peer.asks(b"get test g 0 25 5 1\r\n") == b"result 404 37 1\r\nCould not find message at position 25"


async def test_a_slave_sends_nobody_back_who_is_past_its_end(serve: Serve) -> None:
    broker = await serve(system={"updateConsumerOffsets": "true"})
    peer = await (await serve.dial(broker))()
    await peer.sends(b"put test 0 5 0 -1 1\r\nhello")
    await peer.gets(rb"result 200 \d+ 1\r\n\d+ 0 0")
    broker.running.broker.gets.is_slave = True
    assert (await peer.asks(b"get test g 0 1000 5 1\r\n")).startswith(b"result 404 ")
    assert await peer.asks(b"get test g 0 %d 5 1\r\n" % ((1 << 63) - 2)) == reply(
        404, f"Could not find message at position {(1 << 63) - 2}"
    )
    assert await peer.asks(b"get test g 0 %d 5 1\r\n" % ((1 << 63) - 1)) == b"result 301 2 1\r\n25"


async def test_closed_partitions_are_answered_403_until_they_are_opened(broker: Serving, dial: Dial) -> None:
    peer = await dial()
    put = b"put test 1 5 0 -1 1\r\nhello"
    await peer.sends(put)
    await peer.gets(rb"result 200 \d+ 1\r\n\d+ 1 0")
    broker.running.broker.close_partitions("test", 1, 2)
    assert await peer.asks(put) == put_failed(403, broker, "test-1", "partition[0-1] has been closed")
    assert await peer.asks(b"get test g 1 0 5 1\r\n") == reply(403, "Partition[0-1] has been closed")
    assert await peer.asks(b"get test g 2 0 0 1\r\n") == reply(403, "Partition[0-2] has been closed")
    assert await peer.asks(b"offset test g 1 100 1\r\n") == b"result 200 2 1\r\n25"
    broker.running.broker.open_partitions("test")
    await peer.sends(put)
    await peer.gets(rb"result 200 \d+ 1\r\n\d+ 1 25")


@pytest.mark.parametrize(
    "operation", ["BEGIN", "PREPARE", "COMMIT_ONE_PHASE", "COMMIT_TWO_PHASE", "ROLLBACK", "FORGET"]
)
async def test_transactions_are_refused_clearly(operation: str, dial: Dial) -> None:
    peer = await dial()
    await peer.sends(b"transaction TX:s:1 s %b 5\r\n" % operation.encode())
    await peer.gets(b"result 500 \\d+ 5\r\ntransactions are not supported by this broker: %b" % operation.encode())
    await peer.sends(b"transaction null s RECOVER 6\r\ntransaction TX:s:1 s END 1\r\nversion 8\r\n")
    await peer.gets(b"result 500 \\d+ 6\r\ntransactions are not supported by this broker: RECOVER")
    assert await peer.frame() == b"result 200 7 8\r\n1.4.6.2"


@pytest.mark.parametrize("key", [b"TX:s:1", b"XID:1:aa:bb:q", b"null"])
async def test_a_put_within_a_transaction_is_refused_and_not_stored(key: bytes, dial: Dial) -> None:
    peer = await dial()
    await peer.sends(b"put test 0 5 0 %d %b 1\r\nhello" % (checksum(b"hello"), key))
    await peer.gets(rb"result 500 \d+ 1\r\nthis broker does not support transactions")
    assert (await peer.asks(b"get test g 0 0 100 1\r\n")).startswith(b"result 404 ")


async def test_a_put_refused_for_its_checksum_has_made_the_partition(dial: Dial) -> None:
    peer = await dial()
    await peer.sends(b"put test 2 5 0 1 1\r\nhello")
    await peer.gets(rb"result 500 .*Checksum failure.*")
    assert b"\r\ntest part 2 min_offset 0 max_offset 0\r\n" in await peer.asks(b"stats offsets 1\r\n")
    assert await peer.asks(b"get test g 2 0 5 1\r\n") == b"result 404 36 1\r\nCould not find message at position 0"


async def test_a_get_returns_at_most_what_a_transfer_may_be(serve: Serve) -> None:
    dial = await serve.dial(await serve(system={"maxTransferSize": 1000}))
    peer = await dial()
    for _ in range(12):
        await peer.asks(b"put test 0 80 0 -1 1\r\n" + bytes(80))
    await peer.sends(b"get test g 0 0 1000000 1\r\n")
    await peer.gets(rb"value 1000 1\r\n.*")
    await peer.sends(b"get test g 0 100 %d 1\r\n" % (80 + HEADER_SIZE))
    await peer.gets(rb"value 100 1\r\n.*")
