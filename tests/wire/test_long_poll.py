"""Conversations with a broker that waits: `get … wait` (docs/protocol.md §9)."""

import asyncio

from tests.embedding import Dial, Serving

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
