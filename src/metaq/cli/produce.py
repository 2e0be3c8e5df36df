"""`metaq produce`: the lines of a file or of stdin become messages."""

import asyncio
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Final, TypeAlias

import click

from metaq.aio import Producer, Sent, connect
from metaq.cli.commands import CONNECT_TIMEOUT, chosen_url, json_option, url_option
from metaq.cli.lines import read_lines
from metaq.cli.meter import Meter
from metaq.cli.output import Failure, emit, note
from metaq.errors import ClientError, MetaqError
from metaq.net.loop import run

_IN_FLIGHT: Final = 5000  # messages without an answer


@dataclass(frozen=True, slots=True)
class Line:
    """A line under way; `size` in bytes, with its line feed."""

    number: int
    size: int
    sent: Sent


Queue: TypeAlias = asyncio.Queue[Line | Failure | None]  # None: that was all


@dataclass(frozen=True, slots=True)
class Job:
    """What to send, and how."""

    topic: str
    partition: int | str | None
    attribute: str | None
    as_json: bool


@click.command()
@click.argument("topic")
@click.option("--file", "path", metavar="FILE", help="Where the lines are.  [default: stdin]")
@click.option("--partition", metavar="P", help="<brokerId>-<number>, or a number where there is one broker.")
@click.option("--attribute", metavar="TEXT", help="The attribute of every message.")
@url_option
@json_option
def produce(topic: str, path: str | None, partition: str | None, attribute: str | None, as_json: bool) -> None:
    """Send each line as a message to TOPIC, many at a time.

    Ends with 1 at the first line that was not acknowledged and says which it was; lines after it may have been sent.
    With --json prints one receipt a line, in the order of the lines.
    """
    url = chosen_url()
    job = Job(topic, place(partition), attribute, as_json)
    with source(path) as descriptor:
        run(send(url, job, descriptor))


def place(partition: str | None) -> int | str | None:
    """Return what the client takes for a partition given as text."""
    return int(partition) if partition is not None and partition.isdecimal() else partition


@contextmanager
def source(path: str | None) -> Iterator[int]:
    """Yield the descriptor to read from; None and "-" mean stdin."""
    if path in (None, "-"):
        yield sys.stdin.fileno()
        return
    with open(str(path), "rb", buffering=0) as file:
        yield file.fileno()


async def send(url: str, job: Job, descriptor: int) -> None:
    """Send all lines of a descriptor. Raises Failure that names the line, or what kept us from connecting."""
    began = time.monotonic()
    under_way: Queue = asyncio.Queue(_IN_FLIGHT)
    async with connect(url, connect_timeout=CONNECT_TIMEOUT) as mq:
        producer = mq.producer(job.topic, in_flight=_IN_FLIGHT)
        # who types the lines needs no display between them
        with Meter(f"to {job.topic}", size_of(descriptor), shown=not os.isatty(descriptor)) as meter:
            sending = asyncio.ensure_future(send_lines(producer, job, descriptor, under_way))
            try:
                await collect(job, under_way, meter)
            finally:
                sending.cancel()
                await asyncio.wait([sending])
    note(f"{meter.messages:,} messages sent to {job.topic} in {time.monotonic() - began:.1f} s")


async def send_lines(producer: Producer, job: Job, descriptor: int, under_way: Queue) -> None:
    """Send line after line without waiting for answers; those, or what ended this, come into `under_way`."""
    number = 0
    try:
        async for lines in read_lines(descriptor):
            for line in lines:
                number += 1
                sent = await producer.send_nowait(line, attribute=job.attribute, partition=job.partition)
                await under_way.put(Line(number, len(line) + 1, sent))
    except (MetaqError, OSError) as exc:
        await under_way.put(Failure(f"line {number}: {exc}"))
    else:
        await under_way.put(None)


async def collect(job: Job, under_way: Queue, meter: Meter) -> None:
    """Wait for the answers, in the order of the lines. Raises Failure at the first line that has no receipt."""
    while (line := await under_way.get()) is not None:
        if isinstance(line, Failure):
            raise line
        try:
            receipt = await line.sent
        except ClientError as exc:
            raise Failure(f"line {line.number}: {exc}; {meter.messages:,} lines before it were acknowledged") from exc
        meter.count(line.size)
        if job.as_json:
            emit({"line": line.number, **asdict(receipt)})


def size_of(descriptor: int) -> int | None:
    """Return how many bytes will come; None: that is not known."""
    return os.fstat(descriptor).st_size or None
