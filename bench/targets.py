"""What has to be reached beside other systems, as ratios or limits; met and missed in one table."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import floor
from statistics import median
from typing import Final

from bench.cases import JAVA, OURS, PROTOTYPE
from bench.samples import Samples

KAFKA: Final = ("confluent-kafka", "aiokafka")
NOWAIT: Final = f"{OURS} send_nowait"
PLAIN: Final = f"{OURS} plain"
HEAD: Final = """\
| What | reached | to reach | |
|---|---|---|---|"""


@dataclass(frozen=True, slots=True)
class Target:
    """`measure` returns what was reached, and beside whom; None: it was not measured."""

    what: str
    limit: float
    measure: Callable[[Samples], tuple[float, str] | None]
    at_most: bool = False
    unit: str = "×"


def beside(
    case: str, names: tuple[str, ...], ours: tuple[str, ...] = (OURS,), less: bool = False
) -> Callable[[Samples], tuple[float, str] | None]:
    """Compare the best of ours with the best of these ((): all others but the Java broker); `less`: less is better."""

    def measure(samples: Samples) -> tuple[float, str] | None:
        best = min if less else max
        own = {name: median(v) for name in ours if (v := samples.values(case, name).values())}
        others = names or tuple(
            n for n in samples.brokers(case) if not n.startswith(OURS) and n not in (JAVA, PROTOTYPE)
        )
        theirs = {name: median(v) for name in others if (v := samples.values(case, name).values())}
        if not own or not theirs:
            return None
        mine, rival = best(own, key=lambda n: own[n]), best(theirs, key=lambda n: theirs[n])
        ratio = samples.ratio(case, mine, rival)
        if ratio is None:
            ratio = own[mine] / theirs[rival]
        return ratio, f"{rival}, {theirs[rival]:,.4g}" + (f"; {mine}" if len(ours) > 1 else "")

    return measure


def value(case: str, ours: tuple[str, ...] = (OURS,)) -> Callable[[Samples], tuple[float, str] | None]:
    """Return the least median of ours."""

    def measure(samples: Samples) -> tuple[float, str] | None:
        found = {name: median(v) for name in ours if (v := samples.values(case, name).values())}
        name = min(found, key=lambda n: found[n], default="")
        return (found[name], name if len(ours) > 1 else "") if found else None

    return measure


def within(case: str, other: str) -> Callable[[Samples], tuple[float, str] | None]:
    """Compare two cases of ours, round by round, if one run has both."""

    def measure(samples: Samples) -> tuple[float, str] | None:
        if len({sample.run for sample in samples.taken if sample.case in (case, other)}) > 1:
            return None
        one, two = samples.values(case, OURS), samples.values(other, OURS)
        both = [one[r] / two[r] for r in one.keys() & two.keys()]
        return (median(both), "") if both else None

    return measure


def reading(samples: Samples) -> tuple[float, str] | None:
    """Return the worst ratio of putting beside a reader of the disk."""
    found = [
        (ratio[0], case.split("/", 1)[1].removesuffix(" beside"))
        for case in samples.cases()
        if "/reading/" in case and case.endswith(" beside")
        if (ratio := within(case, case.removesuffix("beside") + "alone")(samples)) is not None
    ]
    return min(found, default=None)


def part(case: str, name: str, other: str) -> Callable[[Samples], tuple[float, str] | None]:
    """Compare what two reached in a case, round by round."""

    def measure(samples: Samples) -> tuple[float, str] | None:
        ratio = samples.ratio(case, name, other)
        return None if ratio is None else (ratio, other)

    return measure


def times(case: str, rate: float) -> Callable[[Samples], tuple[float, str] | None]:
    """Compare ours with the Java slave of the same run, without one with what it reached on such a machine, in MB/s."""

    def measure(samples: Samples) -> tuple[float, str] | None:
        values = samples.values(case, OURS).values()
        ratio = samples.ratio(case, OURS, JAVA)
        if ratio is not None or not values:
            return None if ratio is None else (ratio, JAVA)
        return median(values) / rate, f"Java then {rate:g} MB/s"

    return measure


def slaves() -> Iterator[Target]:
    """Yield what copying has to reach."""
    for name in ("reader in Python", "reader"):
        yield Target(f"copying what lies on disk, beside one {name}", 0.8, part("replication/copy", OURS, name))
    for name, rate, limit in (("threshold 0", 6.9, 30.0), ("threshold 1000", 166.0, 2.0)):
        yield Target(f"copying, {name}, beside the Java slave", limit, times(f"replication/copy, {name}", rate))
    for name, limit in (("p50", 5.0), ("p99", 50.0)):
        yield Target(f"lag of a slave, {name}", limit, value(f"replication/lag {name}"), at_most=True, unit="ms")
    for load in ("50x1", "50x20"):
        one, other = (f"replication/put {load}, {count} slaves" for count in (2, "no"))
        yield Target(f"puts, {load}, with two slaves beside without", 0.9, within(one, other))


def targets() -> Iterator[Target]:
    both = (OURS, PLAIN)
    yield Target("P1: one in flight, rate beside the best", 1.0, beside("peers/P1", (), both))
    yield Target("P1: p50", 0.1, value("peers/P1 p50", both), at_most=True, unit="ms")
    yield Target("P2: 50 waiting, beside the best", 1.2, beside("peers/P2/16", ()))
    yield Target("P3: 100 B, send_many beside confluent-kafka", 1.6, beside("peers/P3/100 B", KAFKA[:1]))
    yield Target("P3: 100 B, send_nowait beside confluent-kafka", 1.0, beside("peers/P3/100 B", KAFKA[:1], (NOWAIT,)))
    yield Target("P3: 1 KB beside Kafka", 1.0, beside("peers/P3/1 KB", KAFKA, (OURS, NOWAIT)))
    yield Target(
        "P4: 100 B beside the best as it comes",
        1.3,
        beside("consume/100 B", ("redis-py", "rstream", "aiokafka", "confluent-kafka")),
    )
    yield Target("P4: 100 B beside Java", 1.0, beside("consume/100 B", (JAVA,)))
    yield Target("P4: 1 KB beside redis-py", 1.3, beside("consume/1 KB", ("redis-py",)))
    yield Target(
        "P4: 1 KB beside confluent-kafka, tuned or not",
        0.7,
        beside("consume/1 KB", ("confluent-kafka", "confluent-kafka tuned")),
    )
    yield Target("P4: 100 B beside confluent-kafka tuned", 0.6, beside("consume/100 B", ("confluent-kafka tuned",)))
    yield Target("P5: p50", 0.25, value("peers/P5 p50"), at_most=True, unit="ms")
    yield Target("P5: p99", 1.0, value("peers/P5 p99"), at_most=True, unit="ms")
    yield Target("P5: p50 beside the best", 1.0, beside("peers/P5 p50", (), less=True), at_most=True)
    yield Target("P5: p99 beside the best", 1.0, beside("peers/P5 p99", (), less=True), at_most=True)
    for count in (16, 1024):
        yield Target(f"P6: {count:,} partitions, synced, beside the best", 2.0, beside(f"peers/P6/{count}", ()))
    yield Target("P6: 10,000 partitions beside 16", 0.7, within("peers/P6/10000", "peers/P6/16"))
    for count, least in ((16, (1.5, 2.0)), (128, (2.0, 4.0)), (1024, (3.0, 6.0))):
        for load, limit in zip(("50x1", "50x20"), least, strict=True):
            what = f"raw, synced, {count:,} partitions, {load}, beside Java 1.4.6.2"
            yield Target(what, limit, beside(f"put/synced/{count}/{load}", (JAVA,)))
    for load in ("50x1", "50x20"):
        of_both = within(f"put/synced/10000/{load}", f"put/synced/16/{load}")
        yield Target(f"raw, synced, {load}, 10,000 partitions beside 16", 0.7, of_both)
    yield Target("putting beside a reader of the disk: the worst", 0.8, reading)
    yield from slaves()


def rows(samples: Samples) -> Iterator[str]:
    """Yield a row for each target of which something was measured."""
    for target in targets():
        found = target.measure(samples)
        if found is None:
            continue
        reached, words = found
        met = reached <= target.limit if target.at_most else reached >= target.limit
        # rounded against us: 0.749 does not look like 0.75
        shown = f"{-floor(-reached * 100) / 100 if target.at_most else floor(reached * 100) / 100:.2f}"
        sign = "≤" if target.at_most else "≥"
        verdict = "met" if met else "**missed**"
        also = f" ({words})" if words else ""
        yield f"| {target.what} | {shown} {target.unit}{also} | {sign} {target.limit:g} {target.unit} | {verdict} |"
