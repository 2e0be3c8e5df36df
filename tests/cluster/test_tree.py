"""The Registry, in both forms: one set of promises."""

import asyncio

import pytest

from metaq.cluster.operations import (
    Check,
    Create,
    Delete,
    Node,
    NodeExists,
    NoNode,
    NotEmpty,
    Operation,
    RegistryClosed,
    SessionLost,
    Set,
    State,
)
from metaq.cluster.watching import watch_children, watch_node
from tests.cluster.conftest import Ensemble, until


async def test_parents_are_made_persistent_and_without_data(ensemble: Ensemble) -> None:
    registry = await ensemble.connect()
    await registry.create("/meta/brokers/x", b"1", ephemeral=True)
    assert await registry.get("/meta") == await registry.get("/meta/brokers") == Node(None, 0)
    assert await registry.get("/meta/brokers/x") == Node(b"1", registry.session)


async def test_null_data_and_empty_data_are_told_apart(ensemble: Ensemble) -> None:
    registry = await ensemble.connect()
    await registry.create("/null")
    await registry.create("/empty", b"")
    assert await registry.get("/null") == Node(None, 0)
    assert await registry.get("/empty") == Node(b"", 0)
    await registry.set("/null", b"")
    await registry.set("/empty", None)
    assert await registry.get("/null") == Node(b"", 0)
    assert await registry.get("/empty") == Node(None, 0)


async def test_what_a_node_forbids_is_an_error_of_its_own(ensemble: Ensemble) -> None:
    registry = await ensemble.connect()
    await registry.create("/a/b")
    with pytest.raises(NodeExists, match="/a/b"):
        await registry.create("/a/b")
    with pytest.raises(NotEmpty, match="/a"):
        await registry.delete("/a")
    with pytest.raises(NoNode, match="/c"):
        await registry.set("/c", b"")
    assert await registry.delete("/c") is False
    assert await registry.delete("/a/b") is True
    assert await registry.get("/a/b") is None
    assert not await registry.exists("/a/b")
    assert await registry.exists("/a")


async def test_ensure_makes_what_is_missing_and_leaves_the_rest(ensemble: Ensemble) -> None:
    registry = await ensemble.connect()
    await registry.create("/a", b"data")
    await registry.ensure("/a/b/c")
    await registry.ensure("/a/b/c")
    assert await registry.get("/a") == Node(b"data", 0)
    assert await registry.get("/a/b/c") == Node(None, 0)


async def test_children_are_sorted_and_a_missing_node_has_none(ensemble: Ensemble) -> None:
    registry = await ensemble.connect()
    for name in ("b", "a", "10", "9"):
        await registry.create(f"/top/{name}")
    assert await registry.children("/top") == ["10", "9", "a", "b"]
    assert await registry.children("/top/a") == []
    assert await registry.children("/none") is None


async def test_each_of_many_operations_has_its_own_outcome(ensemble: Ensemble) -> None:
    registry = await ensemble.connect()
    await registry.create("/t/there", b"old")
    operations: list[Operation] = [
        Create("/t/new", b"1"),
        Create("/t/there", b"2"),
        Set("/t/there", b"3"),
        Delete("/t/none"),
        Create("/no/parent"),
        Check("/t/there"),
        Check("/t/none2"),
        Create("/t/gone"),
        Delete("/t/gone"),
        Create("/t/session", None, ephemeral=True),
    ]
    results = await registry.apply(operations)
    assert [type(each) for each in results] == [
        type(None), NodeExists, type(None), NoNode, NoNode, type(None), NoNode, type(None), type(None), type(None)
    ]  # fmt: skip
    assert await registry.children("/t") == ["new", "session", "there"]
    assert await registry.get("/t/there") == Node(b"3", 0)
    assert await registry.get("/t/session") == Node(None, registry.session)


async def test_thousands_of_operations_all_happen(ensemble: Ensemble) -> None:
    registry = await ensemble.connect()
    await registry.create("/many")
    assert set(await registry.apply([Create(f"/many/{n}", b"x", ephemeral=True) for n in range(3000)])) == {None}
    results = await registry.apply([Delete(f"/many/{n}") for n in range(2990, 3010)])
    assert [error is None for error in results] == [True] * 10 + [False] * 10
    children = await registry.children("/many")
    assert children is not None
    assert len(children) == 2990


async def test_delete_and_create_of_one_path_happen_in_that_order(ensemble: Ensemble) -> None:
    registry = await ensemble.connect()
    for n in range(0, 120, 7):
        await registry.create(f"/t/{n}", b"old")
    await registry.ensure("/t")
    operations: list[Operation] = []
    for n in range(120):
        operations += [Delete(f"/t/{n}"), Create(f"/t/{n}", b"new")]
    results = await registry.apply(operations)
    assert set(results[1::2]) == {None}
    assert {node.data for n in range(120) if (node := await registry.get(f"/t/{n}"))} == {b"new"}


async def test_a_read_is_told_once_that_its_answer_changed(ensemble: Ensemble) -> None:
    ours, theirs = await ensemble.connect(), await ensemble.connect()
    await theirs.create("/a/b", b"1")
    told: list[str] = []
    await ours.get("/a/b", lambda: told.append("data"))
    await ours.children("/a", lambda: told.append("children"))
    await ours.get("/a/later", lambda: told.append("created"))
    await ours.children("/later", lambda: told.append("parent created"))
    await theirs.set("/a/b", b"2")
    await until(lambda: told == ["data"])
    await theirs.create("/a/later")
    await until(lambda: set(told) == {"data", "created", "children"})
    await theirs.create("/later")
    await until(lambda: "parent created" in told)
    await theirs.set("/a/b", b"3")
    await theirs.delete("/a/later")
    assert await ours.get("/a/later") is None
    assert len(told) == 4


async def test_a_deleted_node_is_told_to_who_read_it_and_to_who_listed_its_parent(ensemble: Ensemble) -> None:
    ours, theirs = await ensemble.connect(), await ensemble.connect()
    await theirs.create("/a/b")
    told: list[str] = []
    await ours.exists("/a/b", lambda: told.append("node"))
    await ours.children("/a", lambda: told.append("parent"))
    await theirs.delete("/a/b")
    await until(lambda: sorted(told) == ["node", "parent"])


async def test_watches_follow_a_node_through_its_life(ensemble: Ensemble) -> None:
    ours, theirs = await ensemble.connect(), await ensemble.connect()
    seen: list[Node | None] = []
    listed: list[list[str] | None] = []
    node = watch_node(ours, "/a/b", seen.append)
    children = watch_children(ours, "/a", listed.append)
    await until(lambda: seen == [None] and listed == [None])
    await theirs.create("/a/b", b"1")
    await until(lambda: seen[-1] == Node(b"1", 0) and listed[-1] == ["b"])
    await theirs.set("/a/b", b"2")
    await until(lambda: seen[-1] == Node(b"2", 0))
    await theirs.delete("/a/b")
    await until(lambda: seen[-1] is None and listed[-1] == [])
    assert await children.value() == []
    await node.close()
    await children.close()
    await theirs.create("/a/b", b"3")
    assert await ours.exists("/a/b")
    assert seen[-1] is None


async def test_a_watch_goes_on_in_the_next_session(ensemble: Ensemble) -> None:
    ours, theirs = await ensemble.connect(), await ensemble.connect()
    await theirs.create("/a/b", b"1")
    watch = watch_node(ours, "/a/b")
    assert await watch.value() == Node(b"1", 0)
    old = ours.session
    ensemble.expire(ours)
    await theirs.set("/a/b", b"2")
    await until(lambda: ours.session not in (0, old))
    await theirs.set("/a/b", b"3")
    async with asyncio.timeout(10):
        while await watch.value() != Node(b"3", 0):
            await asyncio.sleep(0.005)
    await watch.close()


async def test_an_expired_session_is_lost_with_its_nodes_and_a_new_one_begins(ensemble: Ensemble) -> None:
    ours, theirs = await ensemble.connect(), await ensemble.connect()
    await ours.create("/a/mine", b"", ephemeral=True)
    await ours.create("/a/stays", b"")
    states: list[State] = []
    end = ours.on_state(states.append)
    old = ours.session
    told: list[bool] = []
    await ours.get("/a/stays", lambda: told.append(True))
    ensemble.expire(ours)
    await until(lambda: states[-2:] == [State.LOST, State.CONNECTED])
    assert ours.session not in (0, old)
    assert ours.state is State.CONNECTED
    assert await theirs.children("/a") == ["stays"]
    await until(lambda: bool(told))
    end()
    seen = list(states)
    ensemble.expire(ours)
    await until(lambda: ours.session == 0)
    assert states == seen


async def test_an_ephemeral_node_is_not_created_in_another_session_than_meant(ensemble: Ensemble) -> None:
    ours = await ensemble.connect()
    await ours.create("/busy")
    ensemble.expire(ours)
    tasks = [asyncio.create_task(ours.create(f"/busy/{n}", ephemeral=True)) for n in range(50)]
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(each) for each in results} <= {type(None), SessionLost}
    made = [f"{n}" for n, each in enumerate(results) if each is None]
    assert await ours.children("/busy") == sorted(made)


async def test_what_is_meant_for_one_session_is_not_done_in_the_next(ensemble: Ensemble) -> None:
    ours = await ensemble.connect()
    paths = [f"/busy/{n}" for n in range(50)]
    await ours.create("/busy")
    await ours.apply([Create(path) for path in paths])
    session = ours.session
    ensemble.expire(ours)
    tasks = [asyncio.create_task(ours.apply([Delete(path)], session=session)) for path in paths]
    results = await asyncio.gather(*tasks, return_exceptions=True)
    left = [f"{n}" for n, each in enumerate(results) if isinstance(each, SessionLost)]
    assert {type(each) for each in results} <= {list, SessionLost}
    assert await ours.children("/busy") == sorted(left)
    for operation in (Set("/busy", b"x"), Create("/new"), Check("/busy"), Create("/eph", ephemeral=True)):
        with pytest.raises(SessionLost):
            await ours.apply([operation], session=session)
    assert await ours.apply([Set("/busy", b"x")], session=ours.session) == [None]


async def test_closing_takes_the_ephemeral_nodes_away_and_answers_whoever_still_asks(ensemble: Ensemble) -> None:
    ours, theirs = await ensemble.connect(), await ensemble.connect()
    await ours.create("/a/mine", ephemeral=True)
    await ensemble.close(ours)
    await ensemble.close(ours)
    assert await theirs.children("/a") == []
    assert (ours.state, ours.session) == (State.LOST, 0)
    with pytest.raises(RegistryClosed):
        await ours.get("/a")
