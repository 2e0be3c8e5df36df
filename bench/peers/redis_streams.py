"""Redis streams with redis-py and hiredis; a partition is a stream. XREAD without a group, its fastest way to read."""

from typing import Final

import redis

from bench.peers.driver import Clock, Job, Outcome, main

COUNT: Final = 250  # entries of each stream in one answer


def connect(job: Job) -> "redis.Redis":
    return redis.Redis.from_url(f"redis://{job.address}")


def fill(job: Job) -> None:
    client = connect(job)
    for partition, bodies in job.parts():
        pipeline = client.pipeline(transaction=False)
        for body in bodies:
            pipeline.xadd(f"{job.topic}-{partition}", {b"b": body})
        pipeline.execute()


def consume(job: Job) -> Outcome:
    client = connect(job)
    client.ping()
    places: dict[bytes, bytes] = {f"{job.topic}-{partition}".encode(): b"0" for partition in range(job.partitions)}
    got = 0
    clock = Clock()
    while got < job.messages:
        found = client.xread(places, count=COUNT)
        for key, entries in found.items() if isinstance(found, dict) else found:
            # with RESP 3 the entries are in a list of their own
            rows = entries[0] if entries and isinstance(entries[0], list) else entries
            for _ in rows:
                got += 1
            places[key] = rows[-1][0]
    return clock.stop(got)


if __name__ == "__main__":
    main(fill, consume)
