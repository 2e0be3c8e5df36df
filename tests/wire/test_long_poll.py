"""Conversations with a broker that waits: `get … wait` (docs/protocol.md §9)."""

import asyncio

import pytest

from metaq.net.connection import MOST_WAITING
from metaq.protocol.grammar import MOST_WANTS
from tests.embedding import PATIENCE, Dial, Serving

HELLO = b"put test 0 5 0 907060870 7\r\nhello"
STORED = rb"result 200 \d+ 7\r\n\d+ 0 \d+"


async def test_a_poll_at_the_end_is_answered_with_the_next_message(dial: Dial) -> None:
    consumer, producer = await dial(), await dial()
    await producer.asks(HELLO)
    await consumer.sends(b"get test g 0 25 1000 3 wait 30000\r\n")
    await consumer.stays_silent_until(producer.asks(b"version 1\r\n"))
    await producer.sends(HELLO)
    await producer.gets(STORED)
    await consumer.gets(rb"value 25 3\r\n\x00\x00\x00\x05.{16}hello")


async def test_a_poll_of_a_partition_without_a_log_is_answered_with_its_first_message(dial: Dial) -> None:
    consumer, producer = await dial(), await dial()
    await consumer.sends(b"get test g 0 0 1000 3 wait 30000\r\n")
    await consumer.stays_silent_until(producer.asks(b"version 1\r\n"))
    await producer.sends(HELLO)
    await producer.gets(STORED)
    await consumer.gets(rb"value 25 3\r\n\x00\x00\x00\x05.{16}hello")


async def test_a_poll_that_nothing_answers_in_time_is_answered_as_a_get(dial: Dial) -> None:
    peer = await dial()
    began = asyncio.get_running_loop().time()
    await peer.sends(b"get test g 0 0 1000 3 wait 60\r\n")
    await peer.gets(rb"result 404 \d+ 3\r\nThe topic `test` in partition `0` is not exists")
    assert asyncio.get_running_loop().time() - began >= 0.06
    await peer.asks(HELLO)
    await peer.sends(b"get test g 0 25 1000 3 wait 20\r\n")
    await peer.gets(rb"result 404 \d+ 3\r\nCould not find message at position 25")


async def test_a_broker_that_stops_answers_polls_first(dial: Dial, broker: Serving) -> None:
    peer = await dial()
    await peer.sends(b"get test g 0 0 1000 3 wait 30000\r\nversion 1\r\n")
    await peer.gets(rb"result 200 7 1\r\n.*")
    await broker.end()
    await peer.gets(rb"result 404 \d+ 3\r\n.*")
    await peer.closes()


@pytest.mark.parametrize("wait", [b"0", b"-1", b"-9223372036854775808"])
async def test_a_get_that_waits_no_time_is_a_get(wait: bytes, dial: Dial) -> None:
    peer = await dial()
    await peer.sends(b"get test g 0 0 1000 3 wait %b\r\n" % wait)
    await peer.gets(rb"result 404 \d+ 3\r\n.*")


@pytest.mark.parametrize("wait", [b"soon", b"1.5", b"9223372036854775808"])
async def test_a_wait_that_is_no_number_ends_the_connection(wait: bytes, dial: Dial) -> None:
    peer = await dial()
    await peer.sends(b"get test g 0 0 1000 3 wait %b\r\n" % wait)
    await peer.closes()


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (b"test g 0 26 1000", rb"result 404 37 3\r\nCould not find message at position 26"),
        (b"test g 0 9223372036854775807 1000", rb"result 301 2 3\r\n25"),
        (b"test g 0 -1 1000", rb"result 301 1 3\r\n0"),
        (b"test g 0 25 0", rb"result 400 \d+ 3\r\n.*"),
        (b"test g 0 25 -1", rb"result 400 \d+ 3\r\n.*"),
        (b"test g 4 0 1000", rb"result 404 \d+ 3\r\nThe topic `test` in partition `4` is not exists"),
        (b"test g -1 0 1000", rb"result 404 \d+ 3\r\nThe topic `test` in partition `-1` is not exists"),
        (b"unknown g 0 0 1000", rb"result 404 \d+ 3\r\nThe topic `unknown` in partition `0` is not exists"),
        (b"test g 0 0 1000", rb"value 25 3\r\n.*"),
    ],
)
async def test_what_waiting_cannot_change_is_answered_at_once(request_: bytes, answer: bytes, dial: Dial) -> None:
    peer = await dial()
    await peer.asks(HELLO)
    await peer.sends(b"get %b 3 wait 60000\r\n" % request_)
    await peer.gets(answer)


async def test_other_commands_of_the_connection_do_not_wait_for_its_polls(dial: Dial) -> None:
    peer = await dial()
    await peer.sends(b"get test g 0 0 1000 3 wait 60000\r\nversion 1\r\nget test g 1 0 9 4\r\n" + HELLO)
    await peer.gets(rb"result 200 7 1\r\n.*")
    answers = {await peer.frame() for _ in range(3)}
    assert {bytes(answer.split(b"\r\n")[0].rsplit(b" ", 1)[1]) for answer in answers} == {b"3", b"4", b"7"}


async def test_a_partition_that_is_closed_answers_its_polls(dial: Dial, broker: Serving) -> None:
    peer, other = await dial(), await dial()
    await peer.asks(HELLO)
    await peer.sends(b"get test g 0 25 1000 3 wait 60000\r\nget test g 1 0 1000 4 wait 60000\r\n")
    await peer.sends(b"get test g 2 0 1000 5 wait 60000\r\n")
    await peer.stays_silent_until(other.asks(b"version 1\r\n"))
    broker.running.broker.close_partitions("test", 0, 1)
    for opaque in (3, 4):
        await peer.gets(rb"result 403 \d+ %d\r\n.*" % opaque)
    await peer.stays_silent_until(other.asks(b"version 1\r\n"))


async def test_quit_answers_the_polls_of_the_connection_first(dial: Dial) -> None:
    peer = await dial()
    await peer.sends(b"get test g 0 0 1000 3 wait 60000\r\nquit\r\n")
    await peer.gets(rb"result 404 \d+ 3\r\n.*")
    await peer.closes()


async def test_polls_of_connections_that_vanish_leave_nothing_behind(dial: Dial, broker: Serving) -> None:
    polls = broker.running.broker.polls
    for _ in range(3):
        peer = await dial()
        for number in range(2000):
            await peer.sends(b"get wild%d g %d 0 1000 %d wait 60000\r\n" % (number % 50, number % 4, number))
        async with asyncio.timeout(PATIENCE):
            while polls.lines < 2000:
                await asyncio.sleep(0.005)
        peer.transport.abort()
        async with asyncio.timeout(PATIENCE):
            while polls.lines:
                await asyncio.sleep(0.005)
        assert (len(polls.deadlines), len(polls.watching)) == (0, 0)


async def test_more_polls_than_a_connection_may_have_are_answered_at_once(dial: Dial) -> None:
    peer = await dial()
    most = MOST_WAITING // MOST_WANTS
    lines = b"wild 0 0 100\r\n" * MOST_WANTS
    for opaque in range(most + 1):
        await peer.sends(b"mget g 100 60000 %d %d\r\n%b" % (len(lines), opaque, lines))
    assert await peer.frame() == b"value 0 %d\r\n" % most


async def test_a_peer_that_does_not_read_gets_its_polls_answered_when_it_does(dial: Dial, broker: Serving) -> None:
    peer, producer = await dial(), await dial()
    body = bytes(1 << 19)
    await producer.asks(b"put quick 0 %d 0 -1 1\r\n%b" % (len(body), body))
    await peer.sends(b"get test g 1 0 1000 7000 wait 60000\r\n")
    peer.transport.pause_reading()
    for opaque in range(150):
        await peer.sends(b"get quick g 0 0 1048576 %d\r\n" % opaque)
    await producer.asks(b"version 1\r\n")  # by then the broker has them, and has sent what the system takes
    await producer.asks(b"put test 1 5 0 -1 1\r\nhello")
    assert broker.running.broker.polls.lines == 1
    peer.transport.resume_reading()
    answers = {(await peer.frame()).partition(b"\r\n")[0] for _ in range(151)}
    assert b"value 25 7000" in answers
    assert broker.running.broker.polls.lines == 0


async def test_polls_and_timeouts_count_as_gets_and_misses(dial: Dial, broker: Serving) -> None:
    peer = await dial()
    before = broker.running.broker.statistics.commands()
    await peer.sends(b"get test g 0 0 1000 3 wait 60000\r\n" + HELLO)
    assert {(await peer.frame())[:5], (await peer.frame())[:5]} == {b"value", b"resul"}
    await peer.asks(b"get test g 0 25 1000 3 wait 10\r\n")
    after = broker.running.broker.statistics.commands()
    assert (after.get - before.get, after.get_miss - before.get_miss) == (2, 1)


async def test_a_thousand_polls_of_one_partition_are_answered_with_its_next_message(
    dial: Dial, broker: Serving
) -> None:
    peer, producer = await dial(), await dial()
    await peer.sends(b"".join(b"get test g 0 0 1000 %d wait 60000\r\n" % opaque for opaque in range(1000)))
    await peer.stays_silent_until(producer.asks(b"version 1\r\n"))
    assert broker.running.broker.polls.lines == 1000
    await producer.asks(HELLO)
    answers = [await peer.frame() for _ in range(1000)]
    assert [int(answer.partition(b"\r\n")[0].split()[2]) for answer in answers] == list(range(1000))
    assert broker.running.broker.polls.lines == 0
