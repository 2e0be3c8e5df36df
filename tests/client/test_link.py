"""One dialled connection: matching, time-outs, heartbeat, coming back."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from random import Random
from unittest.mock import Mock

import pytest

from metaq.errors import LinkClosed, NoBroker, RequestTimeout
from metaq.model import BrokerAddress, TopicPartition
from metaq.net.calls import Connection
from metaq.net.link import Link, LinkOptions
from metaq.net.streams import Streams
from metaq.protocol.commands import Get, Put, Result, Stats, Version
from metaq.protocol.encoder import encode
from tests.client.conftest import QUICK
from tests.client.fake_broker import (
    Act,
    FakeBroker,
    garbage,
    half_frame,
    hang_up,
    held,
    release,
    silence,
    status,
    until,
    wrong_opaque,
)


def make(broker: FakeBroker | BrokerAddress, options: LinkOptions = QUICK) -> Link:
    address = broker if isinstance(broker, BrokerAddress) else broker.address
    link = Link(Streams(), address, random=Random(1), options=options)
    link.start()
    return link


@pytest.fixture
async def link(broker: FakeBroker) -> AsyncIterator[Link]:
    made = make(broker)
    yield made
    await made.close()


def ask(opaque: int) -> bytes:
    return encode(Stats("", opaque))


async def test_a_request_gets_its_own_reply_whatever_the_order(broker: FakeBroker, link: Link) -> None:
    broker.always(Put, held)
    target = TopicPartition("t", 0)

    def numbered(number: int) -> Callable[[int], bytes]:
        return lambda opaque: encode(Put(target, b"%d" % number, 0, -1, opaque))

    puts = [asyncio.ensure_future(link.request(numbered(n), 2.0)) for n in range(20)]
    await until(lambda: len(broker.waiting) == 20)
    bodies = {command.opaque: command.body for _, command in broker.waiting if isinstance(command, Put)}
    broker.waiting.reverse()
    assert release(broker) == 20
    replies = await asyncio.gather(*puts)
    assert len({reply.opaque for reply in replies}) == 20
    for n, reply in enumerate(replies):
        assert isinstance(reply, Result)
        assert bodies[reply.opaque] == b"%d" % n


async def test_requests_of_one_turn_leave_in_one_write(broker: FakeBroker, link: Link) -> None:
    await link.ready(2.0)
    before = broker.reads
    await asyncio.gather(*(link.request(ask, 2.0) for _ in range(50)))
    assert broker.reads == before + 1


async def test_it_asks_once_for_extensions_and_only_remembers_them_while_connected(broker: FakeBroker) -> None:
    broker.version = "1.4.6.2 metaq/1 wait"
    link = make(broker)
    await link.ready(2.0)
    assert (link.version, link.extensions) == ("1.4.6.2", frozenset({"metaq/1", "wait"}))
    await link.request(ask, 2.0)
    assert [command.extensions for command in broker.of(Version) if isinstance(command, Version)] == [("metaq",)]
    broker.version = "1.4.6.2"  # a broker of the original has taken the place
    broker.drop_all()
    await until(lambda: broker.accepted == 2 and link.is_open)
    assert link.extensions == frozenset()
    await link.close()


async def test_no_answer_is_a_timeout_and_the_connection_stays_good(broker: FakeBroker, link: Link) -> None:
    broker.next(Stats, silence)
    await link.ready(2.0)
    with pytest.raises(RequestTimeout, match=r"meta://127\.0\.0\.1:\d+: no answer in time"):
        await link.request(ask, 0.02)
    assert isinstance(await link.request(ask, 2.0), Result)
    assert broker.accepted == 1


async def test_a_late_or_foreign_reply_is_ignored(broker: FakeBroker, link: Link) -> None:
    broker.next(Stats, held, wrong_opaque)
    await link.ready(2.0)
    with pytest.raises(RequestTimeout):
        await link.request(ask, 0.02)
    release(broker)
    reply = await link.request(ask, 2.0)
    assert isinstance(reply, Result)
    assert reply.body.startswith(b"STATS")
    assert broker.accepted == 1


@pytest.mark.parametrize(
    ("act", "why"),
    [(garbage, "broke the protocol"), (hang_up, ""), (half_frame, "closed by the broker")],
)
async def test_when_the_connection_breaks_every_waiter_learns_of_it(
    broker: FakeBroker, link: Link, act: Act, why: str
) -> None:
    broker.next(Stats, silence, silence, act)
    waiting = [asyncio.ensure_future(link.request(ask, 5.0)) for _ in range(3)]
    for outcome in await asyncio.gather(*waiting, return_exceptions=True):
        assert isinstance(outcome, LinkClosed)
        assert why in str(outcome)
    assert isinstance(await link.request(ask, 2.0), Result)  # and it comes back by itself
    assert len(broker.of(Stats)) == 4  # nothing was sent twice


async def test_a_request_from_the_broker_ends_the_connection(broker: FakeBroker, link: Link) -> None:
    broker.next(Stats, lambda peer, _: peer.send(b"put t 0 1 0 0 5\r\nx"))
    with pytest.raises(LinkClosed, match="sent a request"):
        await link.request(ask, 2.0)


async def test_it_dials_until_somebody_answers(broker: FakeBroker) -> None:
    await broker.stop()
    link = make(broker)
    with pytest.raises(NoBroker, match=r"no connection within 0.05 s: .*111"):
        await link.request(ask, 0.05)
    waiting = asyncio.ensure_future(link.request(ask, 5.0))
    await broker.start()
    assert isinstance(await waiting, Result)
    await link.close()


async def test_who_answers_but_is_no_broker_is_named_as_such(broker: FakeBroker) -> None:
    broker.always(Version, garbage)
    link = make(broker)
    await until(lambda: broker.accepted > 2)
    assert not link.is_open
    with pytest.raises(NoBroker, match="broke the protocol: unknown command 'HTTP"):
        await link.request(ask, 0.05)
    broker.always(Version, status(500, "no"))
    await until(lambda: link.reason == "answered version with 500")
    await link.close()


async def test_who_accepts_and_says_nothing_is_given_up(broker: FakeBroker) -> None:
    broker.always(Version, silence)
    link = make(broker, replace(QUICK, connect_timeout=0.02))
    await until(lambda: broker.accepted > 2)
    assert link.reason == "no answer in time"
    await link.close()


async def test_an_idle_connection_is_kept_alive_and_a_dead_one_closed(broker: FakeBroker) -> None:
    link = make(broker, replace(QUICK, heartbeat_idle=0.01, heartbeat_timeout=0.02))
    await until(lambda: len(broker.of(Version)) > 4)
    assert broker.accepted == 1
    broker.next(Version, silence, silence)
    await until(lambda: len(broker.of(Version)) > 10)
    assert broker.accepted == 1  # two failures in a row are not three
    broker.next(Version, silence, silence, silence)
    await until(lambda: broker.accepted == 2)
    await until(lambda: link.is_open)
    await link.close()


async def test_a_busy_connection_sends_no_heartbeats(broker: FakeBroker) -> None:
    link = make(broker, replace(QUICK, heartbeat_idle=5.0))
    for _ in range(50):
        await link.request(ask, 2.0)
    assert len(broker.of(Version)) == 1
    await link.close()


async def test_bytes_in_flight_are_bounded(broker: FakeBroker) -> None:
    broker.always(Get, held)
    link = make(broker, replace(QUICK, in_flight=100))
    target = TopicPartition("t", 0)

    def get(opaque: int) -> bytes:
        return encode(Get(target, "g", 0, 1000, opaque))

    waiting = [asyncio.ensure_future(link.request(get, 5.0)) for _ in range(50)]
    most = 100 // len(get(1)) + 1
    while len(broker.of(Get)) < 50:
        await until(lambda: broker.waiting)
        await asyncio.sleep(0)
        assert len(broker.waiting) <= most
        release(broker)
    release(broker)
    assert all(isinstance(reply, Result) for reply in await asyncio.gather(*waiting))
    broker.always(Get, silence)
    for _ in range(most):
        with pytest.raises(RequestTimeout):
            await link.request(get, 0.005)
    assert isinstance(await link.request(ask, 2.0), Result)  # what timed out does not count any more
    await link.close()


async def test_a_peer_that_reads_nothing_holds_back_the_sender(broker: FakeBroker) -> None:
    link = make(broker, replace(QUICK, in_flight=1 << 30))
    await link.ready(2.0)
    broker.peers[0].transport.pause_reading()
    body = bytes(1 << 20)
    target = TopicPartition("t", 0)
    waiting = [
        asyncio.ensure_future(link.request(lambda o: encode(Put(target, body, 0, -1, o)), 5.0)) for _ in range(3)
    ]
    while link.has_room():
        waiting.append(asyncio.ensure_future(link.request(lambda o: encode(Put(target, body, 0, -1, o)), 5.0)))
        await asyncio.sleep(0)
    assert len(waiting) < 100
    broker.peers[0].transport.resume_reading()
    assert all(isinstance(reply, Result) for reply in await asyncio.gather(*waiting))
    await link.close()


async def test_closing_fails_those_who_wait_and_may_be_repeated(broker: FakeBroker, link: Link) -> None:
    broker.always(Stats, silence)
    waiting = asyncio.ensure_future(link.request(ask, 5.0))
    await until(lambda: broker.of(Stats))
    await link.close()
    with pytest.raises(LinkClosed, match="closed by us"):
        await waiting
    await link.close()
    with pytest.raises(NoBroker, match="closed"):
        await link.request(ask, 0.05)
    await until(lambda: not broker.peers)


async def test_closing_while_dialling_leaves_nothing_behind(broker: FakeBroker) -> None:
    for _ in range(20):
        link = make(broker)
        await asyncio.sleep(0)
        await link.close()
    await until(lambda: not broker.peers)


class Abrupt(Streams):
    """Like uvloop: a dial that is called off when the connection is made already closes it and tells nobody."""

    made: Connection | None = None

    async def connect(self, factory: Callable[[], asyncio.Protocol], host: str, port: int) -> asyncio.Transport:
        protocol = factory()
        assert isinstance(protocol, Connection)
        transport = Mock(spec=asyncio.Transport)
        protocol.connection_made(transport)
        self.made = protocol
        await asyncio.Event().wait()
        return transport


async def test_closing_in_the_moment_between_a_connection_and_its_first_use_ends() -> None:
    network = Abrupt()
    link = Link(network, BrokerAddress("127.0.0.1", 1), random=Random(1), options=QUICK)
    link.start()
    await until(lambda: network.made)
    async with asyncio.timeout(5.0):
        await link.close()


async def test_a_host_that_can_have_no_address_is_trouble_like_any_other(broker: FakeBroker) -> None:
    for host in ("a" * 300, "nul\0byte"):
        link = make(BrokerAddress(host, broker.port))
        with pytest.raises(NoBroker, match="no connection within"):
            await link.request(ask, 0.05)
        assert link.reason != "not connected yet"
        await link.close()
