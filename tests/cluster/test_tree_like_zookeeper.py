"""The registry's tree beside a real ZooKeeper: the same random requests, the same answers, refusals and stats.

Zxids and times are not compared: those of a server count more than one tree's changes.
"""

import os
from collections.abc import Callable, Iterator
from random import Random
from typing import Any, Final

import pytest
from kazoo.client import KazooClient  # type: ignore[import-untyped]
from kazoo.exceptions import EXCEPTIONS, KazooException  # type: ignore[import-untyped]
from kazoo.protocol import serialization as kazoo  # type: ignore[import-untyped]
from kazoo.security import OPEN_ACL_UNSAFE  # type: ignore[import-untyped]

from metaq.registry.answers import Code
from metaq.registry.jute import INT
from metaq.registry.requests import Op, Request, read_request
from metaq.registry.tree import Moment, Refusal, Tree
from metaq.testing import ZooKeeper

BASE: Final = "/tree"  # not the root: others create nodes there, and it counts them
PATHS: Final = tuple(BASE + path for path in ("/a", "/b", "/a/x", "/a/y", "/a/x/1", "/b/x", "/a/x/"))
SESSION: Final = 1


@pytest.fixture
def client(zookeeper: ZooKeeper) -> Iterator[Any]:
    made = KazooClient(zookeeper.address, timeout=10.0)
    made.start(10)
    made.delete(BASE, recursive=True)
    made.create(BASE)
    yield made
    made.stop()
    made.close()


def anything(chance: Random) -> Any:
    """Return a request, as kazoo has it, that may stand alone or be part of a transaction."""
    path, version = chance.choice(PATHS), chance.choice((-1, -1, 0, 1))
    data = chance.choice((None, b"", b"xyz"))
    return chance.choice(
        [
            kazoo.Create(path, data, OPEN_ACL_UNSAFE, chance.choice((0, 0, 1, 2, 3))),
            kazoo.Create(PATHS[0], data, OPEN_ACL_UNSAFE, 0),
            kazoo.Delete(path, version),
            kazoo.SetData(path, data, version),
        ]
    )


def part_of_multi(chance: Random) -> Any:
    if chance.random() < 0.2:  # alone it is not answered at all
        return kazoo.CheckVersion(chance.choice(PATHS), chance.choice((-1, 0, 1)))
    return anything(chance)


def decoded(request: Any) -> tuple[Op, Request]:
    _, op, read = read_request(INT.pack(1) + INT.pack(request.type) + bytes(request.serialize()))
    return op, read


def code_of(error: Exception) -> int:
    return next(int(code) for code, kind in EXCEPTIONS.items() if type(error) is kind)


def theirs(client: Any, request: Any) -> Any:
    """Carry out one request there; return the error code or what it answered."""
    answer = client.handler.async_result()
    client._call(request, answer)
    try:
        found = answer.get(timeout=10.0)
    except KazooException as exc:
        return code_of(exc)
    return comparable(found)


def comparable(found: Any) -> Any:
    if isinstance(found, kazoo.ZnodeStat):
        return known(found)
    return None if found is True else found


def known(stat: Any) -> tuple[object, ...]:
    """Return what of a stat can be compared: versions, whether somebody owns it, sizes."""
    return (*tuple(stat)[4:7], stat[7] != 0, *tuple(stat)[8:10])


READERS: Final[dict[Op, Callable[[bytes], Any]]] = {
    Op.CREATE: lambda body: kazoo.Create.deserialize(body, 0),
    Op.SET_DATA: lambda body: known(kazoo.SetData.deserialize(body, 0)),
}


def ours(tree: Tree, op: Op, request: Request) -> Any:
    try:
        body = tree.apply(op, request, Moment(1, 1, SESSION))
    except Refusal as refusal:
        return int(refusal.code)
    return READERS[op](body) if op in READERS else None


def results_of_ours(tree: Tree, operations: list[tuple[Op, Request]]) -> list[Any]:
    _, results = tree.apply_all(operations, Moment(1, 1, SESSION))
    return [
        int(result) if isinstance(result, Code) else READERS[result[0]](result[1]) if result[0] in READERS else None
        for result in results
    ]


def results_of_theirs(client: Any, operations: list[Any]) -> list[Any]:
    answer = client.handler.async_result()
    client._call(kazoo.Transaction(operations), answer)
    return [
        code_of(result) if isinstance(result, Exception) else comparable(result) for result in answer.get(timeout=10.0)
    ]


def test_random_requests_have_the_same_outcome(client: Any) -> None:
    seed = int(os.environ.get("METAQ_SEED", "1"))
    chance = Random(seed)
    tree = Tree()
    ours(tree, *decoded(kazoo.Create(BASE, b"", OPEN_ACL_UNSAFE, 0)))
    for number in range(400):
        if chance.random() < 0.25:
            operations = [part_of_multi(chance) for _ in range(chance.randrange(1, 5))]
            expected = results_of_theirs(client, operations)
            assert results_of_ours(tree, [decoded(each) for each in operations]) == expected, (number, operations)
        else:
            request = anything(chance)
            assert ours(tree, *decoded(request)) == theirs(client, request), (number, request)
        looked_at = chance.choice((BASE, *PATHS[:3]))
        stat = client.exists(looked_at)
        node = tree.nodes.get(looked_at)
        assert (None if node is None else known(node.stat())) == (None if stat is None else known(stat)), number
        if node is not None:
            assert sorted(node.children) == sorted(client.get_children(looked_at))
            assert node.data == client.get(looked_at)[0]
