"""What partitions cost one broker: speed, start, memory, handles, with data in each; and reading while others write."""

import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

import click

from bench import loads
from bench.brokers import Running, running
from bench.cases import OURS, Load, Setting
from bench.loads import LoadFailed, Puts
from bench.processes import ServerFailed
from bench.samples import Sample, Samples
from metaq import record
from metaq.aio import connect

COUNTS: Final = (16, 128, 1024, 10_000, 50_000)
FEW: Final = COUNTS[0]
MANY: Final = 10_000  # partitions, at which the goal is set
GOAL: Final = 0.7  # of the rate at FEW
READ_GOAL: Final = 0.8  # of the rate of putting, while somebody reads from the disk
LOADS: Final = (Load(50, 1, GOAL), Load(50, 20, GOAL))
SHAKE: Final = Load(50, 20, 0.0)
IDLE: Final = 2.0  # seconds before memory is read
TIMES: Final = 10  # messages in each partition
PYTHON: Final = "python"  # the case of the client in Python, in a process of its own
IN_FLIGHT: Final = 1000  # its messages without an answer
BACKLOG: Final = 64 << 10  # bytes in each of MANY partitions for the case `reading`
BODY: Final = bytes(range(97, 122)) * 40  # 1,000 bytes
HEAD: Final = """\
### Partitions

One topic, messages of 100 bytes put to its partitions in turn, 10 of them in each before. `50x20`: 50 connections
with 20 puts in flight each; `python`: `send_many` of one client. Memory, handles and starts are of a broker that idles.

| Case | {counts} | {many} : {few} |
|---|{rule}---|"""
SHOWN: Final = (  # of the table SPEED
    "50x1 processor", "50x20 processor", "python", "50x1 p99", "start after a stop, processor",
    "start after SIGKILL, processor", "memory", "memory after", "handles",
)  # fmt: skip
SPEED: Final = f"""\
| | {" | ".join(f"{count:,}" for count in COUNTS)} | {MANY:,} : {FEW} |
|{"---|" * (len(COUNTS) + 2)}"""
READING: Final = f"""\
### Reading from the disk meanwhile

{MANY:,} partitions with {BACKLOG >> 10} KiB each, none of it in memory, read one after the other while 50 connections
put to {MANY:,} others: the rate of putting beside that without a reader.

| Case | alone | beside a reader | ratio | read |
|---|---|---|---|---|"""


@dataclass(frozen=True, slots=True)
class Measure:
    """What is measured, and for how long."""

    folder: Path
    seconds: float
    warm: float
    counts: tuple[int, ...] = COUNTS
    synced: tuple[bool, ...] = (False, True)
    reading: bool = True
    late: Callable[[], bool] = lambda: False  # the time is over: begin nothing more


async def measure(plan: Measure, samples: Samples, round_: int) -> None:
    """Measure each number of partitions, then reading beside writing. Failures become samples without a value."""
    for synced in plan.synced:
        for count in plan.counts:
            if plan.late():
                return
            setting = Setting(synced, count)
            try:
                await measure_count(plan, samples, round_, setting)
            except (LoadFailed, ServerFailed) as exc:
                note(samples, setting, round_, "puts", None, "", str(exc)[-160:])
            finally:
                shutil.rmtree(plan.folder / OURS, ignore_errors=True)
    if plan.reading:
        await measure_all_reading(plan, samples, round_)


async def measure_count(plan: Measure, samples: Samples, round_: int, setting: Setting) -> None:
    folder = plan.folder / OURS
    async with running(OURS, folder, setting, "") as broker:
        puts = await loads.put_each(broker.port, setting.partitions, times=TIMES)
        note(samples, setting, round_, "create", puts.rate, "messages/s")
    async with running(OURS, folder, setting, "") as broker:
        note(samples, setting, round_, "start after a stop", broker.seconds, "s")
        note(samples, setting, round_, "start after a stop, processor", processor_time(broker), "s")
        await asyncio.sleep(IDLE)
        note(samples, setting, round_, "memory", broker.memory(), "MiB")
        await loads.put(broker.port, SHAKE, setting.partitions, 2 * plan.warm, 0)
        for load in LOADS:
            before = processor_time(broker)
            puts = await loads.put(broker.port, load, setting.partitions, plan.seconds, 0)
            spent = (processor_time(broker) - before) / puts.messages * 1e6
            words = f"p50 {puts.p50_ms} ms, p99 {puts.p99_ms} ms"
            note(samples, setting, round_, load.name, puts.rate, "messages/s", words)
            note(samples, setting, round_, f"{load.name} p99", puts.p99_ms, "ms")
            note(samples, setting, round_, f"{load.name} processor", spent, "µs/message")
        rate = await put_from_python(broker.port, plan.warm, plan.seconds)
        note(samples, setting, round_, PYTHON, rate, "messages/s")
        note(samples, setting, round_, "memory after", broker.memory(), "MiB")
        note(samples, setting, round_, "handles", handles(broker), "files")
        broker.process.kill()
        await broker.process.wait()
    async with running(OURS, folder, setting, "") as broker:
        note(samples, setting, round_, "start after SIGKILL", broker.seconds, "s")
        note(samples, setting, round_, "start after SIGKILL, processor", processor_time(broker), "s")


def note(
    samples: Samples, setting: Setting, round_: int, what: str, value: float | None, unit: str, words: str = ""
) -> None:
    case = f"partitions/{setting.name}/{what}"
    click.echo(f"  {case}: {value:,.4g} {unit} {words}" if value is not None else f"  {case}: {words}", err=True)
    samples.add(Sample(case, OURS, round_, value, unit, words))


def processor_time(broker: Running) -> float:
    """Return the seconds that the broker has had of the processors: others on the machine do not change it much."""
    words = Path(f"/proc/{broker.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def handles(broker: Running) -> int:
    """Return how many files and connections the broker has open."""
    return len(os.listdir(f"/proc/{broker.process.pid}/fd"))


async def put_from_python(port: int, warm: float, seconds: float) -> float:
    """Return the rate at which one client in a process of its own puts; it finds the partitions by itself."""
    words = [sys.executable, "-m", "bench.partitions", "send", str(port), str(warm), str(seconds)]
    process = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    if process.returncode:
        raise LoadFailed("the client in Python failed")
    return float(json.loads(out))


async def send(port: int, warm: float, seconds: float) -> float:
    bodies = [b"x" * 100] * IN_FLIGHT
    async with connect(f"metaq://127.0.0.1:{port}") as mq:
        producer = mq.producer("test", in_flight=IN_FLIGHT)
        await producer.send_many(bodies)
        count, start = 0, time.monotonic()
        while (now := time.monotonic()) < start + seconds + warm:
            if warm and now > start + warm:
                count, start, warm = 0, now, 0.0
            count += len(await producer.send_many(bodies))
        return count / (now - start)


# -- reading from the disk while others put


async def measure_all_reading(plan: Measure, samples: Samples, round_: int) -> None:
    for synced in plan.synced:
        if not plan.late():
            await measure_reading(plan, samples, round_, synced)


async def measure_reading(plan: Measure, samples: Samples, round_: int, synced: bool) -> None:
    setting = Setting(synced, MANY)
    folder = plan.folder / OURS
    try:
        await asyncio.to_thread(write_backlog, folder / "data")
        async with running(OURS, folder, setting, "") as broker:
            await loads.put_each(broker.port, MANY)
            for load in LOADS:
                await measure_beside(plan, samples, round_, setting, broker, load)
    except (LoadFailed, ServerFailed) as exc:
        note(samples, setting, round_, "reading", None, "", str(exc)[-160:])
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def measure_beside(
    plan: Measure, samples: Samples, round_: int, setting: Setting, broker: Running, load: Load
) -> None:
    """Put alone and beside a reader, one after the other."""

    async def put() -> Puts:
        return await loads.put(broker.port, load, MANY, plan.seconds, plan.warm)

    alone = await put()
    await asyncio.to_thread(forget_pages, plan.folder / OURS / "data")
    reader = asyncio.create_task(loads.get_all(broker.port, "read", MANY, 1 << 20))
    beside = await put()
    busy = not reader.done()
    reads = await reader
    name = f"reading/{load.name}"
    note(samples, setting, round_, f"{name} alone", alone.rate, "messages/s", f"p99 {alone.p99_ms} ms")
    words = f"p99 {beside.p99_ms} ms" + ("" if busy else ", the reader was done before")
    note(samples, setting, round_, f"{name} beside", beside.rate, "messages/s", words)
    note(samples, setting, round_, f"{name} read", reads.rate / 1e6, "MB/s")


def write_backlog(data: Path) -> None:
    """Write a segment of BACKLOG bytes into each partition of topic `read`."""
    count = BACKLOG // (len(BODY) + record.HEADER_SIZE)
    segment = b"".join(record.pack(number, 0, BODY) for number in range(1, count + 1))
    for number in range(MANY):
        folder = data / f"read-{number}"
        folder.mkdir(parents=True)
        (folder / f"{0:020d}.meta").write_bytes(segment)


def forget_pages(data: Path) -> None:
    """Have the operating system forget what it holds of the topic in memory."""
    os.sync()
    for file in data.glob("read-*/*.meta"):
        fd = os.open(file, os.O_RDONLY)
        try:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(fd)


# -- tables


def rows(samples: Samples) -> Iterator[str]:
    """Yield the rows of the table HEAD, one for each case, a column for each number of partitions."""
    parts = [case.split("/", 3) for case in samples.cases() if case.startswith("partitions/")]
    for synced, what in dict.fromkeys((synced, what) for _, synced, _, what in parts if "reading" not in what):
        yield row(samples, synced, what, counts_of(samples))


def speed_rows(samples: Samples) -> Iterator[str]:
    """Yield the rows of the table SPEED: what partitions cost, most of it as processor time."""
    for what in SHOWN:
        for synced in ("unsynced", "synced"):
            if any(samples.values(f"partitions/{synced}/{count}/{what}", OURS) for count in COUNTS):
                yield row(samples, synced, what, list(COUNTS))


def row(samples: Samples, synced: str, what: str, counts: list[int]) -> str:
    cells = {count: samples.values(f"partitions/{synced}/{count}/{what}", OURS) for count in counts}
    texts = [number(median(each.values())) if each else "-" for each in cells.values()]
    few, many = cells.get(FEW), cells.get(MANY)
    ratio = f"{median(many.values()) / median(few.values()):.2f}" if few and many else "-"
    unit = next(
        s.unit for s in samples.taken if s.case.startswith(f"partitions/{synced}/") and s.case.endswith(f"/{what}")
    )
    return f"| {synced}, {what} ({unit}) | {' | '.join(texts)} | {ratio} |"


def number(value: float) -> str:
    """Return three figures of it, or all before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def reading_rows(samples: Samples) -> Iterator[str]:
    """Yield the rows of the table READING."""
    for case in (c.removesuffix(" alone") for c in samples.cases() if "/reading/" in c and c.endswith(" alone")):
        alone, beside, read = (samples.values(f"{case} {word}", OURS) for word in ("alone", "beside", "read"))
        ratio = median(beside[round_] / alone[round_] for round_ in alone.keys() & beside.keys())
        verdict = f"**{ratio:.2f}, misses {READ_GOAL}**" if ratio < READ_GOAL else f"{ratio:.2f}"
        rates = f"{median(alone.values()):,.0f} | {median(beside.values()):,.0f}"
        yield f"| {case.removeprefix('partitions/')} | {rates} | {verdict} | {median(read.values()):,.0f} MB/s |"


def counts_of(samples: Samples) -> list[int]:
    cases = (case.split("/") for case in samples.cases() if case.startswith("partitions/") and "reading" not in case)
    return sorted({int(parts[2]) for parts in cases})


def head(samples: Samples) -> str:
    """Return HEAD with the columns there are."""
    counts = counts_of(samples)
    return HEAD.format(
        counts=" | ".join(f"{n:,}" for n in counts), rule="---|" * len(counts), many=f"{MANY:,}", few=FEW
    )


@click.group()
def main() -> None:
    """Measure what partitions cost."""


@main.command("run")
@click.option("--rounds", default=1, show_default=True)
@click.option("--seconds", default=2.0, show_default=True, help="How long each load is measured.")
@click.option("--partitions", default=",".join(map(str, COUNTS)), show_default=True)
@click.option("--synced", type=click.Choice(["yes", "no", "both"]), default="both", show_default=True)
@click.option("--reading/--no-reading", default=True)
def run_(rounds: int, seconds: float, partitions: str, synced: str, reading: bool) -> None:
    """Run it and print the tables."""
    loads.compile_all()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    samples = Samples({})
    which = {"yes": (True,), "no": (False,), "both": (False, True)}[synced]
    counts = tuple(map(int, partitions.split(","))) if partitions else ()
    try:
        with tempfile.TemporaryDirectory(prefix="metaq-partitions-") as place:
            for round_ in range(rounds):
                asyncio.run(
                    measure(Measure(Path(place), seconds, seconds / 3, counts, which, reading), samples, round_)
                )
    finally:
        with _quiet():
            click.echo("\n".join([head(samples), *rows(samples), "", READING, *reading_rows(samples)]))


@main.command("send", hidden=True)
@click.argument("port", type=int)
@click.argument("warm", type=float)
@click.argument("seconds", type=float)
def send_(port: int, warm: float, seconds: float) -> None:
    """Put from a client in Python; print the rate."""
    click.echo(json.dumps(asyncio.run(send(port, warm, seconds))))


@contextmanager
def _quiet() -> Iterator[None]:
    try:
        yield
    except (ValueError, StopIteration):  # interrupted before there was a row
        click.echo("nothing measured", err=True)


if __name__ == "__main__":
    main()
