"""`metaq bench`: how fast a cluster takes messages, gives them, and hands one from end to end."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import click

from metaq.cli.commands import chosen_url, json_option, url_option
from metaq.cli.consume import Job as Reading
from metaq.cli.measuring import MARK, Limits, Putting, Result, Trip, get, put
from metaq.cli.produce import place
from metaq.net.loop import run

_SECONDS: Final = 10.0
_IDLE: Final = 5.0  # seconds without a message after which reading ends


@click.group()
def bench() -> None:
    """Measure a cluster: how fast it takes and gives messages, and how long one is under way.

    The figures are those of one client in Python, on the machine where it runs. Ctrl-C shows what was measured so far.
    """


_topic = click.argument("topic")
_size = click.option("--size", default=100, show_default=True, type=click.IntRange(min=1), help="Bytes of a message.")
_count = click.option("--count", type=click.IntRange(min=1), metavar="N", help="End after so many messages.")
_seconds = click.option(
    "--seconds", type=click.FloatRange(min=0, min_open=True), help="End after so long.  [default: 10, without --count]"
)
_partition = click.option(
    "--partition", metavar="P", help="<brokerId>-<number>, or a number where there is one broker."
)


@bench.command("produce")
@_topic
@_size
@_count
@_seconds
@_partition
@click.option(
    "--in-flight",
    type=click.IntRange(min=1),
    metavar="N",
    help="Send one by one, N at a time, and time each.  [default: lists, as fast as it goes]",
)
@url_option
@json_option
def produce(topic: str, size: int, as_json: bool, **options: object) -> None:
    """Send messages to TOPIC, which keeps them. Counted is what was acknowledged."""
    limits = limits_of(options)
    in_flight = options["in_flight"]
    assert in_flight is None or isinstance(in_flight, int)
    job = Putting(topic, bytes(size), place(text_of(options["partition"])), in_flight, limits)
    result = Result(f"of {size:,} bytes to {topic}")
    measure(lambda url: put(url, job, result), result, as_json)


@bench.command("consume")
@_topic
@_count
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), help="End after so long.")
@_partition
@click.option("--group", metavar="G", help="As a member of this group, whose offsets move on.")
@click.option("--from", "start", type=click.Choice(["earliest", "latest"]), default="earliest", show_default=True)
@click.option(
    "--idle", default=_IDLE, show_default=True, type=click.FloatRange(min=0), help="End when nothing came for so long."
)
@url_option
@json_option
def consume(topic: str, as_json: bool, **options: object) -> None:
    """Read messages of TOPIC. The clock runs from when reading begins, for a group its joining, to the last message."""
    group, partition, start = (text_of(options[name]) for name in ("group", "partition", "start"))
    if group is not None and partition is not None:
        raise click.UsageError("--group and --partition exclude each other: the group says which partitions")
    count, idle, seconds = options["count"], options["idle"], options["seconds"]
    assert count is None or isinstance(count, int)
    assert isinstance(idle, float)
    assert seconds is None or isinstance(seconds, float)
    job = Reading(topic, group, place(partition), "latest" if start == "latest" else "earliest", count, idle, as_json)
    result = Result(f"from {topic}")
    measure(lambda url: get(url, job, Limits(count, seconds), result), result, as_json)


@bench.command("latency")
@_topic
@_size
@_count
@_seconds
@_partition
@click.option(
    "--rate", default=1000.0, show_default=True, type=click.FloatRange(min=0, min_open=True), help="Messages/s."
)
@url_option
@json_option
def latency(topic: str, size: int, rate: float, as_json: bool, **options: object) -> None:
    """Send messages to TOPIC evenly and read them: the time from just before the sending until one is there."""
    if size < MARK.size:
        raise click.UsageError(f"--size is at least {MARK.size} here: a message says when it was sent")
    limits = limits_of(options)
    total = limits.count if limits.count is not None else max(1, int(rate * (limits.seconds or _SECONDS)))
    trip = Trip(topic, size, rate, total, place(text_of(options["partition"])))
    result = Result(f"of {size:,} bytes through {topic}")
    measure(lambda url: trip.travel(url, result), result, as_json)


def limits_of(options: Mapping[str, object]) -> Limits:
    """Return when to end; ten seconds if nothing is said."""
    count, seconds = options["count"], options["seconds"]
    assert count is None or isinstance(count, int)
    assert seconds is None or isinstance(seconds, float)
    return Limits(count, _SECONDS if count is None and seconds is None else seconds)


def text_of(value: object) -> str | None:
    """Return the value of an option that is a text."""
    assert value is None or isinstance(value, str)
    return value


def measure(work: Callable[[str], Awaitable[None]], result: Result, as_json: bool) -> None:
    """Carry out a measurement; show what was measured, also of one that failed or was ended by Ctrl-C."""

    async def carried_out() -> None:
        await work(url)

    url = chosen_url()
    try:
        run(carried_out())
    except BaseException:
        if result.messages:
            result.show(as_json)
        raise
    result.show(as_json)
