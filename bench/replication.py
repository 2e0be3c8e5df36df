"""Slaves beside their master: how fast they copy, how far they are behind, and what they cost it.

`python -m bench.replication` measures once and prints the table; in `make bench` the cases are `replication/…`.
"""

import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from bench import loads
from bench.brokers import Running
from bench.cases import BODY_SIZE, JAVA, OURS, Load, Setting
from bench.partitions import forget_pages
from bench.plan import one_line, say
from bench.processes import Served, ServerFailed
from bench.report_cells import cell
from bench.samples import Sample, Samples
from bench.slaves import Lag, Site, check_equal, copied, java_slave, put_at, quantile, site
from metaq import record
from tests.faults.pressing import Client

GROUP: Final = "replication/"
BODY: Final = bytes(range(97, 122)) * 40  # 1,000 bytes
BLOCK: Final = 1 << 10  # messages written at once
MAX_SIZE: Final = 1 << 20  # bytes of a get
SEGMENT: Final = 1 << 30  # maxSegmentSize of the brokers here
SIZE: Final = len(BODY) + record.HEADER_SIZE  # of a record on disk
MESSAGES: Final = 500_000  # that the original's slave was measured with
SYNCED, UNSYNCED = Setting(synced=True, partitions=16), Setting(synced=False, partitions=16)
SETTINGS: Final = {"threshold 0": SYNCED, "threshold 1000": UNSYNCED}
RATE: Final = 5000  # messages per second, of which the lag is measured
STEADY: Final = 30_000  # messages per second, at which masters with and without slaves do the same beside
OF_WITHOUT: Final = "of what it could carry without"
LOADS: Final = (Load(50, 1, 0.0), Load(50, 20, 0.0))
SLAVES: Final = 2
MEMORY: Final = Path("/dev/shm")
READER: Final = "reader"  # in C, that only counts the bytes
CLIENT: Final = "reader in Python"
HEAD: Final = f"""\
### Slaves

Copying what lies on disk, until it is safe and can be read at the slave, beside what one reader gets: the bare one in
C, one get of 1 MiB in flight, and one with our client. Before each the system forgets what it has of the files in
memory. `threshold`: unflushThreshold of the slave, {MESSAGES:,} messages of {len(BODY):,} bytes in one partition.
`to a pair's slave`: the same log, which the master of a synchronous pair sends to its slave that comes back empty,
threshold 0. Lag: from the send to the master until read at the slave, {RATE:,} messages of {BODY_SIZE} bytes a second
in 16 partitions, synced. Puts with {SLAVES} slaves: the master has a processor for itself, the load and then the slaves
share the rest; the slaves' files are in memory, as if their disks were others. `processor time`: what the master takes
for a message. `own work`: this time without slaves by that with them, what a master carries whose load and slaves have
processors of their own, surest at {STEADY:,} messages a second, where the load is the same; `rate` is as it was
measured, all on the processors there are.

| Case | Value |
|---|---|"""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured. `gib`: of the large log."""

    gib: int
    messages: int
    seconds: float


FULL: Final = Sizes(10, MESSAGES, 10.0)
QUICK: Final = Sizes(1, MESSAGES // 10, 1.0)


class Measure:
    """One round."""

    def __init__(self, samples: Samples, round_: int, folder: Path, sizes: Sizes) -> None:
        self._samples = samples
        self._round = round_
        self._folder = folder / "replication"
        self._sizes = sizes

    def add(self, case: str, value: float, unit: str, name: str = OURS) -> None:
        say(f"  {case}, {name}: {value:,.2f} {unit}")
        self._samples.add(Sample(f"{GROUP}{case}", name, self._round, value, unit))

    async def copy(self) -> None:
        """Copy a large log, beside readers of it."""
        size = self._sizes.gib * (SEGMENT // SIZE) * SIZE
        async with site(self._folder, {"read": 1}) as place:
            write_log(place.home("master"), self._sizes.gib * (SEGMENT // SIZE))
            async with place.master(UNSYNCED) as master:
                await self.forget(place)
                reads = await loads.get_all(master.port, "read", 1, MAX_SIZE)
                self.add("copy", reads.rate / 1e6, "MB/s", READER)
                await self.forget(place)
                self.add("copy", await read_in_python(master.port, size) / 1e6, "MB/s", CLIENT)
                await self.forget(place)
                async with place.slave(UNSYNCED) as slave:
                    rate = await copied(slave.port, "read", 1, size, patience=60 + size / 20e6)
                    self.add("copy", rate / 1e6, "MB/s")
            check_equal(place.home("master"), place.home("slave1"), "read")

    async def forget(self, place: Site) -> None:
        await asyncio.to_thread(forget_pages, place.home("master") / "data")

    async def small(self) -> None:
        """Copy what the original's slave was measured with, as it is set up."""
        size = self._sizes.messages * SIZE
        kinds = [OURS, JAVA] if java_slave() else [OURS]
        async with site(self._folder, {"read": 1}) as place:
            write_log(place.home("master"), self._sizes.messages)
            async with place.master(UNSYNCED) as master:
                await loads.get_all(master.port, "read", 1, MAX_SIZE)
                for kind in kinds:
                    for name, setting in SETTINGS.items():
                        async with place.slave(setting, kind=kind) as slave:
                            rate = await copied(slave.port, "read", 1, size, patience=60 + size / 2e6)
                            self.add(f"copy, {name}", rate / 1e6, "MB/s", kind)
                        if kind == OURS:
                            check_equal(place.home("master"), place.home("slave1"), "read")

    async def pair(self) -> None:
        """Bring up the empty slave of a synchronous pair, with the same log."""
        size = self._sizes.messages * SIZE
        async with site(self._folder, {"read": 1}) as place:
            write_log(place.home("master"), self._sizes.messages)
            async with place.gregor(SYNCED) as slave:  # some comes before the master is registered
                coming = asyncio.ensure_future(copied(slave.port, "read", 1, size, patience=60 + size / 2e6))
                try:
                    async with place.master(SYNCED, copy_to=slave.port):
                        self.add("copy, to a pair's slave", await coming / 1e6, "MB/s")
                finally:
                    coming.cancel()
                    await asyncio.gather(coming, return_exceptions=True)
            check_equal(place.home("master"), place.home("slave1"), "read")

    async def lag(self) -> None:
        """Measure how long a message takes to a reader of a slave."""
        async with (
            site(self._folder, {"test": SYNCED.partitions}) as place,
            place.master(SYNCED) as master,
            place.slave(SYNCED) as slave,
        ):
            await loads.put_each(master.port, SYNCED.partitions)
            size = SYNCED.partitions * (BODY_SIZE + record.HEADER_SIZE)
            await copied(slave.port, "test", SYNCED.partitions, size)
            one, other = await Client.dial(master.port), await Client.dial(slave.port)
            lag = Lag(one, other, SYNCED.partitions, BODY_SIZE)
            await lag.run(RATE, self._sizes.seconds)
            for client in (one, other):
                client.transport.abort()
            for part, name in ((0.5, "p50"), (0.99, "p99")):
                self.add(f"lag {name}", quantile(lag.seconds, part) * 1000, "ms")

    async def puts(self) -> None:
        """Put on a master, without slaves and with them, in turns: it has a processor for itself."""
        rest = os.sched_getaffinity(0)
        own = {min(rest)} if len(rest) > 1 else rest
        os.sched_setaffinity(0, rest - own or rest)  # so what is started has it too, and only the master is moved
        try:
            await self._puts(own)
        finally:
            os.sched_setaffinity(0, rest)

    async def _puts(self, own: set[int]) -> None:
        for load in LOADS:
            found: list[tuple[float, float]] = []
            for count in (0, SLAVES):
                async with self._beside(count, own) as master:
                    found.append(await self._put(master, load, f"put {load.name}, {slaves(count)}"))
            (rate, time), (with_slaves, its_time) = found
            self.add(f"put {load.name}, rate with slaves", with_slaves / rate, "of that without")
            self.add(f"put {load.name}, own work with slaves", time / its_time, OF_WITHOUT)
        times: list[float] = []
        for count in (0, SLAVES):
            async with self._beside(count, own) as master:
                times.append(await self._put_steadily(master))
            self.add(f"put {STEADY:,}/s, {slaves(count)}, processor time", times[-1] * 1e6, "µs")
        self.add(f"put {STEADY:,}/s, own work with slaves", times[0] / times[1], OF_WITHOUT)

    @asynccontextmanager
    async def _beside(self, count: int, own: set[int]) -> AsyncIterator[Running]:
        """Run a master with a message in each partition and so many slaves beside it."""
        base = MEMORY if MEMORY.is_dir() else self._folder
        with tempfile.TemporaryDirectory(prefix="metaq-slaves-", dir=base) as memory:
            async with site(self._folder, {"test": SYNCED.partitions}) as place, AsyncExitStack() as stack:
                master = await stack.enter_async_context(place.master(SYNCED))
                for thread in Path(f"/proc/{master.process.pid}/task").iterdir():
                    os.sched_setaffinity(int(thread.name), own)
                for number in range(1, count + 1):
                    (Path(memory) / str(number)).mkdir()
                    place.home(f"slave{number}").symlink_to(Path(memory) / str(number))
                    slave = await stack.enter_async_context(place.slave(SYNCED, number))
                    os.setpriority(os.PRIO_PROCESS, slave.process.pid, 19)
                await loads.put_each(master.port, SYNCED.partitions)
                yield master

    async def _put(self, master: Running, load: Load, case: str) -> tuple[float, float]:
        """Return messages per second, and the seconds of processor that the master takes for one."""
        await loads.put(master.port, load, SYNCED.partitions, 1.0, 0)
        before = processor_time(master)
        puts = await loads.put(master.port, load, SYNCED.partitions, self._sizes.seconds, 0)
        self.add(case, puts.rate, "messages/s")
        time = (processor_time(master) - before) / puts.messages
        self.add(f"{case}, processor time", time * 1e6, "µs")
        return puts.rate, time

    async def _put_steadily(self, master: Running) -> float:
        """Return the seconds of processor that the master takes for a message at a rate that it has time for."""
        client = await Client.dial(master.port)
        await put_at(client, STEADY, 1.0, SYNCED.partitions, BODY_SIZE)
        before = processor_time(master)
        sent = await put_at(client, STEADY, self._sizes.seconds, SYNCED.partitions, BODY_SIZE)
        used = processor_time(master) - before
        client.transport.abort()
        return used / sent


def slaves(count: int) -> str:
    """Return how many there are, in words."""
    return f"{count or 'no'} slaves"


def processor_time(served: Served) -> float:
    """Return the seconds of processor that a process has used."""
    words = Path(f"/proc/{served.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def write_log(home: Path, messages: int) -> None:
    """Write partition read-0 of a broker that does not run."""
    folder = home / "data" / "read-0"
    folder.mkdir(parents=True)
    offset = 0
    left = messages
    while left:
        count = min(left, SEGMENT // SIZE)
        with (folder / f"{offset:020d}.meta").open("wb") as file:
            for first in range(0, count, BLOCK):
                number = offset // SIZE + first + 1
                ids = range(number, number + min(BLOCK, count - first))
                file.write(b"".join(record.pack(id, 0, BODY) for id in ids))
        offset += count * SIZE
        left -= count


async def read_in_python(port: int, size: int) -> float:
    """Read partition read-0 in a process of its own; return bytes per second of its records."""
    words = [sys.executable, "-m", "bench.peers.metaq_reader", str(port), str(size)]
    process = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    if process.returncode:
        raise ServerFailed("the reader in Python fails")
    return float(out)


async def measure(samples: Samples, round_: int, folder: Path, sizes: Sizes) -> None:
    """Measure everything once; what fails is noted."""
    taken = Measure(samples, round_, folder, sizes)
    for name in ("copy", "small", "pair", "lag", "puts"):
        try:
            await getattr(taken, name)()
        except (loads.LoadFailed, ServerFailed) as exc:
            samples.add(Sample(f"{GROUP}{name}", OURS, round_, None, "", one_line(exc)))


def rows(samples: Samples) -> Iterator[str]:
    """Yield the rows of the table."""
    for case in (case for case in samples.cases() if case.startswith(GROUP)):
        for name in samples.brokers(case):
            what = case.removeprefix(GROUP) + (f", {name}" if name != OURS else "")
            yield f"| {what} | {cell(samples, case, name)} {samples.unit(case)} |"


@click.command()
@click.option("--gib", default=QUICK.gib, show_default=True, help="How much the large log has.")
@click.option("--seconds", default=3.0, show_default=True, help="How long each load is on.")
@click.option("--rounds", default=1, show_default=True)
@click.option("--folder", type=click.Path(path_type=Path), help="Where the files are; as tempfile chooses by itself.")
@click.option("--only", default="copy,small,pair,lag,puts", show_default=True)
def main(gib: int, seconds: float, rounds: int, folder: Path | None, only: str) -> None:
    """Measure and print the table."""
    loads.compile_all()
    samples = Samples({})
    with tempfile.TemporaryDirectory(prefix="metaq-replication-", dir=folder) as place:
        for round_ in range(rounds):
            taken = Measure(samples, round_, Path(place), Sizes(gib, MESSAGES, seconds))
            for name in only.split(","):
                asyncio.run(getattr(taken, name)())
    click.echo("\n".join([HEAD, *rows(samples)]))


if __name__ == "__main__":
    main()
