"""The registry without sockets: packets in, packets out, changes noted."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaq.registry.access import digest_of
from metaq.registry.answers import EventKind, connected
from metaq.registry.changes import Begin, Internal, Nothing
from metaq.registry.clients import Client
from metaq.registry.jute import INT, LONG, Reader, pack_buffer, pack_string, pack_vector
from metaq.registry.requests import ANYBODY, Acl, Check, Create, Delete, Mode, Multi, Op, Request, SetAcl, SetData
from metaq.registry.state import State
from tests.unit.registry.talk import START, Talk, change, create, decoded, greeting, look, packet

CREATED, DELETED, CHANGED, CHILDREN = EventKind
AUTH_ANN = packet(-4, Op.AUTH, INT.pack(0) + pack_string("digest") + pack_buffer(b"ann:1"))


def session_of(client: Client) -> tuple[int, int, bytes]:
    """Return time-out, id and password that a client was greeted with."""
    reader = Reader(client.outputs[0])
    length, protocol, timeout, session = reader.read_int(), reader.read_int(), reader.read_int(), reader.read_long()
    password = reader.read_buffer()
    assert (length, protocol) == (len(client.outputs[0]) - 4, 0)
    assert password is not None
    return timeout, session, password


# sessions


def test_a_session_is_given_and_noted() -> None:
    talk = Talk()
    client = talk.client()
    timeout, session, password = session_of(client)
    assert (timeout, len(password)) == (4000, 16)
    assert client.outputs == [connected(4000, session, password)]
    start, begin = talk.book.changes
    assert start == (talk.zxid(0), START[1], 0, Internal.START, Nothing())
    assert begin == (talk.zxid(1), START[1], session, Internal.BEGIN_SESSION, Begin(4000, password))


def test_a_client_of_old_is_greeted_without_the_flag_it_does_not_know() -> None:
    client = Talk().client(greeting()[:-1])
    timeout, session, password = session_of(client)
    assert client.outputs == [connected(timeout, session, password, brief=True)]


def test_every_start_is_an_epoch() -> None:
    state = State.fresh()
    zxids = [Talk(state).book.changes[0].zxid for _ in range(3)]
    assert zxids == [1 << 32, 2 << 32, 3 << 32]


def test_who_comes_back_with_its_password_has_its_session_and_its_old_connection_is_dropped() -> None:
    talk = Talk()
    old = talk.client()
    _, session, password = session_of(old)
    old.outputs.clear()
    talk.say(old, look(1, Op.EXISTS, "/a", watch=True))
    new = talk.client(greeting(session, password, timeout=9000))
    assert session_of(new) == (9000, session, password)
    assert old.dropped
    assert set(talk.machine.take()[0]) == {old, new}
    new.outputs.clear()
    assert talk.say(new, create(1, "/a", Mode.EPHEMERAL)) == [(1, talk.zxid(2), 0)]
    assert talk.say(old, look(2, Op.EXISTS, "/a")) == []  # nor was it told of /a
    assert talk.state.tree.owned(session) == ["/a"]


@pytest.mark.parametrize("wrong", ["password", "length of the password", "session", "ended"])
def test_nobody_else_gets_a_session(wrong: str) -> None:
    talk = Talk()
    owner = talk.client()
    _, session, password = session_of(owner)
    if wrong == "ended":
        talk.say(owner, packet(1, Op.CLOSE))
    asked = {
        "password": greeting(session, bytes(16)),
        "length of the password": greeting(session, password[:8]),
        "session": greeting(session + 1, password),
        "ended": greeting(session, password),
    }[wrong]
    client = talk.client(asked)
    assert client.outputs == [connected(0, 0, bytes(16))]
    assert client.closing
    assert not client.dropped
    assert not owner.dropped


def test_who_has_seen_more_than_we_know_is_closed_without_an_answer() -> None:
    talk = Talk()
    client = talk.client(greeting(zxid=talk.zxid(1)))
    assert (client.outputs, client.closing) == ([], True)
    assert talk.client(greeting(zxid=talk.zxid(0))).outputs


def test_an_expired_session_takes_its_nodes_with_it_and_its_watchers_are_told() -> None:
    talk = Talk()
    client, other = talk.begin(), talk.begin()
    talk.say(client, create(1, "/a"), create(2, "/a/e", Mode.EPHEMERAL), look(3, Op.EXISTS, "/a/e", watch=True))
    talk.say(other, look(1, Op.GET_DATA, "/a/e", watch=True), look(2, Op.GET_CHILDREN, "/a", watch=True))
    session = client.session
    assert session is not None
    for _ in range(4):
        talk.wait(1)
        assert talk.say(other, packet(-2, Op.PING)) == [(-2, talk.zxid(4), 0)]
    talk.wait(1)
    assert talk.hear(other) == [(DELETED, "/a/e"), (CHILDREN, "/a")]
    assert talk.hear(client) == [(DELETED, "/a/e")]
    assert client.closing
    assert talk.book.changes[-1][2:] == (session.id, Internal.END_SESSION, Nothing())
    assert set(talk.state.sessions) == {other.session.id if other.session else 0}


def test_a_session_without_connection_waits_for_its_client() -> None:
    talk = Talk()
    client = talk.client()
    _, session, password = session_of(client)
    talk.machine.leave(client)
    talk.wait(4)
    back = talk.client(greeting(session, password))
    assert session_of(back)[1] == session
    talk.machine.leave(back)
    talk.wait(5)
    assert not talk.state.sessions


def test_a_closed_session_is_answered_and_nothing_behind_that_is_done() -> None:
    talk = Talk()
    client = talk.begin()
    talk.say(client, create(1, "/e", Mode.EPHEMERAL))
    assert talk.say(client, packet(2, Op.CLOSE), create(3, "/later")) == [(2, talk.zxid(3), 0)]
    assert client.closing
    assert set(talk.state.tree.nodes) == set(State.fresh().tree.nodes)
    assert not talk.state.sessions


# requests


def test_attempts_take_zxids_and_every_answer_has_the_latest() -> None:
    talk = Talk()
    client = talk.begin()
    assert talk.say(
        client,
        create(1, "/a"),
        create(2, "/a"),
        look(3, Op.GET_DATA, "/a"),
        change(4, Op.CHECK, Check("/a", 7)),
        change(5, Op.CHECK, Check("/a", 0)),  # succeeds, and is not answered
        packet(6, Op.MULTI, INT.pack(99)),
        packet(-2, Op.PING),
    ) == [
        (1, talk.zxid(2), 0), (2, talk.zxid(3), -110), (3, talk.zxid(3), 0), (4, talk.zxid(4), -103),
        (6, talk.zxid(6), -5), (-2, talk.zxid(6), 0),
    ]  # fmt: skip
    assert [each.zxid for each in talk.book.changes] == [talk.zxid(0), talk.zxid(1), talk.zxid(2)]


def test_an_event_comes_before_the_answer_that_shows_its_change() -> None:
    talk = Talk()
    client = talk.begin()
    watch = look(1, Op.EXISTS, "/a", watch=True)
    assert talk.say(client, watch, create(2, "/a"), look(3, Op.GET_DATA, "/a")) == [
        (1, talk.zxid(1), -101), (CREATED, "/a"), (2, talk.zxid(2), 0), (3, talk.zxid(2), 0),
    ]  # fmt: skip


def test_others_are_told_in_the_order_of_changes() -> None:
    talk = Talk()
    client, other = talk.begin(), talk.begin()
    talk.say(client, create(1, "/a"))
    talk.say(other, packet(1, Op.ADD_WATCH, pack_string("/a") + INT.pack(1)))
    operations: list[tuple[Op, Request]] = [
        *[(Op.CREATE, Create(f"/a/{n}", b"", [ANYBODY], Mode.PERSISTENT)) for n in "xy"],
        (Op.SET_DATA, SetData("/a/x", b"1", -1)),
        (Op.DELETE, Delete("/a/y", -1)),
    ]
    multi = Multi(operations)
    talk.say(client, change(2, Op.MULTI, multi), change(3, Op.SET_DATA, SetData("/a", b"", -1)))
    assert talk.hear(other) == [
        (CREATED, "/a/x"), (CREATED, "/a/y"), (CHANGED, "/a/x"), (DELETED, "/a/y"), (CHANGED, "/a"),
    ]  # fmt: skip
    assert talk.book.changes[-2].request == multi


def test_a_multi_that_fails_changes_and_tells_nothing() -> None:
    talk = Talk()
    client, other = talk.begin(), talk.begin()
    talk.say(other, look(1, Op.EXISTS, "/a", watch=True))
    multi = Multi([(Op.CREATE, Create("/a", b"", [ANYBODY], Mode.PERSISTENT)), (Op.DELETE, Delete("/none", -1))])
    assert talk.say(client, change(2, Op.MULTI, multi)) == [(2, talk.zxid(3), 0)]
    assert talk.hear(other) == []
    assert len(talk.book.changes) == 3


def test_who_may_not_read_a_node_is_not_told_of_it() -> None:
    talk = Talk()
    client, other = talk.begin(), talk.begin()
    talk.say(other, packet(1, Op.ADD_WATCH, pack_string("/") + INT.pack(1)))
    ann = Acl(31, "digest", digest_of("ann:1"))
    talk.say(client, AUTH_ANN, create(1, "/secret", acl=[ann]), create(2, "/open"))
    assert talk.hear(other) == [(CREATED, "/open")]
    talk.say(other, AUTH_ANN)
    talk.say(client, change(3, Op.SET_DATA, SetData("/secret", b"", -1)))
    assert talk.hear(other) == [(CHANGED, "/secret")]


def test_the_log_has_the_acl_that_the_node_got() -> None:
    talk = Talk()
    client = talk.begin()
    ann = [Acl(31, "digest", digest_of("ann:1"))]
    auth = [Acl(31, "auth", "")]
    multi = Multi([(Op.CREATE, Create("/c", b"", auth, Mode.PERSISTENT)), (Op.CHECK, Check("/c", -1))])
    talk.say(client, AUTH_ANN, create(1, "/a", acl=auth), create(2, "/b"))
    talk.say(client, change(3, Op.SET_ACL, SetAcl("/b", auth, -1)), change(4, Op.MULTI, multi))
    assert [each.request for each in talk.book.changes[2:]] == [
        Create("/a", b"", ann, Mode.PERSISTENT),
        Create("/b", b"", [ANYBODY], Mode.PERSISTENT),
        SetAcl("/b", ann, -1),
        Multi([(Op.CREATE, Create("/c", b"", ann, Mode.PERSISTENT)), (Op.CHECK, Check("/c", -1))]),
    ]


def test_a_proof_of_an_unknown_scheme_ends_the_connection_and_leaves_the_session() -> None:
    talk = Talk()
    client = talk.begin()
    bad = packet(-4, Op.AUTH, INT.pack(0) + pack_string("sasl") + pack_buffer(b""))
    assert talk.say(client, AUTH_ANN, bad, create(1, "/a")) == [(-4, 0, 0), (-4, 0, -115)]
    assert client.closing
    assert talk.state.sessions


def test_types_that_are_not_served_are_answered_and_the_connection_is_good() -> None:
    talk = Talk()
    client = talk.begin()
    packets = [packet(1, 99), packet(2, 16, b"anything"), packet(3, -10), look(4, Op.EXISTS, "/")]
    assert [answer[::2] for answer in talk.say(client, *packets)] == [(1, -6), (2, -6), (3, -6), (4, 0)]
    assert not client.closing


def test_what_is_no_request_at_all_ends_its_connection_only(caplog: pytest.LogCaptureFixture) -> None:
    talk = Talk()
    client, other = talk.begin(), talk.begin()
    assert talk.say(client, create(1, "/a"), b"\0\0\0", create(2, "/b")) == [(1, talk.zxid(3), 0)]
    assert client.closing
    assert "10.0.0.1 (session 0x" in caplog.text
    assert talk.say(other, look(1, Op.EXISTS, "/a")) == [(1, talk.zxid(3), 0)]


def test_a_client_that_is_back_hears_what_it_missed_before_the_answer() -> None:
    talk = Talk()
    client = talk.begin()
    talk.say(client, create(1, "/a"))
    lists = b"".join(map(pack_vector, ([pack_string("/a")], [pack_string("/b")], [pack_string("/c")])))
    assert talk.say(client, packet(-8, Op.SET_WATCHES, LONG.pack(talk.zxid(1)) + lists), create(2, "/b")) == [
        (CHANGED, "/a"), (DELETED, "/c"), (-8, talk.zxid(2), 0), (CREATED, "/b"), (2, talk.zxid(3), 0),
    ]  # fmt: skip


def test_containers_go_when_their_last_child_has_gone() -> None:
    talk = Talk()
    client = talk.begin()
    talk.say(client, create(1, "/new", Mode.CONTAINER), create(2, "/c", Mode.CONTAINER), create(3, "/c/x"))
    talk.machine.remove_containers()
    talk.say(client, change(4, Op.DELETE, Delete("/c/x", -1)), look(5, Op.EXISTS, "/c", watch=True))
    talk.machine.remove_containers()
    assert talk.hear(client) == [(DELETED, "/c")]
    assert set(talk.state.tree.nodes) == {*State.fresh().tree.nodes, "/new"}
    assert talk.book.changes[-1] == (talk.zxid(6), START[1], 0, Op.DELETE, Delete("/c", -1))


# laws

PATHS = st.sampled_from(["/a", "/b", "/a/x", "/a/y", "/a/x/1", "/"])
ACLS = st.sampled_from([[ANYBODY], [ANYBODY], [Acl(31, "auth", "")], [Acl(5, "world", "anyone")], []])
VERSIONS = st.sampled_from([-1, -1, 0, 1])
SINGLE = st.one_of(
    st.tuples(
        st.sampled_from([Op.CREATE, Op.CREATE2, Op.CREATE_CONTAINER]),
        st.builds(Create, PATHS, st.sampled_from([None, b"x"]), ACLS, st.sampled_from(Mode)),
    ),
    st.tuples(st.just(Op.DELETE), st.builds(Delete, PATHS, VERSIONS)),
    st.tuples(st.just(Op.SET_DATA), st.builds(SetData, PATHS, st.just(b"y"), VERSIONS)),
)
CHANGES = st.one_of(
    SINGLE,
    st.tuples(st.just(Op.SET_ACL), st.builds(SetAcl, PATHS, ACLS, VERSIONS)),
    st.tuples(st.just(Op.MULTI), st.builds(Multi, st.lists(SINGLE, max_size=4))),
)


@given(st.lists(st.tuples(st.integers(0, 1), CHANGES | st.sampled_from(["auth", "close", "wait"])), max_size=30))
def test_what_was_noted_makes_the_same_state_again(steps: list[tuple[int, object]]) -> None:
    talk = Talk()
    clients = [talk.begin(), talk.begin()]
    for who, step in steps:
        if step == "wait":
            talk.wait(2)
            talk.machine.remove_containers()
        elif isinstance(step, tuple):
            talk.say(clients[who], change(1, *step))
        else:
            talk.say(clients[who], AUTH_ANN if step == "auth" else packet(1, Op.CLOSE))
        if clients[who].closing:
            clients[who] = talk.begin()
    again = State.fresh()
    for each in talk.book.changes:
        again.replay(each)
    assert again.sessions == talk.state.sessions
    assert again.tree.nodes == talk.state.tree.nodes
    assert again.tree.containers == talk.state.tree.containers
    assert again.zxid <= talk.state.zxid


@given(st.lists(st.binary(max_size=40), max_size=5), st.booleans())
def test_any_packets_are_answered_or_end_their_connection(packets: list[bytes], greeted: bool) -> None:
    talk = Talk()
    client = talk.begin() if greeted else Client("10.0.0.2")
    talk.machine.receive(client, packets)
    assert client.closing or len(client.outputs) >= len(packets) - 1
    assert talk.say(talk.begin(), look(1, Op.EXISTS, "/"))[0][2] == 0


@given(st.sampled_from(Op), st.binary(max_size=60), st.integers(-(1 << 31), (1 << 31) - 1))
def test_any_fields_are_answered(op: Op, body: bytes, xid: int) -> None:
    talk = Talk()
    client = talk.begin()
    talk.machine.receive(client, [packet(xid, op, body)])
    answers = [decoded(output) for output in client.outputs if xid != -1]
    assert xid == -1 or op is Op.CHECK or [answer for answer in answers if len(answer) == 3]


def test_ten_thousand_clients_watch_one_node() -> None:
    talk = Talk()
    clients = [talk.begin() for _ in range(10_000)]
    for client in clients:
        talk.machine.receive(client, [look(1, Op.EXISTS, "/a", watch=True)])
        client.outputs.clear()
    talk.machine.take()
    began = time.process_time()
    talk.say(clients[0], create(2, "/a"))
    assert time.process_time() - began < 1.0
    touched, changed = talk.machine.take()
    assert (len(touched), changed) == (10_000, True)
    assert talk.hear(clients[-1]) == [(CREATED, "/a")]
