"""The table of offsets of 1.4.6.2, and what is done to it within one transaction. Imported when a database is used.

topic, partition (`<brokerId>-<partition>`), group_id | offset, msg_id: signed 64-bit (reference: MysqlOffsetStorage).
Standard SQL only, without savepoints: releasing one can commit what a user of SQLite wants to be able to roll back.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from sqlalchemy import (
    BigInteger,
    BindParameter,
    Column,
    Connection,
    MetaData,
    String,
    Table,
    bindparam,
    insert,
    inspect,
    select,
)
from sqlalchemy import update as sql_update

from metaq.cluster.znodes import Position, decode_partition
from metaq.model import ClusterPartition

_LENGTH: Final = 255  # characters; three times that is the most an index of MySQL takes
_CHARSET: Final = "utf8mb4"
_EXACT: Final = "utf8mb4_bin"  # else MySQL takes group A for group a


def make_table(name: str) -> Table:
    """Return the table's description; `name` may have a schema before it, with a dot between."""
    schema, _, bare = name.rpartition(".")
    return Table(
        bare,
        MetaData(),
        Column("topic", String(_LENGTH), primary_key=True),
        Column("partition", String(_LENGTH), primary_key=True),
        Column("group_id", String(_LENGTH), primary_key=True),
        Column("offset", BigInteger, nullable=False),
        Column("msg_id", BigInteger, nullable=False),
        schema=schema or None,
        mysql_charset=_CHARSET,
        mysql_collate=_EXACT,
        mariadb_charset=_CHARSET,
        mariadb_collate=_EXACT,
    )


def is_there(connection: Connection, table: Table) -> bool:
    """Tell whether the table exists."""
    return inspect(connection).has_table(table.name, schema=table.schema)


def create(connection: Connection, table: Table) -> None:
    """Create the table where it is missing."""
    table.create(connection, checkfirst=True)


def read(
    connection: Connection, table: Table, group: str, topics: Iterable[str] | None = None
) -> dict[ClusterPartition, Position]:
    """Return what a group has stored, for these topics or all. Rows that name no partition are left out."""
    query = select(table.c.topic, table.c.partition, table.c.msg_id, table.c.offset).where(table.c.group_id == group)
    if topics is not None:
        query = query.where(table.c.topic.in_(sorted(set(topics))))
    found: dict[ClusterPartition, Position] = {}
    for topic, name, message_id, offset in connection.execute(query):
        partition = decode_partition(name)
        if partition is not None:
            found[ClusterPartition(topic, partition)] = Position(message_id, offset)
    return found


def groups(connection: Connection, table: Table) -> list[str]:
    """Return the groups that have rows, sorted."""
    return sorted(connection.scalars(select(table.c.group_id).distinct()))


def write(connection: Connection, table: Table, group: str, positions: Mapping[ClusterPartition, Position]) -> None:
    """Store all: UPDATE what is there, INSERT what is not, in one order for all writers, so that they do not deadlock.

    Raises IntegrityError if another inserts the same rows at this moment; in a new transaction it goes well.
    """
    known = read(connection, table, group, (place.topic for place in positions))
    there: list[dict[str, object]] = []
    missing: list[dict[str, object]] = []
    for place, position in sorted(positions.items()):
        (there if place in known else missing).append(_row(group, place, position))
    if there:
        key = [table.c[name] == bindparam(f"_{name}") for name in ("topic", "partition", "group_id")]
        new: dict[str, BindParameter[object]] = {name: bindparam(f"_{name}") for name in ("offset", "msg_id")}
        connection.execute(
            sql_update(table).where(*key).values(new), [{f"_{k}": v for k, v in row.items()} for row in there]
        )
    if missing:
        connection.execute(insert(table), missing)


def _row(group: str, place: ClusterPartition, position: Position) -> dict[str, object]:
    return {
        "topic": place.topic,
        "partition": str(place.partition),
        "group_id": group,
        "offset": position.offset,
        "msg_id": position.message_id,
    }
