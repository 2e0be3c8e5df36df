"""The broker's side of changes of topics that a command asks all brokers of a cluster for."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from metaq.admin.changing import TopicChanges
from metaq.cluster.ports import Registry
from metaq.cluster.taking import RequestTaker
from metaq.cluster.topic_nodes import Progress, TopicResult
from metaq.config.editing import TopicChange
from metaq.errors import MetaqError
from metaq.ports import World

log = logging.getLogger(__name__)


async def carry_out(changes: TopicChanges, change: TopicChange) -> TopicResult:
    """Make a change that was asked for by a node; return what became of it."""
    try:
        done = await changes.apply(change)
    except (MetaqError, OSError) as exc:
        log.error("%s: not done: %s", change, exc)
        return TopicResult(Progress.FAILED, str(exc))
    return TopicResult(Progress.DONE, done.text, done.kept)


async def judge(changes: TopicChanges, change: TopicChange) -> TopicResult:
    """Say what became of a change that an earlier process began, by what server.ini holds."""
    try:
        made = await changes.is_made(change)
    except (MetaqError, OSError) as exc:
        return TopicResult(Progress.FAILED, str(exc))
    if made:
        return TopicResult(Progress.DONE, "the broker was restarted meanwhile; its server.ini has the change")
    return TopicResult(Progress.FAILED, "the broker was restarted while it was at it; make the change again")


@asynccontextmanager
async def taking_requests(changes: TopicChanges, registry: Registry | None, world: World) -> AsyncIterator[None]:
    """Make the changes that commands ask all brokers of the cluster for, while the block runs.

    Not where there is no registry, nor as long as changes are refused.
    """
    if registry is None:
        yield
        return
    config = changes.config
    process = f"{world.clock.time():.6f}-{world.random.randrange(1 << 64):016x}"
    taker = RequestTaker(
        registry,
        config.zookeeper.root,
        config.broker_id,
        process,
        partial(carry_out, changes),
        partial(judge, changes),
    )

    async def take() -> None:
        await changes.allowed.wait()
        await taker.run()

    task = asyncio.create_task(take(), name="changes of topics")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        if changes.allowed.is_set():
            await taker.leave()
