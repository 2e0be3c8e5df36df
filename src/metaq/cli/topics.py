"""`metaq topics list|show`: what topics a cluster has, and their partitions. Changes are in `topic_changes`."""

from collections.abc import Mapping
from typing import ClassVar

import click

from metaq.admin.topics import AnsweredTopics, RegisteredTopics, Topic, Topics
from metaq.cli.cluster import Cluster, opened
from metaq.cli.commands import Commands, chosen_url, json_option, url_option
from metaq.cli.output import emit, say
from metaq.cli.tables import table
from metaq.net.loop import run


class TopicCommands(Commands):
    """The words after `metaq topics`."""

    sources: ClassVar[Mapping[str, str]] = {
        **{name: f"metaq.cli.topics:{name}_" for name in ("list", "show")},
        **{name: f"metaq.cli.topic_changes:{name}_" for name in ("create", "alter", "drop")},
    }


@click.group(cls=TopicCommands)
def topics() -> None:
    """Topics: their brokers and partitions, how much they hold; create, alter, drop them without a restart."""


@click.command("list")
@url_option
@json_option
def list_(as_json: bool) -> None:
    """List all topics. Without ZooKeeper, partitions are those something was sent to."""

    async def read() -> list[Topic]:
        async with opened(chosen_url()) as cluster:
            return await topics_of(cluster).all()

    known = run(read())
    if as_json:
        for topic in known:
            emit(summary(topic) | {"partitions": len(topic.partitions)})
        return
    rows = [
        (t.name, len(t.partitions), ",".join(map(str, t.brokers)) or "-", *map(word, accepted(t)), t.bytes)
        for t in known
    ]
    table(("TOPIC", "PARTITIONS", "BROKERS", "PUBLISH", "SUBSCRIBE", "BYTES"), rows)


@click.command("show")
@click.argument("topic")
@url_option
@json_option
def show_(topic: str, as_json: bool) -> None:
    """Show the partitions of TOPIC: where each begins and ends, in bytes."""

    async def read() -> Topic:
        async with opened(chosen_url()) as cluster:
            return await topics_of(cluster).topic(topic)

    found = run(read())
    if as_json:
        partitions = [
            {"partition": str(name), "first": bounds and bounds.first, "end": bounds and bounds.end}
            for name, bounds in found.partitions.items()
        ]
        emit(summary(found) | {"partitions": partitions})
        return
    publish, subscribe = map(word, accepted(found))
    say(f"topic {topic}: publish {publish}, subscribe {subscribe}, {found.bytes} bytes")
    rows = [
        (name, bounds.first, bounds.end, bounds.end - bounds.first) if bounds else (name, "-", "-", "-")
        for name, bounds in found.partitions.items()
    ]
    table(("PARTITION", "FIRST", "END", "BYTES"), rows)


def topics_of(cluster: Cluster) -> Topics:
    """Return where this cluster's topics are listed."""
    if cluster.tree is None:
        return AnsweredTopics(cluster.mq)
    return RegisteredTopics(cluster.tree.registry, cluster.tree.root, cluster.tree.directory, cluster.mq)


def summary(topic: Topic) -> dict[str, object]:
    """Return what JSON says of a topic, but for its partitions."""
    publish, subscribe = accepted(topic)
    return {
        "topic": topic.name,
        "brokers": topic.brokers,
        "accepts_publish": publish,
        "accepts_subscribe": subscribe,
        "bytes": topic.bytes,
    }


def accepted(topic: Topic) -> tuple[bool, bool]:
    """Return whether producers and consumers may use it."""
    return topic.accepts_publish, topic.accepts_subscribe


def word(accepts: bool) -> str:
    """Return how a table says it."""
    return "yes" if accepts else "no"
