"""`metaq consume`: the messages of a topic, from a chosen place on, or as a member of a group."""

import asyncio
import base64
import sys
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, TypedDict, Unpack

import click

from metaq.aio import Message, MessageQueue, connect
from metaq.cli.commands import CONNECT_TIMEOUT, chosen_url, json_option, url_option
from metaq.cli.meter import Meter
from metaq.cli.output import emit, note
from metaq.cli.produce import place
from metaq.client.consuming.options import ConsumerKeywords, Where
from metaq.client.preference import DEFAULT_MAX_LAG, parse_preference
from metaq.errors import ClientError, ConfigError, MetaqError
from metaq.net.loop import run

_AHEAD: Final = 4  # fetched runs that wait to be printed
_BATCH: Final = 1000  # messages of a group printed before they are acknowledged
_GATHER: Final = 0.05  # seconds to wait for more of them
_LOOK: Final = 1.0  # seconds between two looks for partitions that are new


class StartType(click.ParamType[Where]):
    """earliest, latest, stored, an offset or a time."""

    name = "start"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Where:
        """Return what a consumer takes."""
        match str(value):
            case "earliest":
                return "earliest"
            case "latest":
                return "latest"
            case "stored":
                return "stored"
            case text if text.isdecimal():
                return int(text)
            case text:
                try:
                    return datetime.fromisoformat(text)
                except ValueError:
                    problem = f"{value!r} is not earliest, latest, stored, an offset or a time like 2026-01-31T12:00"
                    raise click.BadParameter(problem, ctx, param) from None


class ReadFromType(click.ParamType[str]):
    """Whom to read from."""

    name = "read_from"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return what a consumer takes."""
        try:
            return str(parse_preference(str(value)))
        except ConfigError as exc:
            raise click.BadParameter(str(exc), ctx, param) from None


class Options(TypedDict):
    """What the options of the command say."""

    group: str | None
    partition: str | None
    start: Where
    count: int | None
    idle: float | None
    read_from: str
    max_lag: float


@dataclass(frozen=True, slots=True)
class Job:
    """What to print and when to end; None: never. `idle` in seconds."""

    topic: str
    group: str | None
    partition: int | str | None
    start: Where
    count: int | None
    idle: float | None
    as_json: bool
    read_from: str = "master"
    max_lag: float = DEFAULT_MAX_LAG  # seconds


@click.command()
@click.argument("topic")
@click.option("--group", metavar="G", help="Share the partitions with other members of this group, and store offsets.")
@click.option(
    "--partition", metavar="P", help="<brokerId>-<number>, or a number where there is one broker.  [default: all]"
)
@click.option(
    "--from",
    "start",
    type=StartType(),
    default="earliest",
    show_default=True,
    metavar="earliest|latest|stored|OFFSET|TIME",
    help="Where to begin; with --group: where it has no offset stored. A time is written as 2026-01-31T12:00.",
)
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="End after so many messages.")
@click.option("--idle", type=click.FloatRange(min=0), metavar="SECONDS", help="End when nothing came for so long.")
@click.option(
    "--read-from",
    type=ReadFromType(),
    default="master",
    show_default=True,
    metavar="master|slave|slave:N|nearest|any",
    help="Which copy to read; another is read while that one is away.",
)
@click.option(
    "--max-lag",
    type=click.FloatRange(min=0, min_open=True),
    default=DEFAULT_MAX_LAG,
    show_default=True,
    metavar="SECONDS",
    help="Leave a slave that lacks for longer what its master has.",
)
@url_option
@json_option
def consume(topic: str, as_json: bool, **options: Unpack[Options]) -> None:
    """Print the messages of TOPIC, one a line, and go on with those to come until --count, --idle or Ctrl-C.

    With --json each is an object; data that is not UTF-8 stands in "data_base64".
    """
    where = place(options["partition"])
    job = Job(
        topic,
        options["group"],
        where,
        options["start"],
        options["count"],
        options["idle"],
        as_json,
        options["read_from"],
        options["max_lag"],
    )
    if job.group is not None:
        if job.partition is not None:
            raise click.UsageError("--group and --partition exclude each other: the group says which partitions")
        run(print_share(chosen_url(), job))
        return
    if job.start == "stored":
        raise click.UsageError("--from stored needs --group: offsets are those of a group")
    if isinstance(job.start, int) and job.partition is None:
        raise click.UsageError("--from OFFSET needs --partition: offsets are those of one partition")
    run(print_messages(chosen_url(), job))


async def print_share(url: str, job: Job) -> None:
    """Print the messages of our share. What is printed is acknowledged, and stored at the end. Raises MetaqError."""
    assert job.group is not None
    began = time.monotonic()
    async with connect(url, connect_timeout=CONNECT_TIMEOUT) as mq:
        with Meter(f"from {job.topic}", None, shown=not sys.stdout.isatty()) as meter:
            settings = ConsumerKeywords(start=job.start, read_from=job.read_from, max_lag=job.max_lag)
            async with mq.consumer(job.topic, group=job.group, **settings) as consumer:
                while job.count is None or meter.messages < job.count:
                    most = _BATCH if job.count is None else min(job.count - meter.messages, _BATCH)
                    try:
                        async with asyncio.timeout(job.idle):
                            messages = await consumer.batch(most, _GATHER)
                    except TimeoutError:
                        break
                    write(messages, job, meter)
                    for message in messages:
                        consumer.ack(message)
    note(f"{meter.messages:,} messages read from {job.topic} as {job.group} in {time.monotonic() - began:.1f} s")


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

    async def _one(self, partition: int | str, start: Where) -> None:
        """Fetch from one partition for ever."""
        if isinstance(start, datetime):
            start = await self.mq.offset_at(self.job.topic, partition, start)
        assert start != "stored"
        job = self.job
        reader = self.mq.reader(job.topic, partition, start, read_from=job.read_from, max_lag=job.max_lag)
        while messages := await reader.fetch():
            await self.fetched.put(messages)

    async def _look(self, start: Where) -> None:
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
