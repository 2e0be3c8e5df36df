"""Who is told of what."""

import time
from collections.abc import Iterable

import pytest

from metaq.registry.answers import EventKind
from metaq.registry.requests import ANYBODY, Create, Delete, Mode, Op, SetData, SetWatches
from metaq.registry.tree import Moment, Tree
from metaq.registry.watches import KINDS, Kind, Watches, take_up

CREATED, DELETED, CHANGED, CHILDREN = EventKind


def watched(*watches: tuple[str, Kind, str]) -> Watches[str]:
    made: Watches[str] = Watches()
    for watcher, kind, path in watches:
        made.add(watcher, kind, path)
    return made


def heard(watches: Watches[str], *events: tuple[EventKind, str]) -> list[list[str]]:
    return [list(watches.hear(kind, path)) for kind, path in events]


def test_one_shot_watches_tell_once_of_what_they_are_for() -> None:
    watches = watched(("data", Kind.DATA, "/a"), ("children", Kind.CHILDREN, "/a"))
    assert heard(watches, (CHANGED, "/b"), (CHANGED, "/a"), (CHANGED, "/a"), (DELETED, "/a"), (DELETED, "/a")) == [
        [], ["data"], [], ["children"], [],
    ]  # fmt: skip
    assert len(watches) == 0


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (Kind.DATA, {CREATED, CHANGED, DELETED}),
        (Kind.CHILDREN, {CHILDREN, DELETED}),
        (Kind.PERSISTENT, {CREATED, CHANGED, DELETED, CHILDREN}),
        (Kind.RECURSIVE, {CREATED, CHANGED, DELETED}),
    ],
)
def test_which_events_a_kind_is_told(kind: Kind, told: set[EventKind]) -> None:
    assert {event for event in EventKind if heard(watched(("me", kind, "/a")), (event, "/a")) == [["me"]]} == told


def test_recursive_watches_hear_of_all_below_them_and_of_nothing_beside() -> None:
    watches = watched(("root", Kind.RECURSIVE, "/"), ("a", Kind.RECURSIVE, "/a"))
    events = (CREATED, "/a/x/1"), (CHANGED, "/ab"), (DELETED, "/a"), (CHILDREN, "/a/x"), (CHANGED, "/")
    assert heard(watches, *events) == [["a", "root"], ["root"], ["a", "root"], [], ["root"]]


def test_a_deletion_is_told_once_to_who_watches_in_all_ways() -> None:
    watches = watched(*(("me", kind, "/a") for kind in KINDS))
    assert heard(watches, (DELETED, "/a"), (DELETED, "/a")) == [["me"], ["me"]]
    assert [watches.has("me", kind, "/a") for kind in KINDS] == [False, False, True, True]


def test_a_one_shot_watch_leaves_a_persistent_one_alone() -> None:
    watches = watched(("me", Kind.PERSISTENT, "/a"), ("me", Kind.DATA, "/a"))
    assert heard(watches, (CHANGED, "/a"), (CHANGED, "/a")) == [["me"], ["me"]]


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_removed_by_itself_or_with_all_others(kind: Kind) -> None:
    everything = [(who, each, "/a") for who in ("me", "you") for each in KINDS]
    watches = watched(*everything)
    assert watches.remove("me", kind, "/a")
    assert not watches.remove("me", kind, "/a")
    assert {each for each in KINDS if watches.has("me", each, "/a")} == set(KINDS) - {kind}
    assert watches.has("me", Kind.ANY, "/a")
    assert watches.remove("me", Kind.ANY, "/a")
    assert not watches.remove("me", Kind.ANY, "/a")
    assert not watches.has("me", Kind.ANY, "/a")
    assert len(watches) == len(KINDS)


def test_who_has_gone_is_told_nothing() -> None:
    watches = watched(*((who, kind, path) for who in ("me", "you") for kind in KINDS for path in ("/", "/a")))
    watches.forget("me")
    watches.forget("nobody")
    assert heard(watches, (DELETED, "/a")) == [["you"]]
    assert not watches.has("me", Kind.ANY, "/a")


def test_watchers_are_told_in_the_order_in_which_they_came() -> None:
    names = [str(number) for number in range(50)]
    assert heard(watched(*((name, Kind.DATA, "/a") for name in names)), (CHANGED, "/a")) == [names]


def quick(work: Iterable[object]) -> float:
    began = time.process_time()
    for _ in work:
        pass
    return time.process_time() - began


def test_ten_thousand_watchers_of_one_node_cost_what_they_are_told() -> None:
    watches: Watches[int] = Watches()
    for number in range(10_000):
        watches.add(number, Kind.CHILDREN, "/a")
        watches.add(number, Kind.DATA, f"/{number}")
    few = quick(watches.hear(CHANGED, f"/{number}") for number in range(0, 10_000, 10))
    told = list(watches.hear(CHILDREN, "/a"))
    assert told == list(range(10_000))
    assert few < 0.5  # a thousand events that one each hears; looking at all watchers each time took seconds


def test_who_is_back_hears_what_was_missed_and_watches_the_rest() -> None:
    tree = Tree()
    for zxid, path in enumerate(("/old", "/new", "/gone", "/old/x"), 1):
        tree.apply(Op.CREATE, Create(path, b"", [ANYBODY], Mode.PERSISTENT), Moment(zxid, 0, 0))
    tree.apply(Op.SET_DATA, SetData("/new", b"1", -1), Moment(10, 0, 0))
    tree.apply(Op.DELETE, Delete("/gone", -1), Moment(11, 0, 0))
    tree.apply(Op.CREATE, Create("/new/x", b"", [ANYBODY], Mode.PERSISTENT), Moment(12, 0, 0))
    watches: Watches[str] = Watches()
    paths = ["/old", "/new", "/gone"]
    missed = take_up(watches, "me", SetWatches(5, paths, paths, paths, ["/p"], ["/r"]), tree)
    assert missed == [
        (CHANGED, "/new"), (DELETED, "/gone"),
        (CREATED, "/old"), (CREATED, "/new"),
        (CHILDREN, "/new"), (DELETED, "/gone"),
    ]  # fmt: skip
    kept = [(kind, path) for kind in KINDS for path in (*paths, "/p", "/r") if watches.has("me", kind, path)]
    assert kept == [
        (Kind.CHILDREN, "/old"), (Kind.DATA, "/old"), (Kind.DATA, "/gone"),
        (Kind.PERSISTENT, "/p"), (Kind.RECURSIVE, "/r"),
    ]  # fmt: skip
