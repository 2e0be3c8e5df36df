"""Members of one group in one process, each with a session of its own: how long until all have their share.

ADDRESS MEMBERS LEAVING PARTITIONS    prints one line of JSON: seconds after all have joined, after some have left
"""

import asyncio
import json
import sys
from collections.abc import Sequence

from metaq.cluster.assignment import assign, sort_texts
from metaq.cluster.membership import Membership, MembershipOptions
from metaq.cluster.operations import Create
from metaq.cluster.paths import Paths
from metaq.cluster.zk import ZooKeeperClient
from metaq.cluster.znodes import TopicBroker, encode_topic
from metaq.model import BrokerPartition, ClusterPartition
from metaq.net.loop import run

TOPIC = "bench"
PATIENCE = 120.0  # seconds


class Idle:
    """A Holder that consumes nothing."""

    async def take(self, partitions: Sequence[ClusterPartition]) -> None: ...
    async def give(self, partitions: Sequence[ClusterPartition]) -> None: ...
    def lose(self, partitions: Sequence[ClusterPartition]) -> None: ...


async def member(address: str, number: int) -> tuple[ZooKeeperClient, Membership]:
    client = ZooKeeperClient(address)
    await client.connect(PATIENCE)
    options = MembershipOptions(group="g", topics=(TOPIC,), consumer_id=f"m{number:03}", timeout=PATIENCE)
    return client, Membership(client, Idle(), options)


def is_settled(members: Sequence[Membership], partitions: Sequence[str]) -> bool:
    """Say whether each member owns exactly its share."""
    shares = assign("default", sort_texts(each.name for each in members), sort_texts(partitions))
    return all(
        sorted(str(key.partition) for key in each.owned) == sorted(shares.get(each.name, ())) for each in members
    )


async def settled(members: Sequence[Membership], partitions: Sequence[str], began: float) -> float:
    loop = asyncio.get_running_loop()
    while not is_settled(members, partitions):
        if loop.time() > began + PATIENCE:
            raise SystemExit(f"not settled after {PATIENCE:g} s")
        await asyncio.sleep(0.02)
    return loop.time() - began


async def measure(address: str, count: int, leaving: int, partitions: int) -> None:
    paths = Paths()
    offering = ZooKeeperClient(address)
    await offering.connect(PATIENCE)
    path = f"{paths.subscribe(TOPIC)}/0-m"
    await offering.ensure(paths.subscribe(TOPIC))
    await offering.apply([Create(path, encode_topic(TopicBroker(partitions, "0-m")), ephemeral=True)])
    texts = [str(BrokerPartition(0, number)) for number in range(partitions)]
    clients_and_members = [await member(address, number) for number in range(count)]
    clients, members = (list(each) for each in zip(*clients_and_members, strict=True))
    loop = asyncio.get_running_loop()

    began = loop.time()
    joining = asyncio.gather(*(each.join() for each in members))
    joined = await settled(members, texts, began)
    await joining
    began = loop.time()
    leaving_now = asyncio.gather(*(each.leave() for each in members[:leaving]))
    left = await settled(members[leaving:], texts, began)
    await leaving_now
    print(json.dumps({"joined": joined, "left": left}), flush=True)
    for each in members[leaving:]:
        await each.leave()
    await asyncio.gather(*(each.close() for each in (*clients, offering)))


def main() -> None:
    address, *numbers = sys.argv[1:]
    count, leaving, partitions = map(int, numbers)
    run(measure(address, count, leaving, partitions))


if __name__ == "__main__":
    main()
