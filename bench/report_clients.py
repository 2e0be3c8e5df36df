"""The tables of what is measured beside other clients and registries."""

from collections.abc import Iterator
from statistics import median
from typing import Final

from bench.cases import JAVA, OURS, ZOOKEEPER
from bench.report_cells import cell, judged
from bench.samples import Samples

PEER_TARGET: Final = 1.2  # of the best client of another system, as it comes
JAVA_TARGET: Final = 0.8  # of the Java consumer
WRITES_TARGET: Final = 20_000  # a second, the log synced
MEMORY_TARGET: Final = 300.0  # MiB
SETTLED_TARGET: Final = 5.0  # seconds
TUNED: Final = "tuned"  # in the name of a peer that is not as it comes

CONSUMING: Final = """\
### Consuming a backlog

Messages per second that one process gets with one client, which is connected, from its subscribing to the last message
of a backlog in 4 partitions, in the memory of the operating system. Ours is the plain `for message in consumer`; the
others are used in the fastest way of their guides that looks at every message (`bench/peers/`), with their settings as
they come. Ours and the other take turns; the ratio is that of the pairs. The Java consumer reads from our broker too.
`50–150 B`: of sizes by chance.

| Case | Client | messages/s | metaq meanwhile | metaq : it |
|---|---|---|---|---|"""
REGISTRY: Final = """\
### The registry

`metaq registry run` and a real ZooKeeper, each alone on the machine with one raw client in Python
(`bench/registry_load.py`). Writes are `setData` of 100 bytes, 100 in flight on each connection, acknowledged when they
are on disk.

| Step | metaq | ZooKeeper | metaq : ZooKeeper |
|---|---|---|---|"""
REBALANCING: Final = """\
### Rebalancing

One group in one process, each member with a session of its own: seconds until every partition is owned as it is
assigned, after all members have begun to join, and after some have begun to leave.

| Case | on metaq registry | on ZooKeeper |
|---|---|---|"""


def consuming_rows(samples: Samples) -> Iterator[str]:
    for case in (c for c in samples.cases() if c.startswith("consume/")):
        peers = [name for name in samples.brokers(case) if name != OURS]
        best = best_peer(samples, case, peers)
        for name in peers:
            target = JAVA_TARGET if name == JAVA else PEER_TARGET if name == best else 0.0
            beside = samples.beside(case, OURS, name)
            ratio = judged(samples.ratio(case, OURS, name), target)
            label = {JAVA: "Java 1.4.6.2", best: f"{name} (the best)"}.get(name, name)
            meanwhile = f"{median(beside):,.0f}" if beside else "–"
            yield f"| {case.removeprefix('consume/')} | {label} | {cell(samples, case, name)} | {meanwhile} | {ratio} |"
        yield f"| {case.removeprefix('consume/')} | **metaq** | {cell(samples, case, OURS)} | | |"


def best_peer(samples: Samples, case: str, peers: list[str]) -> str:
    """Return the fastest of the other systems, as it comes; "" if none was measured."""
    rates = {
        name: median(values)
        for name in peers
        if name != JAVA and TUNED not in name and (values := samples.values(case, name).values())
    }
    return max(rates, key=lambda name: rates[name], default="")


def registry_rows(samples: Samples) -> Iterator[str]:
    for case in (c for c in samples.cases() if c.startswith("registry/")):
        ours = samples.values(case, OURS).values()
        unit = samples.unit(case)
        missed = ""
        if ours and unit == "writes/s" and median(ours) < WRITES_TARGET:
            missed = f" **misses {WRITES_TARGET:,}**"
        if ours and unit == "MiB" and median(ours) >= MEMORY_TARGET:
            missed = f" **misses {MEMORY_TARGET:g}**"
        ratio = judged(samples.ratio(case, OURS, ZOOKEEPER), 0.0)
        cells = f"{cell(samples, case, OURS)} {unit}{missed} | {cell(samples, case, ZOOKEEPER)} {unit}"
        yield f"| {case.removeprefix('registry/')} | {cells} | {ratio} |"


def rebalance_rows(samples: Samples) -> Iterator[str]:
    for case in (c for c in samples.cases() if c.startswith("rebalance/")):
        cells = []
        for name in (OURS, ZOOKEEPER):
            values = samples.values(case, name).values()
            missed = f" **misses {SETTLED_TARGET:g}**" if values and median(values) >= SETTLED_TARGET else ""
            cells.append(f"{cell(samples, case, name)} s{missed}")
        yield f"| {case.removeprefix('rebalance/')} | {' | '.join(cells)} |"
