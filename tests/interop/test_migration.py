"""A Java cluster becomes one of ours, and back, while Java clients go on: docs/migration.md, as written there."""

import asyncio
import logging
import os
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from itertools import pairwise
from pathlib import Path
from typing import Final

import pytest

import metaq.aio
from metaq.cli.home import Home
from tests.cli.homes import kill
from tests.cli.test_docs import fits, shown
from tests.docs import samples
from tests.faults.looker import stretch
from tests.interop import jvm
from tests.interop.conftest import PLAIN, Brokers, Judge
from tests.interop.jvm import Command, Event, JavaBroker

log = logging.getLogger(__name__)
pytestmark = pytest.mark.timeout(170)  # several JVMs start one after the other

PATIENCE: Final = 40.0  # seconds
PROMOTE: Final = "metaq brokers promote --wait 60 --rest java/data &"
GAP: Final = 2.0  # seconds without a broker, beyond those that the Java broker takes to stop; of a processor of its own
INI: Final = PLAIN.replace("brokerId=1", "brokerId={number}").replace("[topic=test]", "[topic=orders]")


def place(event: Event) -> tuple[int, int]:
    """Return broker and partition of an event."""
    broker, _, partition = str(event["partition"]).partition("-")
    return int(broker), int(partition)


class Traffic:
    """A Java producer and a Java consumer at work.

    `acknowledged` is what the one was told, `read` what the other got.
    """

    def __init__(self) -> None:
        self.acknowledged: list[Event] = []
        self.read: list[Event] = []
        self._commands: list[Command] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._more = asyncio.Event()

    async def start(self, judge: Judge) -> None:
        """Return when both are at it."""
        short = {"topic": "orders", "zk_sync_ms": 100}
        consumer = await judge.start("Consume", group="g", commit_ms=200, max_delay_ms=20, idle_ms=600_000, **short)
        producer = await judge.start("Produce", count=10**9, size=60, pause_ms=4, stubborn=True, **short)
        self._commands = [consumer, producer]
        self._tasks = [
            asyncio.create_task(self._collect(consumer, "message", self.read)),
            asyncio.create_task(self._collect(producer, "sent", self.acknowledged)),
        ]
        await self.goes_on()

    async def _collect(self, command: Command, name: str, events: list[Event]) -> None:
        async for event in command:
            if event["event"] == name and event.get("ok", True):
                events.append(event)
                self._more.set()

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until something is so. AssertionError after PATIENCE, with what was acknowledged and not read."""
        try:
            async with asyncio.timeout(PATIENCE):
                while not condition():
                    self._more.clear()
                    await self._more.wait()
        except TimeoutError:
            read = {event["id"] for event in self.read}
            missing = [event for event in self.acknowledged if event["id"] not in read]
            raise AssertionError(f"{len(missing)} of {len(self.acknowledged)} are not read: {missing[:3]}") from None

    async def goes_on(self, broker: int | None = None) -> None:
        """Wait until more is acknowledged, by this broker if one is named, and all of that is read."""
        begun = len(self.acknowledged)

        def sent() -> bool:
            new = [event for event in self.acknowledged[begun:] if broker is None or place(event)[0] == broker]
            return len(new) >= 20

        await self.until(sent)
        wanted = {event["id"] for event in self.acknowledged}
        await self.until(lambda: wanted <= {event["id"] for event in self.read})

    def silence(self, since: float) -> float:
        """Return the longest time between two acknowledgements since then."""
        times = sorted(float(event["at"] or 0) for event in self.acknowledged)
        return max(later - at for at, later in pairwise(times) if later > since)

    def twice(self) -> int:
        """Return how many messages were read more than once."""
        return len(self.read) - len({event["id"] for event in self.read})

    async def end(self) -> None:
        """End the producer, then the consumer, when that has everything."""
        if self._commands:
            await self._commands[1].java.kill()
            await self._tasks[1]
            wanted = {event["id"] for event in self.acknowledged}
            await self.until(lambda: wanted <= {event["id"] for event in self.read})
            await self._commands[0].java.kill()
            await self._tasks[0]

    def places(self, broker: int) -> dict[object, tuple[int, int]]:
        """Return partition and offset of each message that a broker acknowledged, by id."""
        told = [(place(event), event) for event in self.acknowledged]
        return {event["id"]: (at[1], int(event["offset"] or 0)) for at, event in told if at[0] == broker}


class Shell:
    """Runs commands of the document in a folder; the Java broker's script is what our tests start and stop it with."""

    def __init__(self, folder: Path, zk: str, java: JavaBroker, number: int) -> None:
        self.java = java
        self._number = number
        self.told = self.ended = 0.0  # when the Java process was told to stop, and when it had
        self.port = jvm.free_port()
        self.home = Home(folder / "broker")
        self._folder = folder
        self._zk = zk
        self._behind: asyncio.Task[str] | None = None
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self._environment = {"PATH": path, "HOME": str(folder), "PWD": str(folder)}

    async def document(self, heading: str) -> None:
        """Run the commands below a heading of the document, and compare what they print."""
        for block in samples("migration.md", "console"):
            text = block.document.read_text()
            if text.rindex("\n## ", 0, text.index(block.text)) == text.index(f"\n## {heading}"):
                for command, expected in shown(block):
                    await self.agrees(command, expected)

    async def agrees(self, command: str, expected: str) -> None:
        """Run one; `slave-status` again until it says what is wanted, as the document advises."""
        async with asyncio.timeout(PATIENCE):
            while True:
                output = await self.run(command)
                if fits(output, expected):
                    return
                assert command.endswith("slave-status"), f"$ {command}\n{output}"

    async def run(self, command: str) -> str:
        """Run one command and return what it prints on both."""
        if command == "java/bin/metaServer.sh stop":
            self.told = time.time()
            await self.java.stop()
            self.ended = time.time()
            return ""
        if command == "java/bin/metaServer.sh start":
            self.java = await jvm.start_broker(self._folder / "java" / "conf" / "server.ini", self.port)
            return ""
        if command == "wait":
            assert self._behind is not None
            return await self._behind
        if command.startswith("export "):
            name, _, value = command.removeprefix("export ").partition("=")
            self._environment[name] = value.replace("$PWD", str(self._folder))
            return ""
        if command.endswith(" &"):
            self._behind = asyncio.create_task(self._execute(command.removesuffix(" &")))
            return ""
        output = await self._execute(command)
        if command.startswith("metaq server init"):
            self._settle()
        return output

    async def _execute(self, command: str) -> str:
        process = await asyncio.create_subprocess_shell(
            command.replace("127.0.0.1:2181", self._zk),
            cwd=self._folder,
            env=self._environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        return output.decode()

    def _settle(self) -> None:
        """Have the broker of the new home live here."""
        places = {"brokerId": self._number, "hostName": "127.0.0.1", "serverPort": self.port}
        text = jvm.with_settings(self.home.ini.read_text(), "system", places)
        self.home.ini.write_text(jvm.with_settings(text, "zookeeper", {"zk.zkSyncTimeMs": 100}))


async def stored(port: int) -> dict[object, tuple[int, int]]:
    """Return partition and offset of each message that a broker has, by id."""
    found: dict[object, tuple[int, int]] = {}
    async with metaq.aio.connect(f"metaq://127.0.0.1:{port}") as mq:
        async for message in mq.browse("orders"):
            found[message.id] = (int(message.partition.partition("-")[2]), message.offset)
    return found


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


async def shell_for(stack: AsyncExitStack, java_broker: Brokers, folder: Path, zk: str, number: int = 0) -> Shell:
    """Start a Java master, and return a shell in which its successor is to be set up."""
    folder.mkdir(exist_ok=True)
    java = await java_broker(INI.format(number=number))
    (folder / "java").symlink_to(java.ini.parent.parent)
    shell = Shell(folder, zk, java, number)
    stack.callback(kill, shell.home)
    return shell


async def test_a_java_master_is_replaced_and_comes_back_while_java_clients_go_on(
    java_broker: Brokers, judge: Judge, zk: str, tmp_path: Path, stack: AsyncExitStack
) -> None:
    shell = await shell_for(stack, java_broker, tmp_path, zk)
    traffic = Traffic()
    await traffic.start(judge)
    await shell.document("1.")
    await shell.document("2.")
    await traffic.goes_on(0)
    silence, stop = traffic.silence(shell.told), shell.ended - shell.told
    shared = stretch(int(shell.home.pid_file.read_text()))
    log.info("nothing acknowledged for %.3f s, stop %.3f s, processors shared %.1f", silence, stop, shared)
    assert silence < stop + GAP * shared
    await shell.document("3.")
    told = traffic.places(0)
    ours = await stored(shell.port)
    assert told.items() <= ours.items()
    await shell.document("Going back")
    stack.push_async_callback(shell.java.kill)
    await traffic.goes_on(0)
    await traffic.end()
    theirs = await stored(shell.port)
    assert ours.items() <= theirs.items()
    assert traffic.places(0).items() <= theirs.items()
    assert traffic.twice() <= 20, "it went on where it was, but for what was in hand"


async def test_a_cluster_of_two_is_moved_broker_by_broker_while_java_clients_go_on(
    java_broker: Brokers, judge: Judge, zk: str, tmp_path: Path, stack: AsyncExitStack
) -> None:
    shells = await asyncio.gather(
        *(shell_for(stack, java_broker, tmp_path / str(number), zk, number) for number in (0, 1))
    )
    traffic = Traffic()
    await traffic.start(judge)
    for number, shell in enumerate(shells):
        await shell.document("1.")
        stopping = len(traffic.acknowledged)
        await shell.run(PROMOTE)
        await shell.run("java/bin/metaServer.sh stop")
        assert (await shell.run("wait")).startswith(f"This broker is the master of broker {number} now.")
        await traffic.goes_on(number)
        others = [event for event in traffic.acknowledged[stopping:] if place(event)[0] != number]
        assert others, "the other broker takes messages meanwhile"
    await traffic.end()
    for number, shell in enumerate(shells):
        assert traffic.places(number).items() <= (await stored(shell.port)).items()
