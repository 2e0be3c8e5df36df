"""The registry's codec against kazoo's, and against bytes that are no packets."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kazoo.exceptions import NoNodeError, RuntimeInconsistency  # type: ignore[import-untyped]
from kazoo.protocol import serialization as kazoo  # type: ignore[import-untyped]
from kazoo.protocol.states import ZnodeStat  # type: ignore[import-untyped]
from kazoo.security import ACL, Id  # type: ignore[import-untyped]

from metaq.errors import ProtocolError
from metaq.registry import answers
from metaq.registry.answers import Code, EventKind, Stat
from metaq.registry.jute import INT, LONG, pack_buffer, pack_string, pack_vector
from metaq.registry.requests import (
    Acl,
    Auth,
    Bare,
    Check,
    Connect,
    Create,
    Delete,
    Look,
    Malformed,
    Mode,
    Multi,
    Name,
    Op,
    Permission,
    SetAcl,
    SetData,
    SetWatches,
    UnknownOp,
    Watching,
    read_connect,
    read_request,
)

OPEN = [ACL(31, Id("world", "anyone"))]
OPEN_TO_ALL = [Acl(31, "world", "anyone")]
STAT = Stat(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11)


def watch(_: object) -> None: ...


ASKED = [
    (kazoo.Create("/a", b"x", OPEN, 3), Create("/a", b"x", OPEN_TO_ALL, Mode.EPHEMERAL_SEQUENTIAL)),
    (kazoo.Create2("/a", None, OPEN, 0), Create("/a", None, OPEN_TO_ALL, Mode.PERSISTENT)),
    (kazoo.Delete("/a", -1), Delete("/a", -1)),
    (kazoo.Exists("/ü", watch), Look("/ü", True)),
    (kazoo.GetData("/a", None), Look("/a", False)),
    (kazoo.SetData("/a", b"", 7), SetData("/a", b"", 7)),
    (kazoo.GetACL("/a"), Name("/a")),
    (kazoo.SetACL("/a", OPEN, 2), SetAcl("/a", OPEN_TO_ALL, 2)),
    (kazoo.GetChildren("/a", None), Look("/a", False)),
    (kazoo.GetChildren2("/a", watch), Look("/a", True)),
    (kazoo.Sync("/a"), Name("/a")),
    (kazoo.CheckVersion("/a", 3), Check("/a", 3)),
    (kazoo.Auth(0, "digest", "user:password"), Auth("digest", b"user:password")),
    (
        kazoo.Transaction([kazoo.Create("/a", b"", OPEN, 1), kazoo.CheckVersion("/b", 1), kazoo.Delete("/c", 4)]),
        Multi(
            [
                (Op.CREATE, Create("/a", b"", OPEN_TO_ALL, Mode.EPHEMERAL)),
                (Op.CHECK, Check("/b", 1)),
                (Op.DELETE, Delete("/c", 4)),
            ]
        ),
    ),
    (kazoo.Ping(), Bare()),
    (kazoo.Close(), Bare()),
]


def packet(asked: Any) -> bytes:
    """Return a request of kazoo as it goes on the wire, with the xid 9."""
    body = bytes(asked.serialize()) if hasattr(asked, "serialize") else b""
    return INT.pack(9) + INT.pack(asked.type) + body


@pytest.mark.parametrize(("asked", "read"), ASKED, ids=lambda value: type(value).__name__)
def test_what_kazoo_asks_is_read_as_it_was_meant(asked: Any, read: object) -> None:
    assert read_request(packet(asked)) == (9, Op(asked.type), read)


def request(op: Op, *parts: bytes) -> bytes:
    return INT.pack(1) + INT.pack(op) + b"".join(parts)


def paths(*names: str) -> bytes:
    return pack_vector([pack_string(name) for name in names])


def test_what_kazoo_never_asks_is_read_too() -> None:
    acl = pack_vector([INT.pack(1) + pack_string("auth") + pack_string("")])
    with_ttl = request(Op.CREATE_TTL, pack_string("/a"), pack_buffer(None), acl, INT.pack(5), LONG.pack(1000))
    assert read_request(with_ttl)[2] == Create(
        "/a", None, [Acl(Permission.READ, "auth", "")], Mode.PERSISTENT_TTL, 1000
    )
    looked = INT.pack(Op.GET_DATA) + b"\0" + INT.pack(-1) + pack_string("/a") + b"\0"
    several = request(Op.MULTI_READ, looked, INT.pack(-1), b"\1", INT.pack(-1))
    assert read_request(several)[2] == Multi([(Op.GET_DATA, Look("/a", False))])
    again = request(Op.SET_WATCHES, LONG.pack(5), paths("/a"), paths(), paths("/b", "/c"))
    assert read_request(again)[2] == SetWatches(5, ["/a"], [], ["/b", "/c"], [], [])
    all_kinds = request(Op.SET_WATCHES2, LONG.pack(5), paths("/a"), paths("/b"), paths("/c"), paths("/d"), paths("/e"))
    assert read_request(all_kinds)[2] == SetWatches(5, ["/a"], ["/b"], ["/c"], ["/d"], ["/e"])
    assert read_request(request(Op.ADD_WATCH, pack_string("/a"), INT.pack(1)))[2] == Watching("/a", 1)
    assert read_request(request(Op.WHO_AM_I))[2] == Bare()


@pytest.mark.parametrize("read_only", [True, False])
def test_the_first_packet_may_lack_the_flag_of_later_clients(read_only: bool) -> None:
    sent = bytes(kazoo.Connect(0, 7, 10_000, 42, b"secret", read_only).serialize())
    assert read_connect(sent) == Connect(0, 7, 10_000, 42, b"secret", read_only)
    assert read_connect(sent[:-1]) == Connect(0, 7, 10_000, 42, b"secret", None)


def test_a_type_that_is_not_served_can_be_answered() -> None:
    with pytest.raises(UnknownOp, match="unknown request type 16") as caught:
        read_request(INT.pack(3) + INT.pack(16))
    assert caught.value.xid == 3


def test_a_mode_that_is_none_is_left_to_the_tree_to_refuse() -> None:
    sent = request(Op.CREATE, pack_string("/a"), pack_buffer(b""), pack_vector([]), INT.pack(9))
    assert read_request(sent)[2] == Create("/a", b"", [], Mode.UNKNOWN)


BROKEN = {
    "ends 4 bytes too early": request(Op.DELETE, pack_string("/a")),
    "a length of -5": request(Op.GET_ACL, INT.pack(-5)),
    "not UTF-8": request(Op.GET_ACL, pack_buffer(b"\xff")),
    "a vector of 2000000000": request(Op.SET_WATCHES, LONG.pack(1), INT.pack(2_000_000_000)),
    "a vector of -2": request(Op.SET_WATCHES, LONG.pack(1), INT.pack(-2)),
    "type 14 within a multi": request(Op.MULTI, INT.pack(14), b"\0", INT.pack(-1)),
}


@pytest.mark.parametrize("why", BROKEN)
def test_a_packet_that_is_broken_is_refused_with_the_reason(why: str) -> None:
    with pytest.raises(Malformed, match=why) as caught:
        read_request(BROKEN[why])
    assert caught.value.xid == 1


@given(st.sampled_from(Op), st.binary(max_size=60))
def test_any_bytes_are_a_request_or_an_error_of_the_protocol(op: Op, data: bytes) -> None:
    try:
        xid, read, _ = read_request(INT.pack(1) + INT.pack(op) + data)
    except ProtocolError:
        return
    assert (xid, read) == (1, op)


@given(st.integers(0, len(ASKED) - 1), st.data())
def test_a_packet_that_is_cut_off_is_never_taken_for_another(number: int, data: st.DataObject) -> None:
    whole = packet(ASKED[number][0])
    with pytest.raises(ProtocolError):
        read_request(whole[: data.draw(st.integers(0, len(whole) - 1))])


def opened(packet: bytes) -> tuple[Any, bytes]:
    """Take the frame off an answer; return its header, as kazoo reads it, and its body."""
    (length,) = INT.unpack_from(packet)
    assert length == len(packet) - 4
    header, offset = kazoo.ReplyHeader.deserialize(packet, 4)
    return header, packet[offset:]


KAZOO_READS: list[tuple[Callable[[bytes, int], object], bytes, object]] = [
    (kazoo.Create.deserialize, pack_string("/a0000000001"), "/a0000000001"),
    (kazoo.Create2.deserialize, pack_string("/a") + answers.pack_stat(STAT), ("/a", ZnodeStat(*STAT))),
    (kazoo.Exists.deserialize, answers.pack_stat(STAT), ZnodeStat(*STAT)),
    (kazoo.GetData.deserialize, answers.pack_data(b"x", STAT), (b"x", ZnodeStat(*STAT))),
    (kazoo.GetData.deserialize, answers.pack_data(None, STAT), (None, ZnodeStat(*STAT))),
    (kazoo.SetData.deserialize, answers.pack_stat(STAT), ZnodeStat(*STAT)),
    (kazoo.GetACL.deserialize, answers.pack_acl(OPEN_TO_ALL, STAT), (OPEN, ZnodeStat(*STAT))),
    (kazoo.GetChildren.deserialize, answers.pack_names(["b", "ü"]), ["b", "ü"]),
    (
        kazoo.GetChildren2.deserialize,
        answers.pack_names(["b"]) + answers.pack_stat(STAT),
        (["b"], ZnodeStat(*STAT)),
    ),
]


@pytest.mark.parametrize(("read", "body", "meant"), KAZOO_READS)
def test_kazoo_reads_what_we_answer(read: Callable[[bytes, int], object], body: bytes, meant: object) -> None:
    header, rest = opened(answers.answer(5, 77, body))
    assert tuple(header) == (5, 77, 0)
    assert read(rest, 0) == meant


def test_kazoo_reads_the_results_of_a_multi() -> None:
    good = answers.pack_results([(Op.CREATE, pack_string("/a")), (Op.SET_DATA, answers.pack_stat(STAT))])
    assert kazoo.Transaction.deserialize(good, 0) == ["/a", ZnodeStat(*STAT)]
    bad = kazoo.Transaction.deserialize(answers.pack_results([Code.NO_NODE, Code.ROLLED_BACK]), 0)
    assert [type(each) for each in bad] == [NoNodeError, RuntimeInconsistency]


def test_kazoo_reads_events_refusals_and_the_greeting() -> None:
    header, body = opened(answers.event(EventKind.CHILDREN, "/a"))
    assert (tuple(header), tuple(kazoo.Watch.deserialize(body, 0)[0])) == ((-1, -1, 0), (4, 3, "/a"))
    header, body = opened(answers.refusal(5, 77, Code.NOT_EMPTY))
    assert (tuple(header), body) == ((5, 77, -111), b"")
    for brief in (True, False):
        greeting = answers.connected(4000, 42, b"secret", brief=brief)
        assert len(greeting) == 4 + INT.unpack_from(greeting)[0]
        assert tuple(kazoo.Connect.deserialize(greeting, 4)[0]) == (0, 0, 4000, 42, b"secret", False)
