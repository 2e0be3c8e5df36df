"""`metaq brokers`: who is in a cluster, and who answers. Making a slave the master is in `promotion`."""

from collections.abc import Mapping
from typing import ClassVar, Final

import click

from metaq.admin.topics import Broker, answering_brokers, registered_brokers
from metaq.app import real_world
from metaq.cli.cluster import opened
from metaq.cli.commands import CONNECT_TIMEOUT, Commands, chosen_url, json_option, url_option
from metaq.cli.output import emit
from metaq.cli.tables import table
from metaq.client.asking import stats_at
from metaq.model import BrokerAddress
from metaq.net.loop import run

_SHOWN: Final = ("version", "uptime", "topics", "curr_connections")  # of what `stats` says


class BrokerCommands(Commands):
    """The words after `metaq brokers`; without one it lists them."""

    sources: ClassVar[Mapping[str, str]] = {"promote": "metaq.cli.promotion:promote"}


@click.group(cls=BrokerCommands, invoke_without_command=True)
@url_option
@json_option
@click.pass_context
def brokers(ctx: click.Context, as_json: bool) -> None:
    """List the brokers: address, role, what they say of themselves, and what slaves lack of their master's messages."""
    if ctx.invoked_subcommand is None:
        show(as_json)


def show(as_json: bool) -> None:
    """Print them."""

    async def ask(address: BrokerAddress) -> bytes:
        return await stats_at(real_world(), address, "", CONNECT_TIMEOUT)

    async def read() -> list[Broker]:
        async with opened(chosen_url()) as cluster:
            if cluster.tree is None:
                return await answering_brokers(cluster.mq)
            return await registered_brokers(cluster.tree.directory, cluster.mq, ask)

    known = run(read())
    if as_json:
        for broker in known:
            emit(describe(broker))
        return
    rows = [
        (b.broker_id, role(b), b.address, *((b.stats or {}).get(key, "-") for key in _SHOWN), lag(b), note(b))
        for b in known
    ]
    table(("ID", "ROLE", "ADDRESS", "VERSION", "UPTIME", "TOPICS", "CONNECTIONS", "LAG", "NOTE"), rows)


def lag(broker: Broker) -> str:
    """Return what a slave of ours lacks; "-" for masters, and for slaves that do not say it."""
    stats = broker.stats or {}
    if "slave_lag_bytes" not in stats:
        return "-"
    if stats["slave_lag_bytes"] == "unknown":
        return "unknown"
    return f"{stats['slave_lag_bytes']} bytes, {stats.get('slave_lag_seconds', '?')} s"


def note(broker: Broker) -> str:
    """Return why a broker does not answer, what keeps a slave from copying, or a master from taking messages."""
    stats = broker.stats or {}
    if stats.get("pair_connected") == "false":
        return f"its slave {stats.get('pair_slave', '')} is away: it refuses puts"
    return broker.reason or stats.get("slave_error", "")


def role(broker: Broker) -> str:
    """Return master, or which slave."""
    return "master" if broker.slave_id is None else f"slave {broker.slave_id}"


def describe(broker: Broker) -> dict[str, object]:
    """Return a broker as `--json` shows it."""
    return {
        "id": broker.broker_id,
        "slave": broker.slave_id,
        "address": broker.address,
        "answers": broker.stats is not None,
        "stats": broker.stats,
        "note": note(broker),
    }
