"""Nodes in memory: what a change does, and that it is done whole or not at all."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaq.registry.answers import Code, EventKind
from metaq.registry.paths import is_valid
from metaq.registry.requests import ANYBODY, Acl, Check, Create, Delete, Mode, Op, Request, SetAcl, SetData
from metaq.registry.tree import CONTAINER, NO_CHILDREN, Moment, Refusal, Tree, Znode

NOW = Moment(zxid=7, time=1000, session=5)


def create(path: str, mode: Mode = Mode.PERSISTENT, data: bytes | None = b"") -> Create:
    return Create(path, data, [ANYBODY], mode)


def made(*requests: Create) -> Tree:
    tree = Tree()
    for request in requests:
        tree.apply(Op.CREATE, request, NOW)
    tree.events.clear()
    return tree


def refused(tree: Tree, op: Op, request: Request) -> Code:
    with pytest.raises(Refusal) as caught:
        tree.apply(op, request, NOW)
    return caught.value.code


@pytest.mark.parametrize("path", ["/", "/a", "/a/b", "/ü", "/...", "/a b"])
def test_good_paths(path: str) -> None:
    assert is_valid(path)


@pytest.mark.parametrize("path", ["", "a", "/a/", "//", "//a", "/a//b", "/.", "/a/..", "/a\0", "/a\x9f", "/\ue000"])
def test_paths_that_zookeeper_refuses(path: str) -> None:
    assert not is_valid(path)
    assert refused(made(create("/a")), Op.CREATE, create(path)) in (Code.BAD_ARGUMENTS, Code.NO_NODE)
    assert refused(Tree(), Op.SET_DATA, SetData(path, b"", -1)) == Code.BAD_ARGUMENTS


def test_why_a_node_is_not_created() -> None:
    tree = made(create("/a"), create("/e", Mode.EPHEMERAL))
    assert refused(tree, Op.CREATE, create("/")) == Code.NODE_EXISTS
    assert refused(tree, Op.CREATE, create("/a")) == Code.NODE_EXISTS
    assert refused(tree, Op.CREATE, create("/b/c")) == Code.NO_NODE
    assert refused(tree, Op.CREATE, create("/e/c")) == Code.NO_CHILDREN_FOR_EPHEMERALS
    assert refused(tree, Op.CREATE_TTL, create("/t", Mode.PERSISTENT_TTL)) == Code.UNIMPLEMENTED
    assert tree.events == []


def test_sequential_names_go_on_after_their_nodes_have_gone() -> None:
    tree = made(create("/a"))
    answers = [tree.apply(Op.CREATE, create("/a/n-", Mode.PERSISTENT_SEQUENTIAL), NOW) for _ in range(2)]
    assert answers[1].endswith(b"/a/n-0000000001")
    tree.apply(Op.DELETE, Delete("/a/n-0000000001", -1), NOW)
    assert tree.apply(Op.CREATE, create("/a/", Mode.EPHEMERAL_SEQUENTIAL), NOW).endswith(b"/a/0000000002")
    assert tree.nodes["/a"].stat()[5:] == (4, 0, 0, 0, 2, 7)  # three creations, one deletion; two children


def test_versions_guard_changes() -> None:
    tree = made(create("/a"))
    tree.apply(Op.SET_DATA, SetData("/a", b"xy", 0), NOW)
    assert refused(tree, Op.SET_DATA, SetData("/a", b"", 0)) == Code.BAD_VERSION
    assert refused(tree, Op.DELETE, Delete("/a", 0)) == Code.BAD_VERSION
    assert refused(tree, Op.CHECK, Check("/a", 2)) == Code.BAD_VERSION
    assert refused(tree, Op.SET_ACL, SetAcl("/a", [ANYBODY], 1)) == Code.BAD_VERSION
    assert tree.apply(Op.CHECK, Check("/a", 1), NOW) == b""
    tree.apply(Op.SET_ACL, SetAcl("/a", [ANYBODY], 0), NOW)
    assert tree.nodes["/a"].stat()[4:9] == (1, 0, 1, 0, 2)
    assert refused(made(create("/a"), create("/a/b")), Op.DELETE, Delete("/a", -1)) == Code.NOT_EMPTY
    assert refused(tree, Op.DELETE, Delete("/", -1)) == Code.BAD_ARGUMENTS


def test_ephemeral_nodes_go_with_their_session() -> None:
    tree = made(create("/a"), create("/a/e", Mode.EPHEMERAL))
    tree.apply(Op.CREATE_CONTAINER, create("/c", Mode.CONTAINER), NOW)
    tree.events.clear()
    assert (tree.owned(5), tree.nodes["/c"].owner) == (["/a/e"], CONTAINER)
    tree.end_session(5, Moment(9, 2000, 5))
    assert (sorted(tree.nodes), tree.owned(5)) == (["/", "/a", "/c"], [])
    assert [each[:2] for each in tree.events] == [(EventKind.DELETED, "/a/e"), (EventKind.CHILDREN, "/a")]
    assert tree.nodes["/a"].children_zxid == 9


def test_nodes_below_are_counted_at_any_depth() -> None:
    tree = made(create("/a"), create("/a/b"), create("/a/b/c"), create("/ab"))
    assert [tree.count_below(path) for path in ("/", "/a", "/ab")] == [4, 2, 0]


def test_a_multi_says_what_failed_and_what_that_undid() -> None:
    tree = made(create("/a"))
    before = state(tree)
    operations: list[tuple[Op, Request]] = [
        (Op.CREATE, create("/b")),
        (Op.SET_DATA, SetData("/a", b"x", -1)),
        (Op.DELETE, Delete("/c", -1)),
        (Op.CHECK, Check("/a", 0)),
    ]
    assert tree.apply_all(operations, NOW) == (False, [Code.OK, Code.OK, Code.NO_NODE, Code.ROLLED_BACK])
    assert (state(tree), tree.events) == (before, [])
    assert tree.apply_all(operations[:2], NOW)[0]
    assert [each.kind for each in tree.events] == [EventKind.CREATED, EventKind.CHILDREN, EventKind.CHANGED]


def state(tree: Tree) -> tuple[dict[str, Znode], list[str]]:
    return deepcopy(tree.nodes), tree.owned(NOW.session)


PATHS = st.sampled_from(["/a", "/b", "/a/x", "/a/y", "/a/x/1", "/b/x"])
VERSIONS = st.sampled_from([-1, -1, 0, 1])
CHANGES = st.one_of(
    st.tuples(st.just(Op.CREATE), st.builds(create, PATHS, st.sampled_from([Mode(0), Mode(1), Mode(2)]))),
    st.tuples(st.just(Op.DELETE), st.builds(Delete, PATHS, VERSIONS)),
    st.tuples(st.just(Op.SET_DATA), st.builds(SetData, PATHS, st.binary(max_size=3), VERSIONS)),
    st.tuples(st.just(Op.SET_ACL), st.builds(SetAcl, PATHS, st.just([ANYBODY]), VERSIONS)),
    st.tuples(st.just(Op.CHECK), st.builds(Check, PATHS, VERSIONS)),
)


@given(st.lists(st.lists(CHANGES, max_size=4), max_size=12))
def test_what_fails_leaves_no_trace_and_what_is_left_hangs_together(multis: list[list[tuple[Op, Request]]]) -> None:
    tree = Tree()
    for operations in multis:
        before = state(tree)
        events = len(tree.events)
        good, results = tree.apply_all(operations, NOW)
        assert len(results) == len(operations)
        if not good:
            assert (state(tree), len(tree.events)) == (before, events)
    for path, node in tree.nodes.items():
        assert path == "/" or path.rpartition("/")[2] in tree.nodes[path.rpartition("/")[0] or "/"].children
        assert all(f"{path.rstrip('/')}/{name}" in tree.nodes for name in node.children)
    assert tree.owned(5) == sorted(path for path, node in tree.nodes.items() if node.owner == 5)


def told(nodes: dict[str, Znode]) -> dict[str, Znode]:
    """Return copies of nodes, without their children."""
    return {path: replace(node, children=NO_CHILDREN) for path, node in nodes.items()}


@given(st.lists(CHANGES, max_size=20), st.lists(st.lists(CHANGES, max_size=4), max_size=12))
def test_what_was_captured_stays_as_it_was_while_changes_go_on(
    first: list[tuple[Op, Request]], later: list[list[tuple[Op, Request]]]
) -> None:
    tree = Tree()
    for change in first:
        tree.apply_all([change], NOW)
    before = told(tree.nodes)
    captured = tree.capture()
    for operations in later:
        tree.apply_all(operations, Moment(8, 2000, 5))
    tree.end_session(5, Moment(9, 3000, 5))
    assert told(captured) == before
    tree.release()
    again = Tree.restored(told(tree.nodes).items())
    assert {path: node.stat() for path, node in again.nodes.items()} == {
        path: node.stat() for path, node in tree.nodes.items()
    }


def test_a_fresh_tree_has_the_nodes_of_every_server_and_keeps_them() -> None:
    tree = Tree.fresh()
    stats = {path: tuple(node.stat()) for path, node in tree.nodes.items()}
    assert stats == {
        "/": (0, 0, 0, 0, 0, -1, 0, 0, 0, 1, 0),
        "/zookeeper": (0, 0, 0, 0, 0, -2, 0, 0, 0, 2, 0),
        "/zookeeper/quota": (0,) * 11,
        "/zookeeper/config": (0, 0, 0, 0, 0, 0, -1, 0, 0, 0, 0),
    }
    assert [acl.permissions for acl in tree.nodes["/zookeeper/config"].acl] == [1]
    for path in stats:
        assert refused(tree, Op.DELETE, Delete(path, -1)) == Code.BAD_ARGUMENTS


def test_containers_are_known_while_they_are_there() -> None:
    tree = made()
    tree.apply(Op.CREATE_CONTAINER, create("/c", Mode.CONTAINER), NOW)
    tree.apply(Op.CREATE, create("/plain", Mode.CONTAINER), NOW)
    assert tree.containers == {"/c"}
    tree.apply(Op.CREATE, create("/c/x"), NOW)
    assert Tree.restored(tree.nodes.items()).containers == {"/c"}
    tree.apply(Op.DELETE, Delete("/c/x", -1), NOW)
    tree.apply(Op.DELETE, Delete("/c", -1), NOW)
    assert not tree.containers


class Nobody:
    """Makes every ACL its own, and may do nothing at all."""

    def fix(self, acl: Sequence[Acl]) -> Sequence[Acl]:
        return [Acl(31, "digest", "nobody:")]

    def check(self, acl: Sequence[Acl], permission: int) -> None:
        raise Refusal(Code.NO_AUTH)


def test_what_somebody_may_do_is_looked_at_after_the_path_and_before_the_version() -> None:
    tree = made(create("/a"), create("/a/x"))
    nobody = NOW._replace(rights=Nobody())
    refusals: list[tuple[Op, Request, Code]] = [
        (Op.CREATE, Create("/a", b"", [], Mode.PERSISTENT), Code.NO_AUTH),
        (Op.CREATE, Create("/none/x", b"", [], Mode.PERSISTENT), Code.NO_NODE),
        (Op.CREATE, Create("a", b"", [], Mode.PERSISTENT), Code.BAD_ARGUMENTS),
        (Op.DELETE, Delete("/a", 7), Code.NO_AUTH),
        (Op.DELETE, Delete("/a/none", 7), Code.NO_AUTH),
        (Op.DELETE, Delete("/none/x", 7), Code.NO_NODE),
        (Op.SET_DATA, SetData("/a", b"", 7), Code.NO_AUTH),
        (Op.SET_DATA, SetData("/none", b"", 7), Code.NO_NODE),
        (Op.SET_ACL, SetAcl("/a", [], 7), Code.NO_AUTH),
        (Op.CHECK, Check("/a", 7), Code.NO_AUTH),
    ]
    for op, request, code in refusals:
        with pytest.raises(Refusal) as caught:
            tree.apply(op, request, nobody)
        assert caught.value.code == code, (op, request)


def test_modes_that_are_none_are_bad_arguments() -> None:
    assert refused(Tree(), Op.CREATE, create("/a", Mode.UNKNOWN)) == Code.BAD_ARGUMENTS
    assert refused(Tree(), Op.CREATE_TTL, create("/a")) == Code.BAD_ARGUMENTS
