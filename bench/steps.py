"""The steps of a run in their order: what has a target first, then the rest, then both again while there is time."""

import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Final, TypeAlias

from bench import deaf, partitions, pressure, replication, report
from bench.backlog import measure_reading
from bench.cases import CREATING_FROM, JAVA, LOADS, OURS, Setting
from bench.clients import Measure, measure_backlogs, measure_registry_and_groups
from bench.plan import FEW, Plan, one_line, say
from bench.producing import CASES, GROUP, Session, measure_producing
from bench.raw import measure_puts, measure_start
from bench.samples import Samples
from bench.systems import COUNTS

Step: TypeAlias = tuple[str, Callable[[], Awaitable[None]]]
READING: Final = "partitions/reading"
TWICE: Final = 2  # rounds of what takes minutes
PRESSED: Final = 30.0  # seconds of each number of producers, and of deaf readers


async def measure(plan: Plan, samples: Samples) -> None:
    """Measure round by round what is wanted; what has been measured is written after each step."""
    for round_ in range(plan.rounds):
        kinds = (others, urgent) if plan.quick else (urgent, others)  # many peers would take all of a short time
        for name, step in (each for kind in kinds for each in kind(plan, samples, round_)):
            words = f"round {round_ + 1}, {name}"
            if plan.late():
                plan.left.append(words)
                continue
            began = time.monotonic()
            await guarded(plan, samples, words, step)
            say(f"{words}: took {time.monotonic() - began:.0f} s")
            if plan.late():
                plan.left.append(f"the end of {words}")


async def guarded(plan: Plan, samples: Samples, name: str, step: Callable[[], Awaitable[None]]) -> None:
    """Carry out one step; one that breaks is said, and the next follows. Write what there is."""
    count = len(samples.taken)
    try:
        await step()
    except Exception as exc:  # noqa: BLE001 - whatever broke one step, the others are worth measuring
        plan.broken.append(f"{name}: {one_line(exc) or type(exc).__name__}")
        say(f"*** {plan.broken[-1]}")
    if len(samples.taken) > count:
        report.write(plan.page, samples)


def urgent(plan: Plan, samples: Samples, round_: int) -> Iterator[Step]:
    """Yield what is compared with a target."""
    session = Session(plan.folder, plan.seconds, plan.wants, say, plan.late, COUNTS[:1] if plan.quick else COUNTS)
    for system in plan.systems_in_turn(round_) if any(plan.wants(f"{GROUP}{case}") for case in CASES) else ():
        yield system.name, partial(measure_producing, session, samples, round_, system)
    if not round_ and plan.wants("consume/"):
        yield "consuming", partial(measure_backlogs, plan.clients, samples, steering(plan), plan.folder, plan.zk)
    yield from raw_puts(plan, samples, round_, urgent=True)
    if plan.wants(READING) and not plan.quick and round_ < TWICE:
        yield "reading from the disk", partial(partitions.measure_all_reading, partition_plan(plan), samples, round_)


def others(plan: Plan, samples: Samples, round_: int) -> Iterator[Step]:
    """Yield what is measured beside that."""
    yield from raw_puts(plan, samples, round_, urgent=False)
    if not round_ and plan.wants("partitions/"):
        yield "partitions", partial(partitions.measure, partition_plan(plan), samples, round_)
    if not round_ and plan.wants("pressure/"):
        seconds = PRESSED / 6 if plan.quick else PRESSED
        yield "pressure", partial(pressure.measure_pressure, samples, plan.folder, seconds, plan.page.parent / "bench")
    if not round_ and plan.wants("deaf/"):
        seconds = PRESSED / 6 if plan.quick else PRESSED
        yield "deaf readers", partial(deaf.measure, samples, plan.folder, seconds, plan.page.parent / "bench")
    if plan.wants(report.READ_CASE) and plan.brokers:
        names = [name for name in plan.turn(round_) if name in (OURS, JAVA)]
        yield "reading", partial(measure_reading, samples, round_, names, plan.folder, plan.zk)
    if plan.wants(replication.GROUP):
        sizes = replication.QUICK if plan.quick else replication.FULL
        yield "slaves", partial(replication.measure, samples, round_, plan.folder, sizes)
    if plan.wants("start/"):
        yield "start", partial(measure_start, plan, samples, round_)
    if plan.wants("registry/") or plan.wants("rebalance/"):
        step = partial(measure_registry_and_groups, plan.clients, samples, steering(plan), plan.folder, round_)
        yield "registry and groups", step


def raw_puts(plan: Plan, samples: Samples, round_: int, urgent: bool) -> Iterator[Step]:
    for setting in plan.settings(round_, urgent) if plan.brokers else ():
        if any(map(plan.wants, put_cases(setting))):
            yield f"puts {setting.name}", partial(measure_puts, plan, samples, round_, setting)


def put_cases(setting: Setting) -> Iterator[str]:
    yield from (report.put_case(setting, load) for load in LOADS)
    if setting.partitions >= CREATING_FROM:
        yield report.creating_case(setting)


def steering(plan: Plan) -> Measure:
    return Measure(plan.wants, say, plan.late)


def partition_plan(plan: Plan) -> partitions.Measure:
    folder = plan.folder / "partitions"
    folder.mkdir(exist_ok=True)
    counts = FEW if plan.quick else partitions.COUNTS
    return partitions.Measure(folder, plan.seconds, plan.warm, counts, reading=False, late=plan.late)
