"""The cases beside other clients and registries, in the order they are measured."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from bench.cases import BODY_SIZE, JAVA, OURS, ZOOKEEPER
from bench.consuming import Backlog, measure_consuming
from bench.loads import LoadFailed
from bench.processes import ServerFailed
from bench.rebalancing import Group, measure_rebalancing
from bench.registries import Size, measure_registries
from bench.samples import Sample, Samples
from bench.servers import CLIENTS
from metaq.testing import ZooKeeper
from tests.interop import jvm

KILO_SIZE: Final = 1000  # bytes
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


@dataclass(frozen=True, slots=True)
class Measure:
    """How a run is steered: which cases it wants, how it speaks, whether its time is over."""

    wants: Callable[[str], bool]
    say: Callable[[str], None]
    late: Callable[[], bool]


def peers_that_are_there(wanted: Sequence[str]) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return which of the peers that were asked for can be measured here, and of the others why not."""
    missing = {peer.name: why for peer in CLIENTS if peer.name in wanted and (why := peer.missing())}
    if JAVA in wanted and (what := jvm.missing() or ("" if ZooKeeper.available() else "zookeeper")):
        missing[JAVA] = f"no {what}"
    return tuple(name for name in PEERS if name in wanted and name not in missing), missing


async def measure_backlogs(plan: Clients, samples: Samples, measure: Measure, folder: Path, zk: str) -> None:
    """Measure consuming of every kind of backlog that is wanted; all rounds at once, so that each is filled once."""
    for size, mixed in ((BODY_SIZE, False), (KILO_SIZE, False), (BODY_SIZE, True)):
        peers = tuple(name for name in plan.peers if (zk or name != JAVA) and (not mixed or name == JAVA))
        messages = plan.messages if size == BODY_SIZE else plan.messages // 5
        backlog = Backlog(messages, mixed, peers, plan.rounds, folder, zk, size, measure.late)
        if measure.wants(backlog.case) and peers and not measure.late():
            try:
                await measure_consuming(samples, backlog, measure.say)
            except (LoadFailed, ServerFailed) as exc:
                samples.add(Sample(backlog.case, OURS, 0, None, "messages/s", str(exc)[-160:]))


async def measure_registry_and_groups(
    plan: Clients, samples: Samples, measure: Measure, folder: Path, round_: int
) -> None:
    """Measure one round of the registry and of rebalancing, where they are wanted."""
    registries = (OURS, ZOOKEEPER) if ZooKeeper.available() else (OURS,)
    if measure.wants("registry/"):
        await measure_registries(samples, round_, registries, folder, plan.size, measure.say)
    if measure.wants("rebalance/") and not measure.late():
        await measure_rebalancing(samples, round_, registries, folder, plan.group, measure.say)
