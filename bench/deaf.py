"""What readers that stop reading do to others: `python -m bench.deaf --write docs/bench`.

Producers go on at full speed all the time, and one reader reads slowly. In turns they are alone; then many others ask
for all of a log and read nothing of it; then these read again, and every byte is compared. Samples over time go into
deaf.json, for the plot; a table is printed.
"""

import asyncio
import json
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Final

import click

from bench.brokers import OURS_INI, Config, Running, prepare, serves
from bench.cases import OURS, Setting
from bench.processes import serving
from bench.report_cells import cell
from bench.samples import Sample, Samples
from metaq.model import TopicPartition
from metaq.record import HEADER_SIZE
from tests.faults.pressing import PATIENCE, Client, Pressing, dial_many, looking, most_connections

READERS: Final = (100, 400, 2000)  # what they leave unread is below what all may together, above, and far above
PRODUCERS: Final = 16
WINDOW: Final = 50  # puts under way of each
SIZE: Final = 1000  # bytes of a body
CHUNK: Final = 1 << 20  # bytes of a get of the deaf
RECORD: Final = 4 << 10  # bytes of a record of that log: every get begins with one, as those of consumers do
CHUNKS: Final = 4  # gets of each of them
SIP: Final = 64 << 10  # bytes of a get of the slow reader
PAUSE: Final = 0.02  # seconds between its gets
TAIL: Final = 8 << 20  # tailMemory: the log is read from its file, where no two replies share their bytes
BUFFER: Final = 64 << 10  # of a deaf socket, so that what it does not read waits in the broker, not in the system
TURNS: Final = 3
EACH: Final = 0.1  # seconds between samples
COURSES: Final = "deaf.json"  # what was seen over time
ALONE, DEAF, AGAIN = "alone", "deaf", "again"  # the phases of a turn
MIB: Final = "MiB"
HEAD: Final = f"""\
### Readers that stop reading

{PRODUCERS} producers with {WINDOW} puts of {SIZE:,} bytes under way each, not synced, go on all the time, and one
reader asks for {SIP >> 10} KiB, {PAUSE * 1000:.0f} ms after it has got the last. {TURNS} times in turn: these alone;
then so many others ask for {CHUNKS} times 1 MiB, of files, and read nothing; then those read again, and each byte is
compared. Ratios are medians of those of the turns. What all of them may leave unread is 256 MiB: 400 ask for more than
that at once, so a get brings less then, the slow reader's too: it asks again, until it has its {SIP >> 10} KiB.

| Case | Value |
|---|---|"""


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of a course, in seconds from its beginning."""

    kind: str
    start: float
    end: float


@dataclass
class Course:
    """One run: what was seen, by time."""

    readers: int
    times: list[float] = field(default_factory=list)  # seconds
    acknowledged: list[int] = field(default_factory=list)  # messages so far
    read: list[int] = field(default_factory=list)  # bytes that the slow reader has got so far
    waits: list[tuple[float, float]] = field(default_factory=list)  # when it asked, and seconds until it got that
    memory: list[tuple[float, float]] = field(default_factory=list)  # seconds, MiB resident
    phases: list[Phase] = field(default_factory=list)
    whole: int = 0  # bytes that were read again and are the right ones, of all turns
    late: float = 0.0  # seconds that `version` took at p99
    stretch: float = 1.0  # how many times longer the broker's loop took as others used the processors

    def of(self, kind: str) -> list[Phase]:
        return [phase for phase in self.phases if phase.kind == kind]

    def rates(self, counts: list[int], kind: str, part: float = 1.0) -> list[float]:
        """Return by turn how much a count grew per second in the last part of the phases of a kind."""
        found = []
        for phase in self.of(kind):
            start = phase.end - (phase.end - phase.start) * part
            inside = [(t, n) for t, n in zip(self.times, counts, strict=True) if start <= t <= phase.end]
            (first, before), (last, after) = inside[0], inside[-1]
            found.append((after - before) / max(EACH, last - first))
        return found

    def most(self, kind: str) -> float:
        """Return the most memory in the phases of a kind, in MiB."""
        return max(m for t, m in self.memory if any(phase.start <= t <= phase.end for phase in self.of(kind)))

    def longest(self, kind: str) -> float:
        """Return the longest that the slow reader waited for what it asked for in the phases of a kind, in seconds."""
        return max((s for t, s in self.waits if any(p.start <= t <= p.end for p in self.of(kind))), default=0.0)


class Hearing:
    """One reader that asks for a whole log at once; `right` counts the bytes that came as they must.

    A reply may bring less than was asked for, while memory is scarce: for the rest it asks when it reads again, from
    the last whole record on, as consumers do.
    """

    def __init__(self, client: Client, log: list[bytes]) -> None:
        self.client = client
        self.right = 0
        self.whole = asyncio.Event()
        self._log = log
        self._missing: list[tuple[int, int]] = []  # offsets, first and behind the last, as replies are to bring them
        client.replied = self._replied
        client.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)

    def ask(self) -> None:
        """Stop reading, and ask for everything from the beginning."""
        self.client.transport.pause_reading()
        self.whole.clear()
        for number in range(CHUNKS):
            self._get(number * CHUNK, (number + 1) * CHUNK)

    def _get(self, start: int, end: int) -> None:
        self._missing.append((start, end))
        self.client.transport.write(b"get read g 0 %d %d %d\r\n" % (start, end - start, start))

    def _replied(self, status: bytes, opaque: int, body: bytes) -> None:
        start, end = self._missing.pop(0)
        assert (status, opaque) == (b"value", start), f"{status!r} of get {opaque} instead of {start}"
        begin = start % CHUNK
        assert len(body) >= RECORD, "no whole record"
        assert body == self._log[start // CHUNK][begin : begin + min(len(body), end - start)], "other bytes"
        whole = len(body) // RECORD * RECORD
        self.right += whole
        if start + whole < end:
            self._get(start + whole, end)
        elif not self._missing:
            self.whole.set()

    async def hear(self) -> None:
        """Read again, until everything has come."""
        self.client.hear()
        async with asyncio.timeout(PATIENCE):
            await self.whole.wait()


@asynccontextmanager
async def broker(folder: Path) -> AsyncIterator[Running]:
    """Run a broker that keeps little of what was put in memory."""
    setting = Setting(synced=False, partitions=PRODUCERS)
    port, command = prepare(OURS, folder, Config(setting, {"test": PRODUCERS, "read": 1}, ""))
    ini = folder / "server.ini"
    ini.write_text(ini.read_text().replace(OURS_INI, f"{OURS_INI}tailMemory={TAIL}\n"))
    async with serving(command, partial(serves, OURS, port, command.log)) as served:
        yield Running(served.process, served.seconds, command.words, port)


async def fill(port: int) -> list[bytes]:
    """Put a log of so many gets; return what each of them brings, as one gets it who reads all the time."""
    client = await Client.dial(port)
    size = RECORD - HEADER_SIZE
    for number in range(CHUNKS * CHUNK // RECORD):
        client.transport.write(b"put read 0 %d 0 -1 %d\r\n%b" % (size, number, number.to_bytes(4, "big") * (size // 4)))
    await client.until(CHUNKS * CHUNK // RECORD)
    parts: list[bytes] = []
    client.replied = lambda status, opaque, body: parts.append(body)
    before = client.count
    for number in range(CHUNKS):
        client.transport.write(b"get read g 0 %d %d %d\r\n" % (number * CHUNK, CHUNK, number))
        await client.until(before + number + 1)
    client.transport.abort()
    assert [len(part) for part in parts] == [CHUNK] * CHUNKS, "a log of another size"
    return parts


async def sip(client: Client, course: Course) -> None:
    """Read the log slowly, again and again, and note how long each get takes, with those for what it left out."""
    loop = asyncio.get_running_loop()
    began, offset, got = loop.time(), 0, 0

    def replied(status: bytes, opaque: int, body: bytes) -> None:
        nonlocal got
        assert status == b"value", f"{status!r} of a get at {opaque}"
        got += len(body) // RECORD * RECORD

    client.replied = replied
    while True:
        asked, got = loop.time(), 0
        while got < SIP:
            client.transport.write(b"get read g 0 %d %d %d\r\n" % (offset + got, SIP - got, offset + got))
            await client.until(client.count + 1)
        offset = (offset + SIP) % (CHUNKS * CHUNK)
        course.waits.append((asked - began, loop.time() - asked))
        await asyncio.sleep(PAUSE)


async def sample(course: Course, producers: list[Pressing], slow: Client) -> None:
    """Note what was acknowledged and read so far, until cancelled."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    while True:
        course.times.append(loop.time() - began)
        course.acknowledged.append(sum(producer.client.count for producer in producers))
        course.read.append(slow.bytes)
        for producer in producers:
            producer.acknowledged.clear()  # nobody asks for them, and they are many
        await asyncio.sleep(EACH)


async def take_turns(course: Course, readers: list[Hearing], turns: int, seconds: float) -> None:
    """Let the readers be deaf and read again in turns, with time alone between; note when."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    for _ in range(turns):
        start = loop.time() - began
        await asyncio.sleep(seconds)
        deaf = loop.time() - began
        for reader in readers:
            reader.ask()
        await asyncio.sleep(seconds)
        again = loop.time() - began
        await asyncio.gather(*(reader.hear() for reader in readers))
        end = loop.time() - began
        course.phases += [Phase(ALONE, start, deaf), Phase(DEAF, deaf, again), Phase(AGAIN, again, end)]


async def press(folder: Path, count: int, seconds: float, turns: int = TURNS) -> Course:
    """Have so many readers stop reading in turns, which take so many seconds beside what it takes to read again."""
    course = Course(count)
    async with broker(folder) as running:
        log = await fill(running.port)
        readers = [Hearing(client, log) for client in await dial_many(running.port, count)]
        slow = await Client.dial(running.port)
        clients = await dial_many(running.port, PRODUCERS)
        async with looking(running.port, running.process.pid) as look:
            producers = [
                Pressing(client, str(number), TopicPartition("test", number), window=WINDOW, size=SIZE)
                for number, client in enumerate(clients)
            ]
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(sip(slow, course)), group.create_task(sample(course, producers, slow))]
                await take_turns(course, readers, turns, seconds / turns / 2)
                for task in tasks:
                    task.cancel()
        course.memory, course.late, course.stretch = look.memory, look.quantile(0.99), look.stretch
        course.whole = sum(reader.right for reader in readers)
        for client in (slow, *clients, *(reader.client for reader in readers)):
            client.transport.abort()
    return course


def figures(course: Course) -> Iterator[tuple[str, float, str]]:
    """Yield name, value and unit of what a course comes to."""
    for what, counts, scale, unit in (
        ("puts", course.acknowledged, 1, "messages/s"),
        ("slow reader", course.read, 1 << 20, "MiB/s"),
    ):
        alone, deaf = course.rates(counts, ALONE), course.rates(counts, DEAF)
        yield f"{what}, without", median(alone) / scale, unit
        yield f"{what}, with", median(deaf) / scale, unit
        yield f"{what}, with : without", median(d / max(1, a) for a, d in zip(alone, deaf, strict=True)), ""
        late = course.rates(counts, DEAF, 0.5)
        yield f"{what}, the second half : without", median(d / max(1, a) for a, d in zip(alone, late, strict=True)), ""
    for kind, words in ((ALONE, "without"), (DEAF, "with")):
        yield f"longest get of the slow reader, {words}", course.longest(kind) * 1000, "ms"
    yield "resident memory before, most", max(m for t, m in course.memory if t < course.phases[0].end), MIB
    yield "resident memory, most", max(memory for _, memory in course.memory), MIB
    yield "asked for and not read, each turn", course.readers * CHUNKS * CHUNK / (1 << 20), MIB
    yield (
        "read again, right and in order",
        course.whole / (len(course.of(AGAIN)) * course.readers * CHUNKS * CHUNK),
        "of 1",
    )
    yield "version, p99", course.late * 1000, "ms"
    yield "the same on processors of its own, about", course.late * 1000 / course.stretch, "ms"


async def measure(samples: Samples, folder: Path, seconds: float, page: Path) -> None:
    """Measure once, and keep what was seen over time in the folder of the page, for its plot."""
    courses = []
    for count in map(most_connections, READERS):
        (place := folder / f"deaf-{count}").mkdir(parents=True)
        courses.append(await press(place, count, min(seconds, 2 * TURNS * PATIENCE / 3)))
        for name, value, unit in figures(courses[-1]):
            samples.add(Sample(f"deaf/{count}/{name}", OURS, 0, value, unit))
    keep(courses, page)


def keep(courses: list[Course], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / COURSES).write_text(json.dumps([asdict(course) for course in courses]) + "\n")


def rows(samples: Samples) -> Iterator[str]:
    """Yield the rows of the table."""
    for case in (case for case in samples.cases() if case.startswith("deaf/")):
        name = case.removeprefix("deaf/").replace("/", " deaf readers: ")
        yield f"| {name} | {cell(samples, case, OURS)} {samples.unit(case)} |"


@click.command()
@click.option("--seconds", default=24.0, show_default=True)
@click.option("--write", type=click.Path(path_type=Path), help="Write deaf.json into this folder, and the plot.")
def main(seconds: float, write: Path | None) -> None:
    """Measure once and print the table."""
    samples = Samples({})
    with tempfile.TemporaryDirectory(prefix="metaq-deaf-") as place:
        asyncio.run(measure(samples, Path(place), seconds, write or Path(place)))
    click.echo("\n".join([HEAD, *rows(samples)]))
    if write is not None:
        from bench.pressure_plots import draw_deaf  # noqa: PLC0415 - it needs matplotlib

        draw_deaf(write)


if __name__ == "__main__":
    main()
