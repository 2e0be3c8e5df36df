"""`metaq brokers`: who is in a cluster, and who answers."""

from typing import Final

import click

from metaq.admin.topics import Broker, answering_brokers, registered_brokers
from metaq.cli.cluster import opened
from metaq.cli.commands import chosen_url, json_option, url_option
from metaq.cli.output import emit, table
from metaq.net.loop import run

_SHOWN: Final = ("version", "uptime", "topics", "curr_connections")  # of what `stats` says


@click.command()
@url_option
@json_option
def brokers(as_json: bool) -> None:
    """List the brokers: address, role, and what they say of themselves. Slaves are listed, but not asked."""

    async def read() -> list[Broker]:
        async with opened(chosen_url()) as cluster:
            if cluster.tree is None:
                return await answering_brokers(cluster.mq)
            return await registered_brokers(cluster.tree.directory, cluster.mq)

    known = run(read())
    if as_json:
        for broker in known:
            emit(describe(broker))
        return
    rows = [
        (b.broker_id, role(b), b.address, *((b.stats or {}).get(key, "-") for key in _SHOWN), b.reason) for b in known
    ]
    table(("ID", "ROLE", "ADDRESS", "VERSION", "UPTIME", "TOPICS", "CONNECTIONS", "NOTE"), rows)


def role(broker: Broker) -> str:
    """Return master, or which slave."""
    return "master" if broker.slave_id is None else f"slave {broker.slave_id}"


def describe(broker: Broker) -> dict[str, object]:
    """Return a broker as `--json` shows it; `answers` null: it was not asked."""
    return {
        "id": broker.broker_id,
        "slave": broker.slave_id,
        "address": broker.address,
        "answers": None if broker.slave_id is not None else broker.stats is not None,
        "stats": broker.stats,
        "note": broker.reason,
    }
