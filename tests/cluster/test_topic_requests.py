"""A command asks brokers for a change of a topic: each makes it once, or never, and the command knows which."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from metaq.admin.requesting import NOT_BEGUN, STILL_AT_IT, AlreadyAsking, Asking, TopicRequests
from metaq.cluster.ports import Registry
from metaq.cluster.taking import RequestTaker
from metaq.cluster.topic_nodes import (
    Progress,
    TopicPaths,
    TopicRequest,
    TopicResult,
    decode_request,
    encode_request,
    encode_result,
)
from metaq.config.editing import Action, TopicChange
from tests.cluster.conftest import DEADLINE, Ensemble, until, until_async

CHANGE = TopicChange(Action.CREATE, "orders", {"numPartitions": "8", "deletePolicy": "delete,48"})
PATHS = TopicPaths("/meta")


@dataclass
class Broker:
    """Makes changes when it is allowed to, and notes them."""

    number: int
    made: list[TopicChange] = field(default_factory=list)
    judged: list[TopicChange] = field(default_factory=list)
    may_begin: asyncio.Event = field(default_factory=asyncio.Event)
    waits: bool = False

    async def apply(self, change: TopicChange) -> TopicResult:
        self.made.append(change)
        if self.waits:
            await self.may_begin.wait()
        return TopicResult(Progress.DONE, f"made at {self.number}", f"/aside/{self.number}")

    async def judge(self, change: TopicChange) -> TopicResult:
        self.judged.append(change)
        return TopicResult(Progress.FAILED, "stopped at it")

    @asynccontextmanager
    async def taking(self, registry: Registry, process: str = "one") -> AsyncIterator[RequestTaker]:
        taker = RequestTaker(registry, "/meta", self.number, process, self.apply, self.judge)
        task = asyncio.create_task(taker.run())
        try:
            await until_async(lambda: announced(registry, self.number))
            yield taker
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def announced(registry: Registry, number: int) -> bool:
    node = await registry.get(PATHS.broker(number))
    return node is not None and node.owner == registry.session


async def left(registry: Registry) -> list[str] | None:
    return await registry.children(PATHS.requests)


async def test_all_brokers_asked_make_a_change_and_say_what_became_of_it(ensemble: Ensemble) -> None:
    registry = await ensemble.connect()
    requests = TopicRequests(await ensemble.connect(), "/meta")
    one, two, three = Broker(1), Broker(2), Broker(3)
    async with one.taking(registry), two.taking(registry), three.taking(registry):
        assert await requests.takers() == {1, 2, 3}
        results = await requests.ask(CHANGE, {1, 3}, Asking("r1", DEADLINE))
        assert results == {n: TopicResult(Progress.DONE, f"made at {n}", f"/aside/{n}") for n in (1, 3)}
        assert (one.made, two.made, three.made) == ([CHANGE], [], [CHANGE])
        assert await left(registry) == []
        assert await registry.get(PATHS.asking) is None
        await requests.ask(CHANGE, {2}, Asking("r2", DEADLINE))
        assert (one.made, two.made) == ([CHANGE], [CHANGE])


async def test_a_broker_that_does_not_answer_in_time_does_not_make_the_change_later(ensemble: Ensemble) -> None:
    registry = await ensemble.connect()
    requests = TopicRequests(registry, "/meta")
    results = await requests.ask(CHANGE, {1}, Asking("r1", 0.05))
    assert results == {1: TopicResult(Progress.WITHDRAWN, NOT_BEGUN)}
    one = Broker(1)
    async with one.taking(await ensemble.connect()):
        await requests.ask(TopicChange(Action.DROP, "other"), {1}, Asking("r2", DEADLINE))
    assert [change.topic for change in one.made] == ["other"]


async def test_a_broker_that_is_still_at_it_is_named(ensemble: Ensemble) -> None:
    registry = await ensemble.connect()
    requests = TopicRequests(await ensemble.connect(), "/meta")
    slow = Broker(1, waits=True)
    async with slow.taking(registry):
        asked = asyncio.create_task(requests.ask(CHANGE, {1}, Asking("r1", 0.3)))
        await until(lambda: bool(slow.made))
        assert await asked == {1: TopicResult(Progress.APPLYING, STILL_AT_IT)}
        assert await left(registry) == []
        slow.may_begin.set()
        slow.waits = False
        results = await requests.ask(CHANGE, {1}, Asking("r2", DEADLINE))
        assert results[1].progress is Progress.DONE
        assert await left(registry) == []


async def test_a_request_whose_command_was_killed_is_never_begun_and_is_removed_by_the_next(ensemble: Ensemble) -> None:
    registry = await ensemble.connect()
    await registry.create(PATHS.request("r0"), encode_request(TopicRequest(CHANGE, frozenset([1]))))
    await registry.create(PATHS.result("r0", 2), encode_result(TopicResult(Progress.DONE)))
    one = Broker(1)
    async with one.taking(registry):
        requests = TopicRequests(await ensemble.connect(), "/meta")
        await requests.ask(TopicChange(Action.DROP, "other"), {1}, Asking("r1", DEADLINE))
    assert [change.topic for change in one.made] == ["other"]
    assert await left(registry) == []


async def test_a_broker_that_was_stopped_at_a_change_does_not_begin_it_again(ensemble: Ensemble) -> None:
    registry = await ensemble.connect()
    requests = TopicRequests(await ensemble.connect(), "/meta")
    first, second = Broker(1, waits=True), Broker(1)
    async with first.taking(registry, "first"):
        asked = asyncio.create_task(requests.ask(CHANGE, {1}, Asking("r1", DEADLINE)))
        await until(lambda: bool(first.made))
    async with second.taking(registry, "second"):
        assert await asked == {1: TopicResult(Progress.FAILED, "stopped at it")}
    assert (second.made, second.judged) == ([], [CHANGE])


async def test_two_commands_at_once_are_one_too_many(ensemble: Ensemble) -> None:
    registry = await ensemble.connect()
    slow = Broker(1, waits=True)
    async with slow.taking(registry):
        first = TopicRequests(await ensemble.connect(), "/meta")
        asked = asyncio.create_task(first.ask(CHANGE, {1}, Asking("r1", DEADLINE)))
        await until(lambda: bool(slow.made))
        second = TopicRequests(await ensemble.connect(), "/meta")
        with pytest.raises(AlreadyAsking, match="another command changes topics of this cluster"):
            await second.ask(CHANGE, {1}, Asking("r2", DEADLINE))
        slow.may_begin.set()
        assert (await asked)[1].progress is Progress.DONE
    assert len(slow.made) == 1


async def test_a_broker_takes_requests_again_after_its_session_was_lost(ensemble: Ensemble) -> None:
    registry = await ensemble.connect()
    requests = TopicRequests(await ensemble.connect(), "/meta")
    one = Broker(1)
    async with one.taking(registry) as taker:
        session = registry.session
        ensemble.expire(registry)
        await until(lambda: registry.session not in (0, session))
        await until_async(lambda: announced(registry, 1))
        assert (await requests.ask(CHANGE, {1}, Asking("r1", DEADLINE)))[1].progress is Progress.DONE
    assert await requests.takers() == {1}
    await taker.leave()
    assert await requests.takers() == set()


async def test_requests_that_make_no_sense_hold_nobody_up(ensemble: Ensemble) -> None:
    registry = await ensemble.connect()
    for name, data in (("a", None), ("b", b"{"), ("c", b"[]"), ("d", b'{"version": 2}')):
        await registry.create(PATHS.request(name), data)
    one = Broker(1)
    async with one.taking(registry):
        requests = TopicRequests(await ensemble.connect(), "/meta")
        assert (await requests.ask(CHANGE, {1}, Asking("r", DEADLINE)))[1].progress is Progress.DONE


@pytest.mark.parametrize(
    "data",
    [
        b'{"version": 1, "action": "rename", "topic": "t", "settings": {}, "brokers": []}',
        b'{"version": 1, "action": "drop", "topic": 1, "settings": {}, "brokers": []}',
        b'{"version": 1, "action": "drop", "topic": "t", "settings": {"a": 1}, "brokers": []}',
        b'{"version": 1, "action": "drop", "topic": "t", "settings": {}, "brokers": ["1"]}',
        b'{"version": 1, "action": "drop", "topic": "t", "settings": {}}',
    ],
)
def test_a_request_is_read_whole_or_not_at_all(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"Action|topic|settings|brokers"):
        decode_request(data)


def test_a_request_is_read_as_it_was_written() -> None:
    request = TopicRequest(CHANGE, frozenset([3, 1]))
    assert decode_request(encode_request(request)) == request
