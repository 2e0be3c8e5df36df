"""Consuming a backlog with one client: ours and that of each peer in turn, each in a process of its own."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias

from bench.brokers import Config, prepare, serves
from bench.cases import BODY_SIZE, JAVA, OURS, Setting
from bench.loads import LoadFailed
from bench.peers.driver import Outcome
from bench.processes import ServerFailed, serving
from bench.samples import Sample, Samples
from bench.servers import CLIENTS, Peer
from tests.interop import jvm

TOPIC: Final = "backlog"
PARTITIONS: Final = 4
PATIENCE: Final = 300.0  # seconds for one driver
FLAGS: Final = ("-Xmx1g",)  # a JVM as it comes, but for its memory
EQUAL: Final = "consume/100 B"
KILO: Final = "consume/1 KB"
MIXED: Final = "consume/50–150 B"
Consume: TypeAlias = Callable[[], Awaitable[Outcome]]


@dataclass(frozen=True, slots=True)
class Backlog:
    """What is consumed, and what beside."""

    messages: int
    mixed: bool
    peers: tuple[str, ...]  # of servers.CLIENTS, and JAVA
    rounds: int
    folder: Path
    zk: str  # "" where there is none; then the Java consumer is left out
    size: int = BODY_SIZE  # bytes
    late: Callable[[], bool] = lambda: False  # the time is over: begin with no other peer

    @property
    def case(self) -> str:
        return MIXED if self.mixed else EQUAL if self.size == BODY_SIZE else KILO

    def words(self, verb: str, address: str) -> list[str]:
        numbers = (self.messages, self.size, PARTITIONS, int(self.mixed))
        return [verb, address, TOPIC, *map(str, numbers)]


async def measure_consuming(samples: Samples, backlog: Backlog, say: Callable[[str], None]) -> None:
    """Fill our broker, then take turns: ours, a peer, ours, the peer. Raises ServerFailed or LoadFailed for ours."""
    turn = 0  # one number for the two that follow each other
    async with our_broker(backlog) as address:
        await driver("metaq_loop", backlog.words("fill", address))
        for name in backlog.peers:
            if backlog.late():
                break
            say(f"{backlog.case}: {name}")
            try:
                async with rival(name, backlog, address) as consume:
                    for _ in range(backlog.rounds):
                        note(
                            samples, backlog, OURS, turn, await driver("metaq_loop", backlog.words("consume", address))
                        )
                        note(samples, backlog, name, turn, await consume())
                        say("  " + ", ".join(f"{s.broker} {s.value:,.0f}/s ({s.note})" for s in samples.taken[-2:]))
                        turn += 1
            except (LoadFailed, ServerFailed) as exc:
                samples.add(Sample(backlog.case, name, turn, None, "messages/s", " ".join(str(exc).split())[-160:]))
                turn += 1


def note(samples: Samples, backlog: Backlog, name: str, turn: int, outcome: Outcome) -> None:
    if outcome.messages < backlog.messages:
        raise LoadFailed(f"{name}: {outcome.messages} messages came, not {backlog.messages}")
    cost = f"{outcome.cpu / outcome.messages * 1e6:.2f} µs each" if outcome.cpu else ""
    samples.add(Sample(backlog.case, name, turn, outcome.messages / outcome.seconds, "messages/s", cost))


@asynccontextmanager
async def our_broker(backlog: Backlog) -> AsyncIterator[str]:
    """Start a broker in an empty folder; yields its address."""
    folder = backlog.folder / "consume-metaq"
    config = Config(Setting(synced=False, partitions=PARTITIONS), {TOPIC: PARTITIONS}, backlog.zk)
    port, command = prepare(OURS, folder, config)
    try:
        async with serving(command, partial(serves, OURS, port, command.log)):
            yield f"127.0.0.1:{port}"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def rival(name: str, backlog: Backlog, ours: str) -> AsyncIterator[Consume]:
    """Start a peer's server and fill it; yields what consumes it once."""
    folder = backlog.folder / "consume-peer"
    folder.mkdir()
    try:
        if name == JAVA:
            yield partial(java_consumer, backlog, folder)
            return
        peer = next(each for each in CLIENTS if each.name == name)
        async with peer.serve(folder) as server:
            address = server.address.split(",")[0]
            await driver(peer.driver, backlog.words("fill", address))
            yield partial(peer_consumer, peer, backlog, address)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def peer_consumer(peer: Peer, backlog: Backlog, address: str) -> Outcome:
    environment = {"BENCH_TUNED": "1"} if peer.tuned else {}
    return await driver(peer.driver, backlog.words("consume", address), environment)


async def java_consumer(backlog: Backlog, folder: Path) -> Outcome:
    """Consume with the Java client 1.4.6.2, in a new group each time. Its clock starts when it has subscribed."""
    log = folder / "java.log"
    kind = f"{backlog.size}-{'mixed' if backlog.mixed else 'equal'}"
    group = f"java-{kind}-{len(list(folder.iterdir()))}"
    (folder / group).touch()
    options = {"topic": TOPIC, "group": group, "zk": backlog.zk, "count": backlog.messages, "quiet": "true"}
    words = ["judge.Consume", *(word for key, value in options.items() for word in (f"--{key}", str(value)))]
    java = await jvm.JavaProcess.start(words, log, FLAGS, stdout=subprocess.PIPE)
    try:
        done = (await jvm.Command(java, "Consume").finish()).done
    except AssertionError as exc:
        raise LoadFailed(str(exc)) from exc
    finally:
        await java.kill()
    return Outcome(int(done["received"] or 0), float(done["seconds"] or 0), 0.0)


async def driver(module: str, words: list[str], environment: dict[str, str] | None = None) -> Outcome:
    """Run a driver of `bench.peers` to its end. Raises LoadFailed. After filling the outcome is empty."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", f"bench.peers.{module}", *words,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=Path(__file__).parent.parent,
        env={**os.environ, **(environment or {})},
    )  # fmt: skip
    try:
        async with asyncio.timeout(PATIENCE):
            out, errors = await process.communicate()
    except TimeoutError:
        raise LoadFailed(f"{module} does not end") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise LoadFailed(f"{module}: {errors.decode('utf-8', 'replace')[-300:]}")
    return Outcome(**json.loads(out)) if out else Outcome(0, 0.0, 0.0)
