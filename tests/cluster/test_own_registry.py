"""Our registry through sockets: kazoo's recipes, bad input, restarts."""

import asyncio
import contextlib
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from threading import Event
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kazoo.client import KazooClient  # type: ignore[import-untyped]
from kazoo.exceptions import NoAuthError, RolledBackError  # type: ignore[import-untyped]
from kazoo.protocol.states import KazooState  # type: ignore[import-untyped]
from kazoo.recipe.watchers import ChildrenWatch, DataWatch  # type: ignore[import-untyped]
from kazoo.security import make_digest_acl  # type: ignore[import-untyped]

from metaq.app import real_world
from metaq.errors import StoreLocked
from metaq.registry.jute import INT, pack_buffer, pack_string
from metaq.registry.requests import ANYBODY, Create, Mode, Op, SetData, pack_fields
from metaq.registry.running import running_registry
from metaq.testing import Registry
from tests.cluster.peer import DEADLINE, Closed, Peer


@contextlib.contextmanager
def kazoo_at(server: Registry, **options: Any) -> Iterator[Any]:
    client = KazooClient(server.address, timeout=4.0, **options)
    client.start(DEADLINE)
    try:
        yield client
    finally:
        client.stop()
        client.close()


@pytest.fixture
def kazoo(own_registry: Registry) -> Iterator[Any]:
    with kazoo_at(own_registry) as client:
        yield client


def create(path: str, mode: Mode = Mode.PERSISTENT, data: bytes = b"") -> bytes:
    return pack_fields(Op.CREATE, Create(path, data, [ANYBODY], mode))


def until_true(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


# kazoo, unchanged


def test_locks_are_passed_on_in_order(own_registry: Registry, kazoo: Any) -> None:
    with kazoo_at(own_registry) as other:
        first, second = kazoo.Lock("/locks/a", "first"), other.Lock("/locks/a", "second")
        assert first.acquire(timeout=DEADLINE)
        waiting = other.handler.spawn(second.acquire)
        until_true(lambda: first.contenders() == ["first", "second"])
        assert not second.is_acquired
        first.release()
        waiting.join(DEADLINE)
        assert second.is_acquired
        second.release()


def test_an_election_passes_to_the_next_when_the_leader_is_gone(own_registry: Registry, kazoo: Any) -> None:
    led = Event()
    election = kazoo.Election("/election", "me")
    with kazoo_at(own_registry) as other:
        leading, go = Event(), Event()

        def lead() -> None:
            leading.set()
            go.wait(DEADLINE)

        other.handler.spawn(other.Election("/election", "you").run, lead)
        assert leading.wait(DEADLINE)
        kazoo.handler.spawn(election.run, led.set)
        until_true(lambda: len(election.contenders()) == 2)
        assert not led.is_set()
        go.set()
        assert led.wait(DEADLINE)


def test_watches_of_children_and_data_hear_all_that_comes(kazoo: Any) -> None:
    kazoo.ensure_path("/watched")
    children: list[list[str]] = []
    data: list[tuple[bytes, int]] = []
    told = Event()

    def heard() -> None:
        if children[-1:] == [["x", "y"]] and data[-1:] == [(b"2", 2)]:
            told.set()

    @ChildrenWatch(kazoo, "/watched")  # type: ignore[untyped-decorator]
    def _(names: list[str]) -> None:
        children.append(sorted(names))
        heard()

    @DataWatch(kazoo, "/watched")  # type: ignore[untyped-decorator]
    def _(value: bytes, stat: Any) -> None:
        data.append((value, stat.version))
        heard()

    for name in "xy":
        kazoo.create(f"/watched/{name}")
    for value in (b"1", b"2"):
        kazoo.set("/watched", value)
    assert told.wait(DEADLINE)
    assert children[0] == []
    assert data[0] == (b"", 0)


def test_a_transaction_happens_whole_or_not_at_all(kazoo: Any) -> None:
    kazoo.ensure_path("/whole")
    transaction = kazoo.transaction()
    for name in "ab":
        transaction.create(f"/whole/{name}")
    transaction.check("/whole", 7)
    results = transaction.commit()
    assert [type(result) for result in results[:2]] == [RolledBackError, RolledBackError]
    assert kazoo.get_children("/whole") == []


def test_who_proves_who_it_is_may_do_what_others_may_not(own_registry: Registry) -> None:
    acl = [make_digest_acl("ann", "secret", all=True)]
    with kazoo_at(own_registry, auth_data=[("digest", "ann:secret")]) as ann, kazoo_at(own_registry) as other:
        ann.create("/of-ann", b"1", acl=acl)
        assert ann.get("/of-ann")[0] == b"1"
        with pytest.raises(NoAuthError):
            other.get("/of-ann")
        ann.delete("/of-ann")


def test_a_session_and_what_it_holds_survive_a_lost_connection_and_a_restart(tmp_path: Path) -> None:
    with Registry(tmp_path) as server, kazoo_at(server) as client, kazoo_at(server) as other:
        states: list[Any] = []
        back = Event()

        def heard(state: Any) -> None:
            states.append(state)
            if state == KazooState.CONNECTED:
                back.set()

        client.add_listener(heard)
        client.create("/held", b"1", ephemeral=True)
        told = Event()
        client.exists("/later", watch=lambda event: told.set())
        session = client.client_id
        server.restart()
        assert back.wait(DEADLINE)
        assert (client.client_id, states) == (session, [KazooState.SUSPENDED, KazooState.CONNECTED])
        assert client.retry(client.get, "/held")[0] == b"1"
        other.retry(other.create, "/later")
        assert told.wait(DEADLINE)


# bad input


def test_garbage_of_any_kind_is_answered_or_ends_its_connection_only(own_registry: Registry) -> None:
    chance = Random(1)
    with Peer(own_registry.address) as good:

        @settings(max_examples=40, deadline=None)
        @given(st.binary(max_size=100), st.booleans(), st.booleans())
        def garbage(data: bytes, greeted: bool, framed: bool) -> None:
            packet = INT.pack(len(data)) + data if framed else data
            if greeted:
                with Peer(own_registry.address) as bad:
                    bad.send_bytes(packet)
            else:
                send_raw(own_registry.address, packet)
            assert good.ask(Op.EXISTS, pack_string("/") + b"\0").error == 0

        garbage()
        send_raw(own_registry.address, chance.randbytes(100_000))
        assert good.ask(Op.EXISTS, pack_string("/") + b"\0").error == 0


def send_raw(address: str, data: bytes) -> bytes:
    """Send bytes on a connection of their own; return what comes before its end, which the server may leave to us."""

    async def talk() -> bytes:
        host, _, port = address.partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        answer = b""
        with contextlib.suppress(ConnectionError):
            writer.write(data)
            with contextlib.suppress(OSError):  # ENOTCONN, which is no ConnectionError: it has been reset already
                writer.write_eof()
            answer = await reader.read()
        writer.close()
        return answer

    return asyncio.run(asyncio.wait_for(talk(), DEADLINE))


def test_a_packet_of_two_megabytes_ends_its_connection_and_one_of_one_does_not(own_registry: Registry) -> None:
    with Peer(own_registry.address) as peer:
        peer.ask(Op.CREATE, create("/large"))
        most = 0xFFFFF - 8 - 10 - 4 - 4
        for size, path in ((most, "/large"), (1, "/large")):
            assert peer.ask(Op.SET_DATA, pack_fields(Op.SET_DATA, SetData(path, bytes(size), -1))).error == 0
        with pytest.raises((Closed, ConnectionError)):
            peer.ask(Op.SET_DATA, pack_fields(Op.SET_DATA, SetData("/large", bytes(2 << 20), -1)))
    with Peer(own_registry.address, peer.session, peer.password) as back:
        assert (back.session, back.ask(Op.DELETE, pack_string("/large") + INT.pack(-1)).error) == (peer.session, 0)


def test_half_a_packet_and_an_end_is_nothing(own_registry: Registry) -> None:
    with Peer(own_registry.address) as peer:
        whole = struct.pack(">ii", 1, Op.CREATE) + create("/never")
        peer.send_bytes(INT.pack(len(whole)) + whole[:-3])
    with Peer(own_registry.address) as peer:
        assert peer.ask(Op.EXISTS, pack_string("/never") + b"\0").error == -101


def test_unknown_types_are_answered_and_the_connection_goes_on(own_registry: Registry) -> None:
    with Peer(own_registry.address) as peer:
        assert [peer.ask(op).error for op in (16, 20, 99, 102, -1)] == [-6] * 5
        assert peer.ask(Op.EXISTS, pack_string("/") + b"\0").error == 0


def test_a_wrong_password_is_refused_and_harms_nobody(own_registry: Registry) -> None:
    with Peer(own_registry.address) as owner:
        with Peer(own_registry.address, owner.session, b"0123456789abcdef") as thief:
            assert (thief.session, thief.timeout) == (0, 0)
            assert thief.is_closed()
        assert owner.ask(Op.PING).error == 0


def test_a_node_that_hundreds_watch_is_told_to_each_once(own_registry: Registry) -> None:
    with contextlib.ExitStack() as stack:
        peers = [stack.enter_context(Peer(own_registry.address)) for _ in range(200)]
        for peer in peers:
            for _ in range(50):
                peer.send(Op.EXISTS, pack_string("/watched-by-all") + b"\1")
        for peer in peers:
            assert {peer.receive().error for _ in range(50)} == {-101}
        peers[0].ask(Op.CREATE, create("/watched-by-all", Mode.EPHEMERAL))
        assert {len(peer.take_events()) for peer in peers} == {1}


# its folder


async def test_a_folder_has_one_registry_and_a_port_one_server(tmp_path: Path) -> None:
    world = real_world()
    async with running_registry(str(tmp_path / "a"), "127.0.0.1", 0, world) as first:
        with pytest.raises(StoreLocked, match="is in use by another registry"):
            async with running_registry(str(tmp_path / "a"), "127.0.0.1", 0, world):
                pass
        with pytest.raises(OSError, match=str(first.port)):
            async with running_registry(str(tmp_path / "b"), "127.0.0.1", first.port, world):
                pass
        async with running_registry(str(tmp_path / "b"), "127.0.0.1", 0, world):  # nothing is left of the attempt
            pass


def test_all_that_was_answered_is_there_after_a_restart_and_zxids_only_grow(tmp_path: Path) -> None:
    with Registry(tmp_path) as server:
        with Peer(server.address) as peer:
            for number in range(100):
                peer.send(Op.CREATE, create(f"/{number}", data=b"%d" % number))
            zxids = [peer.receive().zxid for _ in range(100)]
            peer.send(Op.CREATE, create("/0"))
            last = peer.receive()
            assert (last.error, last.zxid) == (-110, zxids[-1] + 1)
        server.restart()
        with Peer(server.address, peer.session, peer.password, zxid=last.zxid) as back:
            answers = [back.ask(Op.GET_DATA, pack_string(f"/{number}") + b"\0") for number in range(100)]
            assert [answer.body[:-68] for answer in answers] == [pack_buffer(b"%d" % n) for n in range(100)]
            assert answers[0].zxid > last.zxid
