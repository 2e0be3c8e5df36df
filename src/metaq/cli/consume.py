"""`metaq consume`: the messages of a topic, from a chosen place on, without a group."""

import asyncio
import base64
import sys
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Final, Literal

import click

from metaq.aio import Message, MessageQueue, connect
from metaq.cli.commands import CONNECT_TIMEOUT, chosen_url, json_option, url_option
from metaq.cli.output import Meter, emit, note
from metaq.cli.produce import place
from metaq.errors import ClientError, MetaqError
from metaq.net.loop import run

_AHEAD: Final = 4  # fetched runs that wait to be printed
_LOOK: Final = 1.0  # seconds between two looks for partitions that are new

Start = Literal["earliest", "latest"] | int


class StartType(click.ParamType[Start]):
    """earliest, latest or an offset."""

    name = "start"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Start:
        """Return what a reader takes."""
        match str(value):
            case "earliest":
                return "earliest"
            case "latest":
                return "latest"
            case text if text.isdecimal():
                return int(text)
        raise click.BadParameter(f"{value!r} is not earliest, latest or an offset", ctx, param)


@dataclass(frozen=True, slots=True)
class Job:
    """What to print and when to end; None: never. `idle` in seconds."""

    topic: str
    partition: int | str | None
    start: Start
    count: int | None
    idle: float | None
    as_json: bool


@click.command()
@click.argument("topic")
@click.option(
    "--partition", metavar="P", help="<brokerId>-<number>, or a number where there is one broker.  [default: all]"
)
@click.option(
    "--from",
    "start",
    type=StartType(),
    default="earliest",
    show_default=True,
    metavar="earliest|latest|OFFSET",
    help="Where to begin; an offset needs --partition.",
)
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="End after so many messages.")
@click.option("--idle", type=click.FloatRange(min=0), metavar="SECONDS", help="End when nothing came for so long.")
@url_option
@json_option
def consume(
    topic: str, partition: str | None, start: Start, count: int | None, idle: float | None, as_json: bool
) -> None:
    """Print the messages of TOPIC, one a line, and go on with those to come until --count, --idle or Ctrl-C.

    With --json each is an object; data that is not UTF-8 stands in "data_base64".
    """
    if isinstance(start, int) and partition is None:
        raise click.UsageError("--from OFFSET needs --partition: offsets are those of one partition")
    job = Job(topic, place(partition), start, count, idle, as_json)
    run(print_messages(chosen_url(), job))


async def print_messages(url: str, job: Job) -> None:
    """Print messages until the job says that it is enough. Raises what a reader raises."""
    began = time.monotonic()
    async with connect(url, connect_timeout=CONNECT_TIMEOUT) as mq:
        with Meter(f"from {job.topic}", None, shown=not sys.stdout.isatty()) as meter:
            gathering = Gathering(mq, job)
            try:
                await gathering.begin()
                while messages := await gathering.next():
                    left = None if job.count is None else job.count - meter.messages
                    write(messages[:left], job, meter)
                    if meter.messages == job.count:
                        break
            finally:
                await gathering.close()
    note(f"{meter.messages:,} messages read from {job.topic} in {time.monotonic() - began:.1f} s")


def write(messages: list[Message], job: Job, meter: Meter) -> None:
    """Print messages, and let them go at once."""
    for message in messages:
        if job.as_json:
            emit(describe(message))
        else:
            sys.stdout.buffer.write(message.data + b"\n")
        meter.count(0)
    sys.stdout.flush()


def describe(message: Message) -> dict[str, object]:
    """Return a message as `--json` shows it."""
    values: dict[str, object] = {
        "topic": message.topic,
        "partition": message.partition,
        "offset": message.offset,
        "next_offset": message.next_offset,
        "id": message.id,
        "attribute": message.attribute,
    }
    try:
        return values | {"data": message.data.decode()}
    except UnicodeDecodeError:
        return values | {"data_base64": base64.b64encode(message.data).decode()}


@dataclass(slots=True)
class Gathering:
    """The messages of several partitions as they come, and of partitions that appear meanwhile."""

    mq: MessageQueue
    job: Job
    fetched: asyncio.Queue[list[Message] | Exception] = field(default_factory=lambda: asyncio.Queue(_AHEAD))
    known: set[str] = field(default_factory=set)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def begin(self) -> None:
        """Begin to fetch. Raises ClientError if nobody tells which partitions there are."""
        if self.job.partition is None:
            await self._look(self.job.start)
            self._start(self._look_again())
        else:
            self._start(self._one(self.job.partition, self.job.start))

    async def next(self) -> list[Message]:
        """Return the next messages; none: nothing came for the time the job allows."""
        try:
            async with asyncio.timeout(self.job.idle):
                messages = await self.fetched.get()
        except TimeoutError:
            return []
        if isinstance(messages, Exception):
            raise messages
        return messages

    async def close(self) -> None:
        """Stop fetching."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    def _start(self, work: Coroutine[object, object, None]) -> None:
        async def guarded() -> None:
            try:
                await work
            except (MetaqError, OSError) as exc:
                await self.fetched.put(exc)

        self.tasks.add(asyncio.ensure_future(guarded()))

    async def _one(self, partition: int | str, start: Start) -> None:
        """Fetch from one partition for ever."""
        reader = self.mq.reader(self.job.topic, partition, start)
        while messages := await reader.fetch():
            await self.fetched.put(messages)

    async def _look(self, start: Start) -> None:
        """Fetch also from the partitions that are new to us."""
        for partition in set(await self.mq.partitions(self.job.topic)) - self.known:
            self.known.add(partition)
            self._start(self._one(partition, start))

    async def _look_again(self) -> None:
        """Look for new partitions for ever; what is in one that appears is new, too."""
        while True:
            await asyncio.sleep(_LOOK)
            try:
                await self._look("earliest")
            except ClientError as exc:
                if not exc.retriable:
                    raise
