"""The main job of metaq on real input: Python's standard library through a broker that is killed half-way.

`make demo` runs it: a broker is started on a temporary folder, each line of each module becomes a message, the broker
is ended with SIGKILL in the middle and started again, and everything is read back and compared with the receipts.
Exit status 0: nothing that was acknowledged is missing or changed; 1: something is; 130: Ctrl-C.
"""

import argparse
import asyncio
import logging
import os
import platform
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from array import array
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from metaq.aio import Message, MessageQueue, MetaqError, Producer, Receipt, Sent, connect
from metaq.net.loop import run

TOPIC: Final = "stdlib"
PARTITIONS: Final = 8
IN_FLIGHT: Final = 10_000  # messages without a receipt
RETRIES: Final = 1_000  # a message whose receipt was lost is sent again until there is one
PATIENCE: Final = 60.0  # seconds for one receipt, a restart of the broker included

SERVER_INI: Final = """\
[system]
brokerId=0
numPartitions={partitions}
serverPort={port}
hostName=127.0.0.1
; 0: on disk before it is acknowledged
unflushThreshold=0
dataPath={folder}/data
dataLogPath={folder}/log
[zookeeper]
zk.zkEnable=false
[pymetaq]
bindAddress=127.0.0.1
[topic={topic}]
"""


def say(label: str, text: str) -> None:
    """Print one line: what, and what of it."""
    print(f"  {label:<10} {text}", flush=True)


class Progress:
    """How far a step is: a line that moves on a terminal, one line every fifth in a pipe."""

    def __init__(self, label: str, total: int) -> None:
        self.began = time.monotonic()
        self._label = label
        self._total = total
        self._moves = sys.stdout.isatty()
        self._next = 0

    def at(self, done: int) -> None:
        """Show how much is done, if it is time to."""
        if done < self._next:
            return
        self._next = done + max(self._total // (200 if self._moves else 5), 1)
        share, rate = done / max(self._total, 1), done / max(time.monotonic() - self.began, 1e-9)
        text = f"{share:4.0%}  {done:>9,} lines  {rate:>9,.0f}/s"
        if self._moves:
            print(f"\r  {self._label:<10} [{'#' * int(30 * share):<30}] {text}", end="", flush=True)
        elif done:
            say(self._label, text)

    def end(self) -> float:
        """Make room for the next line; return the seconds that went by."""
        if self._moves:
            print("\r\x1b[K", end="", flush=True)
        return time.monotonic() - self.began


@dataclass(slots=True)
class Library:
    """The modules of the standard library, line by line; `starts` has the number of a module's first line."""

    folder: str
    lines: list[bytes] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    starts: dict[str, int] = field(default_factory=dict)
    size: int = 0

    @classmethod
    def read(cls, most: int | None) -> Self:
        """Read the library of the running Python; at most so many modules, if a number is given."""
        library = cls(sysconfig.get_path("stdlib"))
        for path in list(modules(library.folder))[:most]:
            name = os.path.relpath(path, library.folder)
            data = Path(path).read_bytes()
            library.starts[name] = len(library.lines)
            library.lines += data.removesuffix(b"\n").split(b"\n")
            library.names.append(name)
            library.size += len(data)
        return library

    def messages(self) -> Iterator[tuple[bytes, str]]:
        """Yield each line and its attribute: module and line number."""
        ends = [*(self.starts[name] for name in self.names[1:]), len(self.lines)]
        for name, end in zip(self.names, ends, strict=True):
            start = self.starts[name]
            for number in range(start, end):
                yield self.lines[number], f"{name}:{number - start + 1}"

    def number(self, attribute: str) -> int:
        """Return which line an attribute stands for, counted through all modules."""
        name, _, line = attribute.rpartition(":")
        return self.starts[name] + int(line) - 1


def modules(folder: str) -> Iterator[str]:
    """Yield the paths of all modules, what was installed beside them left out."""
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(set(folders) - {"site-packages", "dist-packages", "__pycache__"})
        yield from (os.path.join(place, name) for name in sorted(files) if name.endswith(".py"))


class BrokerProcess:
    """A broker of its own process, on a free port of this machine, with its files in a folder."""

    def __init__(self, folder: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self._ini = Path(folder, "server.ini")
        self._log = Path(folder, "broker.log")
        self._ini.write_text(SERVER_INI.format(partitions=PARTITIONS, port=self.port, folder=folder, topic=TOPIC))
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> float:
        """Start it; return how many seconds it took until it served. Raises MetaqError if it does not."""
        began = time.monotonic()
        command = [sys.executable, "-P", "-m", "metaq", "server", "run", "-f", str(self._ini)]
        with open(self._log, "ab") as log:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True)
        self._process = process
        assert process.stdout is not None
        if not process.stdout.readline().startswith("ready "):
            raise MetaqError(f"the broker did not start:\n{self._log.read_text()}")
        return time.monotonic() - began

    def kill(self) -> None:
        """End it with SIGKILL, as a crash would."""
        self._end(signal.SIGKILL)

    def stop(self) -> int | None:
        """Stop it in order; return its exit status."""
        return self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> int | None:
        process, self._process = self._process, None
        if process is None:
            return None
        process.send_signal(number)
        with process:
            return process.wait(PATIENCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


class Receipts:
    """Where each line was stored, by its number: partition and offset, in 9 bytes a line."""

    def __init__(self) -> None:
        self._partitions = array("B")
        self._offsets = array("q")

    def __len__(self) -> int:
        return len(self._offsets)

    def add(self, receipt: Receipt) -> None:
        """Take the receipt of the next line."""
        self._partitions.append(int(receipt.partition.partition("-")[2]))
        self._offsets.append(receipt.offset)

    def names(self, number: int, message: Message) -> bool:
        """Tell whether a message is the one that the receipt of a line is for."""
        return self._offsets[number] == message.offset and self._partitions[number] == int(
            message.partition.partition("-")[2]
        )


class Publisher:
    """Publishes all lines, kills the broker half-way, and keeps the receipts."""

    def __init__(self, library: Library, broker: BrokerProcess) -> None:
        self.receipts = Receipts()
        self._library = library
        self._broker = broker
        self._under_way: deque[Sent] = deque()
        self._progress = Progress("publishing", len(library.lines))

    async def run(self, producer: Producer) -> float:
        """Send everything and wait for all receipts; return how many seconds that took."""
        half = len(self._library.lines) // 2
        restart: asyncio.Task[None] | None = None
        for number, (line, attribute) in enumerate(self._library.messages()):
            if number == half:
                restart = asyncio.create_task(self._crash(number))
            self._under_way.append(await producer.send_nowait(line, attribute=attribute))
            if len(self._under_way) >= IN_FLIGHT:
                await self._settle(IN_FLIGHT // 2)
        await self._settle(0)
        if restart is not None:
            await restart
        return self._progress.end()

    async def _settle(self, left: int) -> None:
        """Wait for receipts until only so many are missing."""
        while len(self._under_way) > left:
            self.receipts.add(await self._under_way.popleft())
        self._progress.at(len(self.receipts))

    async def _crash(self, sent: int) -> None:
        await asyncio.to_thread(self._broker.kill)  # meanwhile sending goes on
        self._progress.end()
        say("killed", f"SIGKILL after {sent:,} lines; those without a receipt are sent again")
        took = await asyncio.to_thread(self._broker.start)
        say("recovered", f"the broker serves again after {took:.2f} s")


@dataclass(slots=True)
class Comparison:
    """What came back, beside what was sent."""

    library: Library
    receipts: Receipts
    found: bytearray
    read: int = 0
    repeated: int = 0  # sent again because the receipt was lost, and stored both times
    changed: list[str] = field(default_factory=list)

    def take(self, message: Message) -> None:
        """Look at one message."""
        self.read += 1
        number = self.library.number(message.attribute or "")
        if message.data != self.library.lines[number]:
            self.changed.append(f"{message.attribute} at {message.partition} {message.offset}")
        elif self.receipts.names(number, message):
            self.found[number] = 1
        else:
            self.repeated += 1

    def report(self) -> bool:
        """Say how it came out; return whether all is well."""
        missing = self.found.count(0)
        for what in self.changed[:5]:
            say("CHANGED", what)
        if missing:
            say("MISSING", f"{missing:,} acknowledged lines")
        if not (missing or self.changed):
            say("checked", "every acknowledged line is there, unchanged, where its receipt says")
        say("repeated", f"{self.repeated:,} lines, stored before the kill and sent again without a receipt")
        return not (missing or self.changed)


async def read_back(mq: MessageQueue, comparison: Comparison) -> float:
    """Read all partitions from beginning to end; return how many seconds that took."""
    progress = Progress("reading", len(comparison.library.lines))
    browser = mq.browse(TOPIC)
    while messages := await browser.fetch():
        for message in messages:
            comparison.take(message)
        progress.at(comparison.read)
    return progress.end()


async def publish_and_compare(library: Library, broker: BrokerProcess) -> bool:
    """Do the job; return whether nothing is missing or changed."""
    took = broker.start()
    say("broker", f"metaq://127.0.0.1:{broker.port}, {PARTITIONS} partitions, serving after {took:.2f} s")
    async with connect(f"metaq://127.0.0.1:{broker.port}") as mq:
        publisher = Publisher(library, broker)
        took = await publisher.run(mq.producer(TOPIC, timeout=PATIENCE, retries=RETRIES, in_flight=IN_FLIGHT))
        lines, megabytes = len(library.lines), library.size / 1e6
        say("published", f"{lines:,} lines in {took:.1f} s: {lines / took:,.0f} lines/s, {megabytes / took:.1f} MB/s")
        comparison = Comparison(library, publisher.receipts, bytearray(lines))
        took = await read_back(mq, comparison)
        say("read back", f"{comparison.read:,} messages in {took:.1f} s: {comparison.read / took:,.0f} messages/s")
    stopped = broker.stop()
    say("stopped", "in order" if stopped == 0 else f"with status {stopped}")
    return comparison.report() and stopped == 0


def main() -> int:
    """Run the demo; return the exit status."""
    parser = argparse.ArgumentParser(description="The standard library through a broker that is killed half-way.")
    parser.add_argument("--modules", type=int, metavar="N", help="only the first N modules")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that the broker does not outlive us
    logging.getLogger("metaq").setLevel(logging.ERROR)  # that the connection breaks is the point here
    began = time.monotonic()
    print(f"\nmetaq demo: the standard library of Python {platform.python_version()}, line by line\n", flush=True)
    try:
        library = Library.read(arguments.modules)
        say("source", f"{len(library.names):,} modules, {len(library.lines):,} lines, {library.size / 1e6:.1f} MB")
        with tempfile.TemporaryDirectory(prefix="metaq-demo-") as folder, BrokerProcess(folder) as broker:
            good = run(publish_and_compare(library, broker))
    except KeyboardInterrupt:
        print("\n  stopped by Ctrl-C; the broker and its files are gone", flush=True)
        return 130
    except (MetaqError, OSError) as exc:
        print(f"\n  failed: {exc}", file=sys.stderr)
        return 1
    print(f"\n  {'Done' if good else 'FAILED'} in {time.monotonic() - began:.0f} s.\n", flush=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
