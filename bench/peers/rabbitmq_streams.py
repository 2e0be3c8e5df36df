"""RabbitMQ streams with rstream; a partition is a stream. It calls a coroutine for each message."""

import asyncio
from typing import Any

from rstream import Consumer, ConsumerOffsetSpecification, OffsetType, Producer

from bench.peers.driver import BATCH, Clock, Job, Outcome, main


def login(job: Job) -> dict[str, Any]:
    host, _, port = job.address.partition(":")
    return {"host": host, "port": int(port), "username": "guest", "password": "guest"}


def fill(job: Job) -> None:
    asyncio.run(_fill(job))


async def _fill(job: Job) -> None:
    sent = acknowledged = 0

    async def confirm(_: object) -> None:
        nonlocal acknowledged
        acknowledged += 1

    async with Producer(**login(job)) as producer:
        for partition in range(job.partitions):
            await producer.create_stream(f"{job.topic}-{partition}", exists_ok=True)
        for partition, bodies in job.parts():
            await producer.send_batch(f"{job.topic}-{partition}", bodies, on_publish_confirm=confirm)
            sent += len(bodies)
            while sent - acknowledged > 4 * BATCH:
                await asyncio.sleep(0)
        while sent > acknowledged:
            await asyncio.sleep(0.001)


def consume(job: Job) -> Outcome:
    return asyncio.run(_consume(job))


async def _consume(job: Job) -> Outcome:
    got, done = 0, asyncio.Event()

    async def receive(_message: object, _context: object) -> None:
        nonlocal got
        got += 1
        if got == job.messages:
            done.set()

    consumer = Consumer(**login(job))
    await consumer.start()
    clock = Clock()
    for partition in range(job.partitions):
        await consumer.subscribe(
            f"{job.topic}-{partition}",
            receive,
            decoder=lambda data: data,
            offset_specification=ConsumerOffsetSpecification(OffsetType.FIRST, None),
        )
    await done.wait()
    outcome = clock.stop(got)
    await consumer.close()
    return outcome


if __name__ == "__main__":
    main(fill, consume)
