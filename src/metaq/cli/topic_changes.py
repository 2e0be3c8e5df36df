"""`metaq topics create|alter|drop`: topics without a restart, at the broker of a home or at all of a cluster."""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypedDict, TypeVar, Unpack

import click
from click.core import ParameterSource

from metaq.admin.requesting import Asking, TopicRequests
from metaq.cli.cluster import Tree, opened
from metaq.cli.commands import chosen_url, home_option, json_option, url_option
from metaq.cli.control import ControlClient
from metaq.cli.home import find_home, running
from metaq.cli.output import Failure, emit, refuse, say
from metaq.cluster.topic_nodes import Progress, TopicResult
from metaq.config.editing import PARTITIONS, Action, TopicChange, check
from metaq.config.ini import escape
from metaq.errors import ConfigError
from metaq.model import BrokerAddress
from metaq.net.loop import run

F = TypeVar("F", bound=Callable[..., object])

_ELSEWHERE: Final = "a Java broker, or an older one: edit server.ini there"


class Place(TypedDict):
    """What the options say of where, and how long."""

    brokers: tuple[int, ...]
    timeout: float
    home_path: str | None
    as_json: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a change at one broker; `result` None: it takes none of us."""

    broker_id: int
    address: str
    result: TopicResult | None


def _read_settings(_: click.Context, __: click.Parameter, words: tuple[str, ...]) -> dict[str, str]:
    """Return {key: value} of `--set KEY=VALUE`. Raises UsageError."""
    settings = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not (key and equals):
            raise click.UsageError(f"--set {word}: write KEY=VALUE, as in a section [topic=NAME] of server.ini")
        if key == PARTITIONS:
            raise click.UsageError("the number of partitions is set with --partitions")
        settings[key] = value
    return settings


settings_option = click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    callback=_read_settings,
    help="Another key of the topic, such as deletePolicy=delete,48. KEY= alone takes it out of server.ini.",
)


def place_options(command: F) -> F:
    """Add the options of `Place`."""
    for option in (
        json_option,
        home_option,
        url_option,
        click.option("--timeout", type=click.FloatRange(min=0.1), default=30.0, show_default=True, help="Seconds."),
        click.option("--broker", "brokers", multiple=True, type=int, metavar="ID", help="Only at these of a cluster."),
    ):
        command = option(command)
    return command


def partitions_option(*, required: bool) -> Callable[[F], F]:
    """Return the option `--partitions`."""
    return click.option(
        "--partitions", type=click.IntRange(min=1), required=required, help="How many it has at each broker."
    )


@click.command("create")
@click.argument("topic")
@partitions_option(required=True)
@settings_option
@place_options
def create_(topic: str, partitions: int, settings: dict[str, str], **place: Unpack[Place]) -> None:
    """Create TOPIC, at all brokers of a cluster or at the one of a home.

    It is written into each server.ini and in force when this returns; nothing is restarted.
    """
    make(TopicChange(Action.CREATE, topic, {PARTITIONS: str(partitions), **settings}), place)


@click.command("alter")
@click.argument("topic")
@partitions_option(required=False)
@settings_option
@place_options
def alter_(topic: str, partitions: int | None, settings: dict[str, str], **place: Unpack[Place]) -> None:
    """Change TOPIC: more partitions, other settings. Partitions cannot become fewer: their messages would be lost."""
    wanted = settings if partitions is None else {PARTITIONS: str(partitions), **settings}
    if not wanted:
        raise click.UsageError("what is to be changed? Name it with --partitions or --set")
    make(TopicChange(Action.ALTER, topic, wanted), place)


@click.command("drop")
@click.argument("topic")
@click.option("--yes", is_flag=True, help="Do it.")
@place_options
def drop_(topic: str, yes: bool, **place: Unpack[Place]) -> None:
    """Remove TOPIC. Its messages are moved aside first, to a folder that is named; no broker reads them there."""
    if not yes:
        raise click.UsageError(f"topic {topic} would be gone for its producers and consumers; add --yes to drop it")
    make(TopicChange(Action.DROP, topic), place)


def make(change: TopicChange, place: Place) -> None:
    """Have a change made and say what became of it. Ends with 1 unless it was made everywhere."""
    try:
        check(change)
    except ConfigError as exc:
        raise Failure(str(exc)) from exc
    if at_home(place):
        make_at_home(change, place)
        return
    answers = run(ask_cluster(change, place))
    for answer in answers:
        tell(change, answer, place["as_json"])
    if any(each.result is None or each.result.progress is not Progress.DONE for each in answers):
        raise click.exceptions.Exit(1)


def at_home(place: Place) -> bool:
    """Tell whether the broker of a home is meant, not a cluster: --home says so, or nothing names a cluster."""
    context = click.get_current_context()
    if context.get_parameter_source("home_path") is ParameterSource.COMMANDLINE:
        if context.get_parameter_source("brokers") is ParameterSource.COMMANDLINE:
            raise click.UsageError("--broker is for a cluster, --home for the broker of one home")
        return True
    try:
        chosen_url()
    except click.UsageError:
        return True
    return False


def make_at_home(change: TopicChange, place: Place) -> None:
    """Have the broker of a home make a change. Raises Refusal or Unreachable."""
    home = find_home(place["home_path"])
    if running(home) is None:
        refuse("Broker is not running.", place["as_json"])
    values = {"action": change.action.value, "topic": change.topic, "settings": dict(change.settings)}
    with ControlClient(home.socket) as client:
        reply = client.ask("change-topic", values, within=place["timeout"])
    if place["as_json"]:
        emit(reply)
    else:
        say(str(reply["text"]))


async def ask_cluster(change: TopicChange, place: Place) -> list[Answer]:
    """Have the masters of a cluster make a change."""
    async with opened(chosen_url()) as cluster:
        if cluster.tree is None:
            raise click.UsageError("a cluster is changed through its ZooKeeper: --url zk://host:port; or use --home")
        masters = await masters_of(cluster.tree, place["brokers"])
        requests = TopicRequests(cluster.tree.registry, cluster.tree.root)
        asked = masters.keys() & await requests.takers()
        name = f"{int(time.time() * 1000):015d}-{os.getpid()}-{change.action.value}"
        results = await requests.ask(change, asked, Asking(name, place["timeout"])) if asked else {}
    return [Answer(broker_id, str(address), results.get(broker_id)) for broker_id, address in sorted(masters.items())]


async def masters_of(tree: Tree, wanted: tuple[int, ...]) -> Mapping[int, BrokerAddress]:
    """Return the masters there are, or those wanted. Raises Failure if one is not there."""
    masters = await tree.directory.brokers()
    if not masters:
        raise Failure("no broker is registered there")
    if missing := sorted(set(wanted) - masters.keys()):
        there = ", ".join(map(str, sorted(masters)))
        raise Failure(f"broker {', '.join(map(str, missing))} is not registered as a master; there are {there}")
    return {broker_id: masters[broker_id] for broker_id in wanted or masters}


def tell(change: TopicChange, answer: Answer, as_json: bool) -> None:
    """Say what became of a change at one broker."""
    result = answer.result or TopicResult(Progress.FAILED, f"{_ELSEWHERE}: {advice(change)}, then reload")
    if as_json:
        emit(
            {
                "broker": answer.broker_id,
                "address": answer.address,
                "progress": "elsewhere" if answer.result is None else result.progress.value,
                "text": result.text,
                "kept": result.kept,
            }
        )
        return
    word = {Progress.DONE: "", Progress.FAILED: "not done: "}.get(result.progress, f"{result.progress.value}: ")
    say(f"broker {answer.broker_id} at {answer.address}: {word}{result.text}")


def advice(change: TopicChange) -> str:
    """Return what is to be written by hand into a server.ini."""
    section = f"[topic={escape(change.topic)}]"
    if change.action is Action.DROP:
        return f"take out {section}"
    lines = ", ".join(f"{key}={escape(value)}" for key, value in change.settings.items())
    return f"{section} with {lines}"
