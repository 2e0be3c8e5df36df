"""`metaq server reload|stats|open-partitions|close-partitions`: asking a running broker (reference: the JMX tools)."""

import click

from metaq.admin.wire import Values
from metaq.cli.commands import home_option, json_option
from metaq.cli.control import ask
from metaq.cli.home import find_home, running
from metaq.cli.output import emit, refuse, say

_WORDS = {"added": "added", "changed": "changed", "removed": "removed", "restart": "takes effect after a restart"}

topic_option = click.option("--topic", "-topic", required=True, metavar="TOPIC")


def ask_broker(home_path: str | None, as_json: bool, command: str, values: Values | None = None) -> dict[str, object]:
    """Return a running broker's answer. Ends with 1 if none runs; raises Refusal or Unreachable."""
    home = find_home(home_path)
    if running(home) is None:
        refuse("Broker is not running.", as_json)
    return ask(home.socket, command, values)


@click.command()
@home_option
@json_option
def reload(home_path: str | None, as_json: bool) -> None:
    """Read server.ini again: topics take effect at once. With a mistake in it nothing changes."""
    reply = ask_broker(home_path, as_json, "reload")
    if as_json:
        emit(reply)
        return
    say("Reloading broker config...")
    lines = [f"{word}: {', '.join(map(str, names))}" for key, word in _WORDS.items() if (names := _list(reply, key))]
    for line in lines or ["nothing has changed"]:
        say(line)


@click.command()
@click.option(
    "--item", "-item", default="", metavar="ITEM", help="topics, offsets, realtime, config, help, reset, or a topic."
)
@home_option
@json_option
def stats(item: str, home_path: str | None, as_json: bool) -> None:
    """Print the statistics of a running broker."""
    text = str(ask_broker(home_path, as_json, "stats", {"item": item})["text"])
    if as_json:
        emit({"item": item, "text": text})
    else:
        say("\n".join(text.splitlines()))


@click.command("open-partitions")
@topic_option
@home_option
@json_option
def open_partitions(topic: str, home_path: str | None, as_json: bool) -> None:
    """Open all closed partitions of a topic again."""
    ask_broker(home_path, as_json, "open-partitions", {"topic": topic})
    _done(f"opened all partitions of {topic}", {"topic": topic}, as_json)


@click.command("close-partitions")
@topic_option
@click.option("--start", "-start", "first", required=True, type=click.IntRange(min=0), help="The first partition.")
@click.option("--end", "-end", "last", required=True, type=click.IntRange(min=0), help="The last partition.")
@home_option
@json_option
def close_partitions(topic: str, first: int, last: int, home_path: str | None, as_json: bool) -> None:
    """Close partitions of a topic until the broker stops: puts and gets are answered 403."""
    values = {"topic": topic, "start": first, "end": last}
    ask_broker(home_path, as_json, "close-partitions", values)
    _done(f"closed partitions {first} to {last} of {topic}", values, as_json)


def _done(text: str, values: Values, as_json: bool) -> None:
    if as_json:
        emit(values)
    else:
        say(text)


def _list(reply: Values, key: str) -> list[object]:
    value = reply.get(key)
    return value if isinstance(value, list) else []
