"""Producing beside other systems: one session with each server, not synced and synced, all workloads in it."""

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench import loads
from bench.cases import JAVA, OURS
from bench.loads import LoadFailed
from bench.processes import ServerFailed
from bench.samples import Sample, Samples
from bench.servers import Server
from bench.systems import COUNTS, Client, System, driver_words

GROUP: Final = "peers/"
CASES: Final = (
    "P1", "P3/100 B", "P3/1 KB", "P5", "P8", *(f"P{kind}/{count}" for kind in (2, 6) for count in COUNTS),
)  # fmt: skip
SIZE: Final = 100  # bytes
KILO: Final = 1000
PATIENCE: Final = 60.0  # seconds for one driver beyond those it measures
PATIENCE_TO_MAKE: Final = 120.0  # to make up to 10,000 partitions
WARMING: Final = 2.0  # seconds of load for a server that gets faster while it runs
RARELY: Final = 10_000  # partitions which only the first round has
IDLE: Final = 0.5  # seconds before memory is read


@dataclass(frozen=True, slots=True)
class Work:
    """One measurement in a session."""

    case: str  # P1, P2/16, P3/100 B, …
    verb: str
    topic: str
    partitions: int
    size: int = SIZE

    @property
    def kind(self) -> str:
        return self.case[:2]


@dataclass(frozen=True, slots=True)
class Session:
    """What is measured in all sessions, for how long."""

    folder: Path
    seconds: float
    wants: Callable[[str], bool]
    say: Callable[[str], None]
    late: Callable[[], bool]  # the time is over: begin nothing more
    counts: tuple[int, ...] = COUNTS

    def works(self, system: System, synced: bool, round_: int) -> Iterator[Work]:
        counts = [n for n in self.counts if n <= system.most and (n < RARELY or not round_)]
        few = counts[0]
        if not synced:
            yield Work("P1", "one", f"t{few}", few)
            yield Work(f"P2/{few}", "many", f"t{few}", few)
            for size, name in ((SIZE, "100 B"), (KILO, "1 KB")):
                yield Work(f"P3/{name}", "stream", f"t16s{size}", 16, size)
        if synced is system.shows_late:
            yield Work("P5", "latency", "latency", 16)
        if not synced:
            counts = counts[1:]
        for count in counts:
            yield Work(f"P{6 if synced else 2}/{count}", "many", f"t{count}", count)


async def measure_producing(session: Session, samples: Samples, round_: int, system: System) -> None:
    """Measure one system, not synced and then synced. What fails becomes a sample without a value."""
    for synced in (False, True):
        works = [w for w in session.works(system, synced, round_) if session.wants(f"{GROUP}{w.case}")]
        wants_start = not synced and session.wants(f"{GROUP}P8")
        if not (works or wants_start) or session.late():
            continue
        session.say(f"round {round_ + 1}: {system.name}, {'synced' if synced else 'not synced'}")
        folder = session.folder / "producing"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        try:
            async with system.serve(folder, synced) as server:
                await carry_out(session, samples, round_, system, server, works)
        except (LoadFailed, ServerFailed, OSError) as exc:
            session.say(f"  {system.name}: {exc}")
            add_failure(samples, "P8/start" if not synced else "P6/16", system.clients[0].name, round_, exc)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


async def carry_out(
    session: Session, samples: Samples, round_: int, system: System, server: Server, works: list[Work]
) -> None:
    who = system.clients[0].name if system.name in (OURS, "MetaQ (Java)") else system.name
    add = Adding(samples, round_, session.say)
    if round_ not in samples.values(f"{GROUP}P8/start", who):  # of the first of its sessions
        add.value("P8/start", who, server.seconds, "s")
    made: set[tuple[str, str]] = set()
    shaken = not system.java
    for work in works:
        for client in (each for each in system.those_there() if work.kind in each.workloads.split()):
            if session.late():
                return
            try:
                if (work.topic, client.mode) not in made:
                    await make(system, client, server, work, session.folder)
                    made.add((work.topic, client.mode))
                await asyncio.to_thread(os.sync)  # the files of the last one do not hinder the next
                if not shaken:
                    shake = Work("", "many", f"t{session.counts[0]}", session.counts[0])
                    await make(system, client, server, shake, session.folder)
                    made.add((shake.topic, client.mode))
                    await drive(client, server, shake, WARMING / 2, session.folder, WARMING)
                    shaken = True
                figures = await drive(client, server, work, session.seconds, session.folder)
                add.figures(work, client.name, figures)
            except (LoadFailed, OSError) as exc:
                session.say(f"  {work.case}, {client.name}: {exc}")
                add_failure(samples, work.case, client.name, round_, exc)
        if work.kind == "P2" and work.partitions in (16, 1024):
            await asyncio.sleep(IDLE)
            add.value(f"P8/memory, {work.partitions:,} partitions", who, server.memory(), "MiB")


async def make(system: System, client: Client, server: Server, work: Work, folder: Path) -> None:
    """Make the partitions, so that making them is not measured. Raises LoadFailed."""
    if system.makes_topics:
        await drive(client, server, Work("", "prepare", work.topic, work.partitions), 0.0, folder)
    elif client.name.partition(" ")[0] in (OURS, JAVA):
        await loads.put_each(int(server.address.rpartition(":")[2]), work.partitions, work.topic)


async def drive(
    client: Client, server: Server, work: Work, seconds: float, folder: Path, warm: float | None = None
) -> dict[str, float]:
    """Run one driver to its end; return what it measured. Raises LoadFailed."""
    addresses = server.address.split(",")
    address = server.address if client.java else addresses[min(client.part, len(addresses) - 1)]
    if client.java == "metaq":
        address = zookeeper_of(server)
    patience = PATIENCE_TO_MAKE if work.verb == "prepare" else PATIENCE + 2 * seconds
    numbers = (work.size, work.partitions, seconds, seconds / 3 if warm is None else warm)
    words = [work.verb, address, work.topic, *map(str, numbers), *([client.mode] if client.mode else [])]
    process = await asyncio.create_subprocess_exec(
        *driver_words(client, folder), *words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, cwd=Path(__file__).parent.parent, start_new_session=True,
    )  # fmt: skip
    try:
        async with asyncio.timeout(patience):
            out, errors = await process.communicate()
    except TimeoutError:
        raise LoadFailed(f"{work.verb} does not end within {patience:g} s") from None
    finally:
        end_session(process)
        await process.wait()
    if process.returncode or not out:
        raise LoadFailed(" ".join(last_line(errors.decode("utf-8", "replace")).split())[:160])
    figures: dict[str, float] = json.loads(out.splitlines()[-1])
    return figures


def end_session(process: asyncio.subprocess.Process) -> None:
    """Kill a driver that is left, with the sender it started."""
    try:
        os.killpg(process.pid, 9)
    except ProcessLookupError:
        return


def zookeeper_of(server: Server) -> str:
    """Return ZooKeeper and root of a Java broker, HOST:PORT,ROOT, from the configuration it was started with."""
    for word in server.processes[-1].words:
        if word.endswith("server.ini"):
            settings = dict(line.split("=", 1) for line in Path(word).read_text().splitlines() if "=" in line)
            return f"{settings['zk.zkConnect']},{settings['zk.zkRoot']}"
    raise LoadFailed("no ZooKeeper")


def last_line(text: str) -> str:
    """Return the line of an error that says what happened: the last of Python, the last cause of Java."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("at ")]
    causes = [line for line in lines if line.startswith("Caused by:")]
    return (causes or lines or ["it said nothing"])[-1].replace("|", "/")


@dataclass(frozen=True, slots=True)
class Adding:
    """Notes what was measured in one round."""

    samples: Samples
    round: int
    say: Callable[[str], None]

    def figures(self, work: Work, name: str, figures: dict[str, float]) -> None:
        times = f"p50 {figures['p50']:.3f} ms, p99 {figures['p99']:.3f} ms" if "p50" in figures else ""
        if work.verb != "latency":
            self.value(work.case, name, figures["rate"], "messages/s", times)
        if work.verb in ("latency", "one"):
            self.value(f"{work.case} p50", name, figures["p50"], "ms")
            self.value(f"{work.case} p99", name, figures["p99"], "ms")

    def value(self, case: str, name: str, value: float, unit: str, words: str = "") -> None:
        self.say(f"  {case}, {name}: {value:,.4g} {unit} {words}".rstrip())
        self.samples.add(Sample(f"{GROUP}{case}", name, self.round, value, unit, words))


def add_failure(samples: Samples, case: str, name: str, round_: int, error: Exception) -> None:
    unit = {"P5": "ms", "P8": "s"}.get(case[:2], "messages/s")
    where = f"{case} p50" if case == "P5" else case
    words = " ".join(str(error).split()).replace("|", "/")[-160:]
    samples.add(Sample(f"{GROUP}{where}", name, round_, None, unit, words))
