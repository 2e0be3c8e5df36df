"""`metaq server slave-status`: how far an asynchronous slave is (reference: SlaveStatus)."""

from collections.abc import Iterator, Mapping
from typing import Final

import click

from metaq.cli.commands import home_option, json_option
from metaq.cli.output import emit, say
from metaq.cli.server_tools import ask_broker
from metaq.cli.tables import table
from metaq.replication.report import original_lines

_HEADINGS: Final = ("PARTITION", "STATE", "END", "MASTER'S END", "BYTES", "MESSAGES", "SECONDS", "NOTE")


@click.command("slave-status")
@home_option
@json_option
def slave_status(home_path: str | None, as_json: bool) -> None:
    """Print how far the asynchronous slave of a home is: the lines of 1.4.6.2, then what it lacks by partition."""
    values = ask_broker(home_path, as_json, "slave-status")
    if as_json:
        emit(values)
        return
    say("Getting asynchronous slave status...")
    for line in (*original_lines(values), *lines_of_ours(values)):
        say(line)
    table(_HEADINGS, [_row(_mapping(each)) for each in _list(values, "partitions")])


def lines_of_ours(values: Mapping[str, object]) -> Iterator[str]:
    """Yield the lines that come after those of 1.4.6.2."""
    lag = _mapping(values["lag"])
    yield f"Master:{values['master'] or 'none'}"
    yield f"State:{values['state']}"
    yield f"Lag:{_lag(lag)}"
    if values["error"]:
        yield f"Error:{values['error']}"
    if values["config_error"] and values["config_error"] != values["error"]:
        yield f"Configuration:{values['config_error']}"
    if gone := values.get("gone"):  # a broker that runs since before an upgrade does not say it
        assert isinstance(gone, list)
        yield f"Not at the master:{', '.join(map(str, gone))}: what is here stays, and is copied no further"


def _lag(lag: Mapping[str, object]) -> str:
    if lag["bytes"] is None:
        return "unknown"
    messages = "" if lag["messages"] is None else f"about {lag['messages']} messages, "
    return f"{lag['bytes']} bytes, {messages}{lag['seconds']} s"


def _row(each: Mapping[str, object]) -> tuple[object, ...]:
    lag = _mapping(each["lag"])
    numbers = (each["end"], each["master_end"], lag["bytes"], lag["messages"], lag["seconds"])
    note = each["error"] or each["repaired"] or ""
    return (f"{each['topic']}-{each['partition']}", each["state"], *map(_known, numbers), note)


def _known(value: object) -> object:
    return "-" if value is None else value


def _mapping(value: object) -> Mapping[str, object]:
    assert isinstance(value, dict)
    return value


def _list(values: Mapping[str, object], key: str) -> list[object]:
    value = values[key]
    assert isinstance(value, list)
    return value
