"""What a broker does under pressure: `python -m bench.pressure --write docs/bench`.

A disk that is slower than the producers, and thousands of producers at once. Samples over time and shares per
connection go into courses.json, for the plots; a table is printed.
"""

import asyncio
import json
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

import click

from bench.cases import OURS
from bench.report_cells import cell
from bench.samples import Sample, Samples
from metaq.model import TopicPartition
from tests.embedding import configured, settings
from tests.faults.pressing import Pressing, dial_many, jain, looking, most_connections

RATE: Final = 8 << 20  # bytes per second that the slow disk writes
SIZE: Final = 1000  # bytes of a body
WINDOW: Final = 20  # puts under way of an equal
GREED: Final = 5000  # and of the greedy one
PRODUCERS: Final = (100, 5000)
COURSES: Final = "courses.json"  # what was seen over time
EACH: Final = 0.1  # seconds between samples
MIB: Final = "MiB"
HEAD: Final = f"""\
### Under pressure

A disk that writes {RATE >> 20} MiB/s, synced, bodies of {SIZE:,} bytes, each producer with {WINDOW} puts under way, and
beside them one with {GREED:,}. Shares: of what was acknowledged to the equal ones; `version` is asked by another
connection meanwhile.

| Case | Value |
|---|---|"""


@dataclass
class Course:
    """One run: what was seen, by time."""

    producers: int
    times: list[float] = field(default_factory=list)  # seconds
    acknowledged: list[int] = field(default_factory=list)  # messages so far
    memory: list[tuple[float, float]] = field(default_factory=list)  # seconds, MiB resident
    shares: list[int] = field(default_factory=list)  # messages of each equal producer
    greedy: int = 0
    late: float = 0.0  # seconds that `version` took at p99
    stretch: float = 1.0  # how many times longer the broker's loop took as others used the processors


@asynccontextmanager
async def slow_broker(folder: Path) -> AsyncIterator[tuple[int, int]]:
    """Run a broker on the slow disk; yields its port and process id."""
    configured(folder, settings(folder, topics="[topic=test]\nnumPartitions=16\n"))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.faults.slow_broker", str(folder / "server.ini"), str(RATE), stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        line = await process.stdout.readline()
        yield int(line.rpartition(b"=")[2]), process.pid
    finally:
        process.kill()
        await process.wait()


async def press(folder: Path, producers: int, seconds: float) -> Course:
    """Have so many equal producers and a greedy one put for some seconds."""
    course = Course(producers)
    async with slow_broker(folder) as (port, pid):
        clients = await dial_many(port, producers + 1)
        async with looking(port, pid) as look:
            loop = asyncio.get_running_loop()
            began = loop.time()
            targets = [TopicPartition("test", number % 16) for number in range(producers + 1)]
            greedy, *equals = (
                Pressing(client, str(number), target, window=WINDOW if number else GREED, size=SIZE)
                for number, (client, target) in enumerate(zip(clients, targets, strict=True))
            )
            while (now := loop.time() - began) < seconds:
                course.times.append(now)
                course.acknowledged.append(sum(len(each.acknowledged) for each in (greedy, *equals)))
                await asyncio.sleep(EACH)
            course.shares = sorted(len(each.acknowledged) for each in equals)
            course.greedy = len(greedy.acknowledged)
        course.memory, course.late, course.stretch = look.memory, look.quantile(0.99), look.stretch
        for client in clients:
            client.transport.abort()
    return course


async def measure(samples: Samples, round_: int, folder: Path, seconds: float, counts: list[int]) -> list[Course]:
    """Measure with each of these numbers of producers; return the courses."""
    courses = []
    for count in counts:
        (place := folder / f"{round_}-{count}").mkdir(parents=True)
        course = await press(place, count, seconds)
        courses.append(course)
        for name, value, unit in figures(course):
            samples.add(Sample(f"pressure/{count}/{name}", OURS, round_, value, unit))
    return courses


async def measure_pressure(samples: Samples, folder: Path, seconds: float, page: Path) -> None:
    """Measure once, and keep what was seen over time in the folder of the page, for its plots."""
    folder.joinpath("pressure").mkdir(exist_ok=True)
    courses = await measure(samples, 0, folder / "pressure", seconds, [most_connections(n) for n in PRODUCERS])
    keep(courses, page)


def keep(courses: list[Course], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / COURSES).write_text(json.dumps([asdict(course) for course in courses]) + "\n")


def figures(course: Course) -> Iterator[tuple[str, float, str]]:
    """Yield name, value and unit of what a course comes to."""
    shares = course.shares
    middle = shares[len(shares) // 2]
    yield "acknowledged", course.acknowledged[-1] / course.times[-1], "messages/s"
    yield "resident memory, most", max(memory for _, memory in course.memory), MIB
    yield "Jain's index of the shares", jain(shares), ""
    yield "least : median share", shares[0] / middle if middle else 0.0, ""
    yield "greedy : median share", course.greedy / middle if middle else 0.0, ""
    yield "version, p99", course.late * 1000, "ms"
    yield "the same on processors of its own, about", course.late * 1000 / course.stretch, "ms"


def rows(samples: Samples) -> Iterator[str]:
    """Yield the rows of the table."""
    for case in (case for case in samples.cases() if case.startswith("pressure/")):
        name = case.removeprefix("pressure/").replace("/", " producers: ")
        yield f"| {name} | {cell(samples, case, OURS)} {samples.unit(case)} |"


@click.command()
@click.option("--seconds", default=60.0, show_default=True)
@click.option("--producers", default=",".join(map(str, PRODUCERS)), show_default=True)
@click.option("--write", type=click.Path(path_type=Path), help="Write courses.json into this folder, and the plots.")
def main(seconds: float, producers: str, write: Path | None) -> None:
    """Measure pressure once and print the table."""
    samples = Samples({})
    counts = [most_connections(int(count)) for count in producers.split(",")]
    with tempfile.TemporaryDirectory(prefix="metaq-pressure-") as place:
        courses = asyncio.run(measure(samples, 0, Path(place), seconds, counts))
    click.echo("\n".join([HEAD, *rows(samples)]))
    if write is not None:
        from bench.pressure_plots import draw  # noqa: PLC0415 - it needs matplotlib

        keep(courses, write)
        draw(write)


if __name__ == "__main__":
    main()
