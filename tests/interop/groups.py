"""A group whose members are processes of either kind; who owned what when; and what each member was given."""

import asyncio
import random
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from metaq import aio
from metaq.cluster.zk import ZooKeeperClient
from tests.cluster.court import owners
from tests.interop.conftest import Judge
from tests.interop.jvm import Command, JavaProcess

TOPIC: Final = "test"
SESSION: Final = 3.0  # seconds without a word after which a member that was killed is gone
HANGING: Final = 5.0  # seconds in which a Java consumer that is told to leave has left, or never does
LEAVING: Final = 20.0  # seconds in which one of ours must have left
JAVA: Final = {
    "topic": TOPIC, "group": "g", "max_delay_ms": 20, "commit_ms": 500, "idle_ms": 600_000,
    "zk_session_ms": int(SESSION * 1000), "zk_sync_ms": 300,
}  # fmt: skip


@dataclass(slots=True)
class Handled:
    """One message that one member was given."""

    at: float  # seconds since 1970
    partition: str
    head: str


@dataclass(slots=True)
class Runner:
    """One consumer as a process, and what it said."""

    name: str
    command: Command
    reading: asyncio.Task[None]
    handled: list[Handled] = field(default_factory=list)


class Group:
    """Consumers of both kinds in one group, each a process; who owned what when; and what each of them was given."""

    def __init__(self, judge: Judge, folder: Path, zk: str, client: ZooKeeperClient) -> None:
        self.running: list[Runner] = []
        self.all: list[Runner] = []
        self.owned: dict[str, list[tuple[float, str | None]]] = {}  # changes: when seen, and whose it was then
        self.longest_gap = 0.0  # seconds between two looks at who owns what: a busy machine may look late
        self._judge = judge
        self._folder = folder
        self._zk = zk
        self._client = client
        self._watching = asyncio.create_task(self._watch())

    async def end(self) -> None:
        self._watching.cancel()
        await asyncio.gather(self._watching, return_exceptions=True)
        for runner in self.all:
            await runner.command.java.kill()
            await runner.reading

    async def start(self, kind: str) -> None:
        """Start a consumer, without waiting for it to be a member."""
        name = f"{kind}{len(self.all)}"
        if kind == "java":
            command = await self._judge.start("Consume", id=name, work_ms=2, **JAVA)
        else:
            command = await self._start_python(name)
        runner = Runner(f"g_{name}", command, asyncio.create_task(asyncio.sleep(0)))
        runner.reading = asyncio.create_task(self._read(runner))
        self.running.append(runner)
        self.all.append(runner)

    async def remove(self, runner: Runner, *, kill: bool = False) -> bool:
        """Have a consumer leave in order, or end at once; return whether it did so by itself."""
        self.running.remove(runner)
        process = runner.command.java
        is_java = runner.name.startswith("g_java")
        ended = False if kill else await left(process, HANGING if is_java else LEAVING)
        assert ended or kill or is_java, f"{runner.name} hangs:\n{process.words()}"
        await process.kill()
        await runner.reading
        return ended

    async def at_rest(self) -> None:
        """Wait until no partition has changed hands for a while."""
        before = -1
        while before != (changes := sum(map(len, self.owned.values()))):
            before = changes
            await asyncio.sleep(0.5)

    def heads(self) -> set[str]:
        return {handled.head for runner in self.all for handled in runner.handled}

    def intrusions(self, slack: float) -> list[str]:
        """Return what members were given of partitions that were not theirs within `slack` seconds of then."""
        return [
            f"{runner.name} {handled}: {self._owners(handled, slack)}"
            for runner in self.all
            for handled in runner.handled
            if runner.name not in self._owners(handled, slack)
        ]

    def _owners(self, handled: Handled, slack: float) -> set[str | None]:
        changes = self.owned.get(handled.partition, [])
        spans = zip(changes, [*(at for at, _ in changes[1:]), float("inf")], strict=True)
        return {
            name for (begun, name), ended in spans if begun - slack <= handled.at <= ended + slack
        }  # fmt: skip

    async def _start_python(self, name: str) -> Command:
        log = self._folder / f"{name}.log"
        arguments = ["-m", "tests.interop.python_member", f"zk://{self._zk}/meta", "g", name, str(SESSION), "0.002"]
        with log.open("ab") as sink:
            process = await asyncio.create_subprocess_exec(
                sys.executable, *arguments, stdout=asyncio.subprocess.PIPE, stderr=sink, limit=1 << 24
            )
        return Command(JavaProcess(process, log), name)

    async def _read(self, runner: Runner) -> None:
        async for event in runner.command:
            if event["event"] == "message":
                runner.handled.append(Handled(float(event["at"] or 0), str(event["partition"]), str(event["head"])))

    async def _watch(self) -> None:
        before = time.time()
        while True:
            now = time.time()
            self.longest_gap = max(self.longest_gap, now - before)
            before = now
            seen = {text: name for text, (name, _) in (await owners(self._client, TOPIC)).items()}
            for text in seen.keys() | self.owned.keys():
                changes = self.owned.setdefault(text, [])
                if not changes or changes[-1][1] != seen.get(text):
                    changes.append((now, seen.get(text)))
            await asyncio.sleep(0.01)


async def left(process: JavaProcess, within: float) -> bool:
    """Have a consumer leave in order; return whether it ends within so many seconds.

    One of 1.4.6.2 may never: a fetch thread of it that is interrupted while it connects may spin for ever (issue #129).
    """
    process.process.terminate()
    with suppress(TimeoutError):
        async with asyncio.timeout(within):
            await process.process.wait()
    return not process.running


async def live(group: Group, chance: random.Random, seconds: float) -> None:
    """Kill, stop and add members at random, never to the last."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        await asyncio.sleep(chance.uniform(0.3, 1.5))
        if len(group.running) > 3:
            await group.remove(chance.choice(group.running), kill=chance.random() < 0.5)
        else:
            await group.start(chance.choice(("java", "python")))


async def produce(zk: str, stop: asyncio.Event) -> list[str]:
    """Send messages until told to stop; return their texts."""
    sent: list[str] = []
    async with aio.connect(f"zk://{zk}/meta") as mq:
        producer = mq.producer(TOPIC)
        while not stop.is_set():
            sent.append(f"m-{len(sent)}")
            await producer.send(f"{sent[-1]}|{'x' * 40}".encode())
            await asyncio.sleep(0.002)
    return sent
