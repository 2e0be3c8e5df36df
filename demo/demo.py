"""The main job of metaq on real input: Python's standard library, through a broker and a group that lose members.

`make demo` runs it: a broker with its own registry is started as `metaq server start local`, each line of each module
becomes a message, and two consumers of one group, processes of their own, take them. One of the two is ended with
SIGKILL, so is the broker, registry included, and started again. In the end every line has come to the group at least
once, and everything is read back from the log and compared with the receipts. Exit status 0: nothing is missing or
changed; 1: something is; 130: Ctrl-C.
"""

import argparse
import asyncio
import logging
import platform
import signal
import sys
import tempfile
import time
from collections import deque
from pathlib import Path
from typing import Final

from demo.checking import Comparison, Consumed, Receipts
from demo.library import Library
from demo.output import Progress, say
from demo.processes import PATIENCE, Broker, ConsumerProcess
from metaq.aio import MessageQueue, MetaqError, Producer, Sent, connect
from metaq.net.loop import run

TOPIC: Final = "stdlib"
GROUP: Final = "demo"
PARTITIONS: Final = 8
IN_FLIGHT: Final = 10_000  # messages without a receipt
RETRIES: Final = 1_000  # a message whose receipt was lost is sent again until there is one


class Group:
    """The two consumers, and what they have got."""

    def __init__(self, broker: Broker, folder: str, library: Library) -> None:
        self.consumed = Consumed(library, bytearray(len(library.lines)))
        self.members = [
            ConsumerProcess(broker.url, TOPIC, GROUP, Path(folder, f"member-{number}")) for number in (1, 2)
        ]

    async def shared(self, *parts: int) -> None:
        """Return when the members own so many partitions each. Raises MetaqError if they do not come to."""
        deadline = time.monotonic() + PATIENCE
        while [member.owned for member in self.members] != list(parts):
            if time.monotonic() > deadline:
                raise MetaqError(f"the group owns {[member.owned for member in self.members]}, not {list(parts)}")
            await asyncio.sleep(0.02)

    async def lose_one(self) -> float:
        """Kill the second member; return the seconds until the first one has all partitions."""
        began = time.monotonic()
        await asyncio.to_thread(self.members[1].end, signal.SIGKILL)
        self.members[1].owned = 0
        await self.shared(PARTITIONS, 0)
        return time.monotonic() - began

    def gather(self) -> None:
        """Take note of what the members have written down."""
        for member in self.members:
            for attribute in member.news():
                self.consumed.take(attribute)

    async def finish(self) -> float:
        """Wait until every line has come; return how many seconds that took. Raises MetaqError if nothing comes."""
        progress = Progress("consuming", len(self.consumed.counts))
        before, since = -1, time.monotonic()
        while self.consumed.lines < len(self.consumed.counts):
            await asyncio.to_thread(self.gather)
            progress.at(self.consumed.lines)
            if self.consumed.messages != before:
                before, since = self.consumed.messages, time.monotonic()
            elif time.monotonic() - since > PATIENCE:
                break
            await asyncio.sleep(0.05)
        return progress.end()

    def end(self, number: signal.Signals) -> None:
        """End the members."""
        for member in self.members:
            member.end(number)


class Publisher:
    """Publishes all lines, kills a consumer and the broker meanwhile, and keeps the receipts."""

    def __init__(self, library: Library, broker: Broker, group: Group) -> None:
        self.receipts = Receipts()
        self._library = library
        self._broker = broker
        self._group = group
        self._under_way: deque[Sent] = deque()
        self._progress = Progress("publishing", len(library.lines))

    async def run(self, producer: Producer) -> float:
        """Send everything and wait for all receipts; return how many seconds that took."""
        count = len(self._library.lines)
        trouble: list[asyncio.Task[None]] = []
        for number, (line, attribute) in enumerate(self._library.messages()):
            if number == count // 4:
                trouble.append(asyncio.create_task(self._lose_consumer(number)))
            if number == count // 2:
                trouble.append(asyncio.create_task(self._crash(trouble[0])))
            self._under_way.append(await producer.send_nowait(line, attribute=attribute))
            if len(self._under_way) >= IN_FLIGHT:
                await self._settle(IN_FLIGHT // 2)
        await self._settle(0)
        await asyncio.gather(*trouble)
        return self._progress.end()

    async def _settle(self, left: int) -> None:
        """Wait for receipts until only so many are missing."""
        while len(self._under_way) > left:
            self.receipts.add(await self._under_way.popleft())
        self._progress.at(len(self.receipts))

    async def _lose_consumer(self, sent: int) -> None:
        self._progress.end()
        say("killed", f"one of the two consumers, with SIGKILL, after {sent:,} lines")
        took = await self._group.lose_one()
        self._progress.end()
        say("recovered", f"the other has all {PARTITIONS} partitions after {took:.2f} s")

    async def _crash(self, before: asyncio.Task[None]) -> None:
        await before
        sent = len(self.receipts) + len(self._under_way)
        await asyncio.to_thread(self._broker.kill)  # meanwhile sending goes on
        self._progress.end()
        say(
            "killed", f"broker and registry, with SIGKILL, after {sent:,} lines; those without a receipt are sent again"
        )
        took = await asyncio.to_thread(self._broker.start)
        say("recovered", f"both serve again after {took:.2f} s")


async def read_back(mq: MessageQueue, comparison: Comparison) -> float:
    """Read all partitions from beginning to end; return how many seconds that took."""
    progress = Progress("reading", len(comparison.library.lines))
    browser = mq.browse(TOPIC)
    while messages := await browser.fetch():
        for message in messages:
            comparison.take(message)
        progress.at(comparison.read)
    return progress.end()


async def publish_and_compare(library: Library, broker: Broker, folder: str) -> bool:
    """Do the job; return whether nothing is missing or changed."""
    took = await asyncio.to_thread(broker.start)
    say("broker", f"{broker.url}, its own registry, {PARTITIONS} partitions, serving after {took:.2f} s")
    group = Group(broker, folder, library)
    try:
        await group.shared(PARTITIONS // 2, PARTITIONS // 2)
        say("group", f"two consumers with {PARTITIONS // 2} partitions each")
        async with connect(broker.url, session_timeout=4.0) as mq:
            publisher = Publisher(library, broker, group)
            took = await publisher.run(mq.producer(TOPIC, timeout=PATIENCE, retries=RETRIES, in_flight=IN_FLIGHT))
            lines, megabytes = len(library.lines), library.size / 1e6
            say(
                "published",
                f"{lines:,} lines in {took:.1f} s: {lines / took:,.0f} lines/s, {megabytes / took:.1f} MB/s",
            )
            await group.finish()
            say("consumed", f"{group.consumed.messages:,} messages by the group")
            comparison = Comparison(library, publisher.receipts, bytearray(lines))
            took = await read_back(mq, comparison)
            say("read back", f"{comparison.read:,} messages in {took:.1f} s: {comparison.read / took:,.0f} messages/s")
        await asyncio.to_thread(group.end, signal.SIGTERM)
    finally:
        group.end(signal.SIGKILL)
    await asyncio.to_thread(broker.stop)
    say("stopped", "in order")
    return comparison.report() & group.consumed.report()


def main() -> int:
    """Run the demo; return the exit status."""
    parser = argparse.ArgumentParser(
        description="The standard library through a broker and a group that are killed half-way."
    )
    parser.add_argument("--modules", type=int, metavar="N", help="only the first N modules")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that the broker does not outlive us
    logging.getLogger("metaq").setLevel(logging.ERROR)  # that the connection breaks is the point here
    began = time.monotonic()
    print(f"\nmetaq demo: the standard library of Python {platform.python_version()}, line by line\n", flush=True)
    try:
        library = Library.read(arguments.modules)
        say("source", f"{len(library.names):,} modules, {len(library.lines):,} lines, {library.size / 1e6:.1f} MB")
        with (
            tempfile.TemporaryDirectory(prefix="metaq-demo-") as folder,
            Broker(folder, TOPIC, PARTITIONS) as broker,
        ):
            good = run(publish_and_compare(library, broker, folder))
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
