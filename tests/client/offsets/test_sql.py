"""Offsets in a database: the table of 1.4.6.2, transactions of the user's own, servers that go and come back."""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from threading import active_count

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import Session

from metaq.client.offsets import SqlOffsets
from metaq.cluster.znodes import Position
from metaq.errors import ConfigError, OffsetStoreError
from tests.client.offsets.conftest import many, place
from tests.client.offsets.mariadb import MariaDB

PLACE = place("meta-test", 0, 3)
TABLE = "meta_topic_partition_group_offset"
COLUMNS = "topic VARCHAR(99), `partition` VARCHAR(99), group_id VARCHAR(99), `offset` BIGINT, msg_id BIGINT"
ROW = f"INSERT INTO {TABLE} (topic, `partition`, group_id, `offset`, msg_id) VALUES ('meta-test', '%s', 'g', 7, -9)"


@pytest.fixture(params=["sqlite", "mariadb"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """An engine of the user's own on an empty database."""
    url = request.getfixturevalue("database") if request.param == "mariadb" else f"sqlite:///{tmp_path}/mine.db"
    made = create_engine(url)
    yield made
    made.dispose()


@pytest.fixture
async def store(engine: Engine) -> AsyncIterator[SqlOffsets]:
    made = SqlOffsets(engine)
    yield made
    await made.close()


async def test_the_table_has_the_columns_of_the_original(engine: Engine, store: SqlOffsets) -> None:
    await store.save("meta-example", {PLACE: Position(-5465310905774374905, 1048576)})
    with engine.connect() as connection:
        rows = connection.execute(text(f"SELECT * FROM {TABLE}")).mappings().all()
    assert [dict(row) for row in rows] == [
        {
            "topic": "meta-test",
            "partition": "0-3",
            "group_id": "meta-example",
            "offset": 1048576,
            "msg_id": -5465310905774374905,
        }
    ]


@pytest.mark.parametrize("more", ["id INTEGER", "PRIMARY KEY (topic, `partition`, group_id)"])
async def test_a_table_made_by_hand_is_used_as_it_is(engine: Engine, store: SqlOffsets, more: str) -> None:
    with engine.begin() as connection:
        connection.execute(text(f"CREATE TABLE {TABLE} ({COLUMNS}, {more})"))
        connection.execute(text(ROW % "0-3"))
        connection.execute(text(ROW % "no partition"))
    assert await store.load("g", [PLACE]) == {PLACE: Position(-9, 7)}
    for n in range(2):
        await store.save("g", {PLACE: Position(n, n), place("t", 1, 1): Position(n, n)})
    assert await store.stored("g") == {PLACE: Position(1, 1), place("t", 1, 1): Position(1, 1)}
    with engine.connect() as connection:
        assert connection.scalar(text(f"SELECT count(*) FROM {TABLE}")) == 3


async def test_tables_of_other_names_are_apart(engine: Engine) -> None:
    stores = [SqlOffsets(engine), SqlOffsets(engine, "select")]
    for n, store in enumerate(stores):
        await store.save("g", {PLACE: Position(n, n)})
    assert [await store.stored("g") for store in stores] == [{PLACE: Position(n, n)} for n in range(2)]
    for store in stores:
        await store.close()


async def test_names_that_do_not_fit_are_an_error_and_not_cut_short(database: str) -> None:
    store = SqlOffsets(database)
    with pytest.raises(OffsetStoreError, match="Data too long"):
        await store.save("g" * 256, {PLACE: Position(1, 2)})
    await store.close()


# in a transaction of the user's own


@pytest.mark.parametrize("first", [True, False], ids=["positions first", "positions last"])
async def test_positions_and_results_are_stored_both_or_neither(engine: Engine, first: bool) -> None:
    store = SqlOffsets(engine, consumer_saves=False)
    assert await store.load("g", [PLACE]) == {}  # as a consumer begins
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE result (n INTEGER)"))

    def work(n: int, *, fail: bool) -> None:
        with engine.begin() as connection:
            if first:
                store.save_in(connection, "g", many(3, round=n))
            connection.execute(text("INSERT INTO result VALUES (:n)"), {"n": n})
            if not first:
                store.save_in(connection, "g", many(3, round=n))
            if fail:
                raise ZeroDivisionError

    for n, fail in enumerate([True, False, True, False, True]):
        try:
            work(n, fail=fail)
        except ZeroDivisionError:
            assert fail
        with engine.connect() as connection:
            results = list(connection.scalars(text("SELECT n FROM result")))
        done = [k for k in range(n + 1) if k % 2]
        assert results == done
        assert await store.stored("g") == (many(3, round=done[-1]) if done else {})
    await store.close()


async def test_a_consumer_does_not_put_back_what_save_in_stored(engine: Engine) -> None:
    store = SqlOffsets(engine, consumer_saves=False)
    await store.load("g", [PLACE])
    with Session(engine) as session, session.begin():
        store.save_in(session.connection(), "g", {PLACE: Position(2, 20)})
    await store.save("g", {PLACE: Position(1, 10)})
    assert await store.load("g", [PLACE]) == {PLACE: Position(2, 20)}
    await store.close()


async def test_an_asynchronous_transaction_takes_positions_too(tmp_path: Path) -> None:
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/mine.db")
    store = SqlOffsets(engine)
    await store.load("g", [PLACE])
    async with engine.connect() as connection:
        await connection.run_sync(store.save_in, "g", {PLACE: Position(1, 2)})
        await connection.rollback()
        assert await store.stored("g") == {}
        await connection.run_sync(store.save_in, "g", {PLACE: Position(1, 2)})
        await connection.commit()
    assert await store.stored("g") == {PLACE: Position(1, 2)}
    await store.close()
    async with engine.connect():
        pass  # it is the user's, and works on
    await engine.dispose()


# when something is missing


async def test_a_server_that_is_away_is_an_error_and_the_next_call_works_when_it_is_back(
    mariadb: MariaDB, database: str
) -> None:
    engine = create_engine(database)
    ours, users = SqlOffsets(database), SqlOffsets(engine)
    for store in (ours, users):
        await store.save("g", many(3))
    mariadb.stop()
    try:
        for store in (ours, users):
            with pytest.raises(OffsetStoreError, match=f"{TABLE}: .*(connect|server)") as caught:
                await store.save("g", many(3, round=1))
            assert caught.value.retriable
            assert "\n" not in str(caught.value)
            with pytest.raises(OffsetStoreError):
                await store.load("g", [PLACE])
    finally:
        mariadb.start()
    await ours.save("g", many(3, round=2))
    assert await users.stored("g") == many(3, round=2)
    for store in (ours, users):
        await store.close()
    engine.dispose()


async def test_a_table_that_was_dropped_is_made_again(engine: Engine, store: SqlOffsets) -> None:
    await store.save("g", many(3))
    with engine.begin() as connection:
        connection.execute(text(f"DROP TABLE {TABLE}"))
    with pytest.raises(OffsetStoreError, match=TABLE):
        await store.save("g", many(3))
    await store.save("g", many(3))
    assert await store.stored("g") == many(3)


async def test_a_database_that_is_locked_is_an_error_in_time(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/o.db"
    store, slow = SqlOffsets(f"{url}?timeout=0.05"), SqlOffsets(f"{url}?timeout=30", timeout=0.1)
    await store.save("g", many(1))
    with create_engine(url).connect() as other:
        other.execute(text("BEGIN IMMEDIATE"))
        with pytest.raises(OffsetStoreError, match="database is locked"):
            await store.save("g", many(1, round=1))
        with pytest.raises(OffsetStoreError, match=r"no answer within 0\.1 s"):
            await slow.save("g", many(1, round=1))
    while True:
        with suppress(OffsetStoreError):  # a busy machine may take longer than it is given here
            await slow.save("g", many(1, round=2))
            break
    assert await store.stored("g") == many(1, round=2)
    for each in (store, slow):
        await each.close()


async def test_a_password_is_not_in_errors() -> None:
    store = SqlOffsets("mysql+pymysql://me:secret@127.0.0.1:1/db")
    with pytest.raises(OffsetStoreError) as caught:
        await store.load("g", [PLACE])
    assert "secret" not in str(caught.value)
    assert "mysql+pymysql://me:***@127.0.0.1:1/db" in str(caught.value)
    await store.close()


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
async def test_a_database_in_memory_lives_as_long_as_its_store(url: str) -> None:
    store = SqlOffsets(url)
    await store.save("g", many(3))
    assert await store.stored("g") == many(3)
    await store.close()


async def test_no_thread_is_left_when_a_call_is_done(tmp_path: Path) -> None:
    before = active_count()
    store = SqlOffsets(f"sqlite:///{tmp_path}/o.db")
    await asyncio.gather(*(store.save("g", many(n)) for n in range(1, 10)))
    assert active_count() == before
    await store.close()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql+nodriver://u@h/db", r"mysql\+nodriver://u@h/db: .*nodriver"),
        ("cassandra://h/db", r"cassandra://h/db: .*cassandra"),
        ("oracle+oracledb://h/db", r"oracle\+oracledb://h/db: install the driver of this database .*oracledb"),
        ("no url", "URL"),
        ("mysql+pymysql://h:port/db", "port"),
    ],
)
def test_an_url_that_cannot_work_is_refused_at_once(url: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SqlOffsets(url)


def test_without_sqlalchemy_the_way_to_get_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    with pytest.raises(ConfigError, match=r"pip install 'pymetaq\[sql\]'"):
        SqlOffsets("sqlite://")
