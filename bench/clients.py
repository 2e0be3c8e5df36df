"""The cases beside other clients and registries, in the order they are measured."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from bench.cases import JAVA, OURS, ZOOKEEPER
from bench.consuming import Backlog, measure_consuming
from bench.loads import LoadFailed
from bench.processes import ServerFailed
from bench.rebalancing import Group, measure_rebalancing
from bench.registries import Size, measure_registries
from bench.samples import Sample, Samples
from bench.servers import CLIENTS
from metaq.testing import ZooKeeper
from tests.interop import jvm

PEERS: Final = (JAVA, *(peer.name for peer in CLIENTS))


@dataclass(frozen=True, slots=True)
class Clients:
    """How much is measured, beside what."""

    peers: tuple[str, ...]
    rounds: int
    messages: int
    size: Size
    group: Group

    @classmethod
    def full(cls, peers: tuple[str, ...], rounds: int) -> Self:
        return cls(peers, rounds, 1_000_000, Size(3.0, 100_000, 10_000), Group(100, 50, 1024))

    @classmethod
    def quick(cls, peers: tuple[str, ...]) -> Self:
        return cls(peers, 1, 200_000, Size(0.5, 10_000, 1000), Group(20, 10, 256))


def peers_that_are_there(wanted: Sequence[str]) -> tuple[tuple[str, ...], str]:
    """Return which of the peers that were asked for can be measured here, and in words what is left out, and why."""
    missing = {peer.name: why for peer in CLIENTS if peer.name in wanted and (why := peer.missing())}
    if JAVA in wanted and (what := jvm.missing() or ("" if ZooKeeper.available() else "zookeeper")):
        missing[JAVA] = f"no {what}"
    there = tuple(name for name in PEERS if name in wanted and name not in missing)
    return there, ", ".join(f"{name} ({why})" for name, why in missing.items())


async def measure_clients(
    plan: Clients, samples: Samples, wants: Callable[[str], bool], folder: Path, zk: str, say: Callable[[str], None]
) -> None:
    """Measure what is wanted: consuming, the registry, rebalancing."""
    for mixed in (False, True):
        peers = tuple(name for name in plan.peers if (zk or name != JAVA) and (not mixed or name == JAVA))
        backlog = Backlog(plan.messages, mixed, peers, plan.rounds, folder, zk)
        if wants(backlog.case) and peers:
            try:
                await measure_consuming(samples, backlog, say)
            except (LoadFailed, ServerFailed) as exc:
                samples.add(Sample(backlog.case, OURS, 0, None, "messages/s", str(exc)[-160:]))
    registries = (OURS, ZOOKEEPER) if ZooKeeper.available() else (OURS,)
    for round_ in range(plan.rounds):
        if wants("registry/"):
            await measure_registries(samples, round_, registries, folder, plan.size, say)
        if wants("rebalance/"):
            await measure_rebalancing(samples, round_, registries, folder, plan.group, say)
