"""Positions in a database, in the table of 1.4.6.2 (reference: MysqlOffsetStorage; client.md §9.2)."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from metaq.client.offsets.blocking import Blocking
from metaq.cluster.znodes import Position
from metaq.errors import ConfigError, OffsetStoreError
from metaq.model import ClusterPartition
from metaq.ports import Threads

if TYPE_CHECKING:  # SQLAlchemy is an extra, loaded when a store is made
    from sqlalchemy import URL, Connection, Engine, Table
    from sqlalchemy.ext.asyncio import AsyncEngine

T = TypeVar("T")

DEFAULT_TABLE: Final = "meta_topic_partition_group_offset"
_ATTEMPTS: Final = 3  # to insert rows that others insert at the same time


class SqlOffsets:
    """An OffsetStore in a database SQLAlchemy knows. The table is created where it is missing.

    `engine`: an URL of SQLAlchemy, or an engine of yours, which stays open. Engines that block do so in a thread of
    their own, asynchronous ones work on the event loop. `timeout`: seconds a call may take.

    `save_in` stores positions in a transaction of yours, together with what you made of the messages. Say
    `consumer_saves=False` then: only `save_in` stores anything, and the consumer cannot put back an older position.
    """

    def __init__(
        self,
        engine: "str | URL | Engine | AsyncEngine",
        table: str = DEFAULT_TABLE,
        *,
        consumer_saves: bool = True,
        timeout: float = 30.0,
        threads: Threads | None = None,
    ) -> None:
        """Raises ConfigError if SQLAlchemy or the driver of an URL is not installed, or the URL is none."""
        try:
            import sqlalchemy  # noqa: PLC0415 - an extra

            from metaq.client.offsets import sql_table  # noqa: PLC0415 - imports it
        except ImportError as exc:
            raise ConfigError(f"offsets in a database need SQLAlchemy: pip install 'pymetaq[sql]' ({exc})") from exc
        self._errors = sqlalchemy.exc
        self._sql = sql_table
        self.table: Table = sql_table.make_table(table)  # for migrations of yours
        self._is_ours = isinstance(engine, str | sqlalchemy.URL)
        made = _make_engine(engine) if isinstance(engine, str | sqlalchemy.URL) else engine
        self._engine = _Blocking(made, threads) if isinstance(made, sqlalchemy.Engine) else _Async(made)
        self._name = f"{made.url.render_as_string(hide_password=True)} table {table}"
        self._consumer_saves = consumer_saves
        self._timeout = timeout
        self._is_there = False  # the table

    async def load(self, group: str, partitions: Sequence[ClusterPartition]) -> dict[ClusterPartition, Position]:
        """Return what is stored for these partitions."""
        topics = {partition.topic for partition in partitions}
        known = await self._do(lambda connection: self._sql.read(connection, self.table, group, topics))
        return {partition: known[partition] for partition in partitions if partition in known}

    async def save(self, group: str, positions: Mapping[ClusterPartition, Position]) -> None:
        """Store all in one transaction; nothing with `consumer_saves=False`."""
        if positions and self._consumer_saves:
            copy = dict(positions)
            await self._do(lambda connection: self._sql.write(connection, self.table, group, copy))

    def save_in(self, connection: "Connection", group: str, positions: Mapping[ClusterPartition, Position]) -> None:
        """Store positions in a transaction that is under way; it is neither committed nor rolled back here.

        From an ORM session: `session.connection()`; from an asynchronous connection: `await c.run_sync(store.save_in,
        group, positions)`. The table must be there, as it is once a consumer has begun. Raises what SQLAlchemy
        raises; roll back then. Blocks.
        """
        self._sql.write(connection, self.table, group, positions)

    async def groups(self) -> list[str]:
        """Return the groups that have something stored, sorted."""
        return await self._do(lambda connection: self._sql.groups(connection, self.table))

    async def stored(self, group: str) -> dict[ClusterPartition, Position]:
        """Return all that a group has stored."""
        return await self._do(lambda connection: self._sql.read(connection, self.table, group))

    async def close(self) -> None:
        """Wait for calls under way; end the connections of an engine that was made from an URL."""
        await self._engine.close(dispose=self._is_ours)

    async def _do(self, work: "Callable[[Connection], T]") -> T:
        try:
            async with asyncio.timeout(self._timeout):
                await self._create()
                return await self._repeat(work)
        except TimeoutError as exc:
            raise OffsetStoreError(f"{self._name}: no answer within {self._timeout:g} s") from exc
        except self._errors.SQLAlchemyError as exc:
            self._is_there = False  # look again: it may be another database by then
            raise OffsetStoreError(f"{self._name}: {_reason(exc)}") from exc

    async def _create(self) -> None:
        """Create the table unless it is there. Fine if another does it at the same time."""
        if self._is_there:
            return
        try:
            await self._engine.run(lambda connection: self._sql.create(connection, self.table))
        except self._errors.DBAPIError:
            if not await self._engine.run(lambda connection: self._sql.is_there(connection, self.table)):
                raise
        self._is_there = True

    async def _repeat(self, work: "Callable[[Connection], T]") -> T:
        for _ in range(_ATTEMPTS - 1):
            try:
                return await self._engine.run(work)
            except self._errors.IntegrityError:
                continue  # another inserted the row; now it is there
        return await self._engine.run(work)


class _Blocking:
    """An engine whose calls block, and the thread they do it in."""

    def __init__(self, engine: "Engine", threads: Threads | None) -> None:
        self._engine = engine
        self._thread = Blocking("metaq offsets", threads)

    async def run(self, work: "Callable[[Connection], T]") -> T:
        """Do something in one transaction."""
        return await self._thread.run(partial(self._transact, work))

    async def close(self, *, dispose: bool) -> None:
        """Wait for calls under way; end the connections, with `dispose`."""
        await self._thread.close()
        if dispose:
            self._engine.dispose()

    def _transact(self, work: "Callable[[Connection], T]") -> T:
        with self._engine.begin() as connection:
            return work(connection)


class _Async:
    """An engine that works on the event loop."""

    def __init__(self, engine: "AsyncEngine") -> None:
        self._engine = engine

    async def run(self, work: "Callable[[Connection], T]") -> T:
        """Do something in one transaction."""
        async with self._engine.begin() as connection:
            return await connection.run_sync(work)

    async def close(self, *, dispose: bool) -> None:
        """End the connections, with `dispose`."""
        if dispose:
            await self._engine.dispose()


def _make_engine(url: "str | URL") -> "Engine | AsyncEngine":
    """Return an engine that looks whether a connection still works before it uses it. Raises ConfigError."""
    from sqlalchemy import StaticPool, create_engine, exc, make_url  # noqa: PLC0415 - an extra

    shown = "the URL of the offsets"
    try:
        parsed = make_url(url)
        shown = parsed.render_as_string(hide_password=True)
        if parsed.get_dialect().is_async:
            from sqlalchemy.ext.asyncio import create_async_engine  # noqa: PLC0415 - needs more packages

            return create_async_engine(parsed, pool_pre_ping=True)
        if parsed.get_backend_name() == "sqlite" and parsed.database in (None, "", ":memory:"):
            return create_engine(parsed, poolclass=StaticPool, connect_args={"check_same_thread": False})
        return create_engine(parsed, pool_pre_ping=True)
    except ImportError as error:
        raise ConfigError(f"{shown}: install the driver of this database ({error})") from error
    except (exc.ArgumentError, ValueError) as error:
        raise ConfigError(f"{shown}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """Return one line: what the database said, without the statement and its values."""
    return " ".join(str(getattr(error, "orig", None) or error).split())
