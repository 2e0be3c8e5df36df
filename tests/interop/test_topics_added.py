"""Topics that `metaq topics` adds: Java clients at work find them, a Java broker starts on the file they are in."""

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final, TypeAlias

from metaq.cluster.paths import Paths
from metaq.cluster.zk import ZooKeeperClient
from metaq.cluster.znodes import decode_topic
from tests.cluster.conftest import until_async
from tests.embedding import HERE, configured, serving
from tests.interop.conftest import PLAIN, SHORT_PAUSE_MS, Brokers, Judge
from tests.interop.jvm import Command, Event, with_settings

COMMENT: Final = "; 主题, kept as it is\n"
IN_TURN: Final = "test,orders,orders"  # not two: it counts sends over all topics, and would use every other partition
SOON: Final = 10.0  # seconds: what the machine does besides comes on top of the one or two it takes

Messages: TypeAlias = dict[object, tuple[object, ...]]


async def test_java_clients_use_a_topic_that_is_created_while_they_run_and_a_java_broker_starts_on_its_file(
    zk: str, judge: Judge, java_broker: Brokers, tmp_path: Path
) -> None:
    places = {"hostName": HERE, "serverPort": 0, "dataPath": tmp_path / "data"}
    text = with_settings(PLAIN.replace("[topic", f"{COMMENT}[topic"), "system", places)
    text = with_settings(text, "zookeeper", {"zk.zkConnect": zk, "zk.zkSyncTimeMs": SHORT_PAUSE_MS})
    text = f"{text}[topic=old]\n[pymetaq]\nbindAddress={HERE}\n"
    async with serving(configured(tmp_path, text)):
        consumer = await judge.start("Consume", topic="test,orders", group="g", max_delay_ms=10, idle_ms=60_000)
        producer = await judge.start("Produce", topic=IN_TURN, count=9999, pause_ms=20, stubborn=True)
        await asyncio.gather(consumer.until("subscribed"), producer.until("exception"))  # no broker has orders yet
        await metaq(zk, "create", "orders", "--partitions", "2", "--set", "deletePolicy=delete,48")
        await says(producer, "sent", lambda sent: {f"1-{n}" for n in range(2)} <= partitions(sent, "orders"))
        await metaq(zk, "alter", "orders", "--partitions", "4", "--set", "stat=true")
        await says(producer, "sent", lambda sent: {f"1-{n}" for n in range(4)} <= partitions(sent, "orders"))
        await metaq(zk, "drop", "old", "--yes")
        await producer.java.kill()
        sent = told((await producer.finish(expect=None)).of("sent"))
        await says(consumer, "message", lambda received: sent.items() <= received.items())
        await consumer.java.kill()
    written = (tmp_path / "server.ini").read_text("utf-8")
    assert COMMENT in written
    await java_broker(written)
    tree = ZooKeeperClient(zk)
    await tree.connect()
    await until_async(lambda: registered(tree, {"orders": 4, "test": 2}))
    await tree.close()


def told(events: Iterable[Event]) -> Messages:
    """Return the messages that were sent or received: id → topic, partition and beginning."""
    return {e["id"]: (e["topic"], e["partition"], e["head"] if "head" in e else f"m-{e['n']}") for e in events}


def partitions(messages: Messages, topic: str) -> set[object]:
    """Return the partitions of a topic that messages are in."""
    return {partition for found, partition, _ in messages.values() if found == topic}


async def says(command: Command, event: str, condition: Callable[[Messages], bool]) -> None:
    """Wait until what a command has said of messages meets a condition. Raises TimeoutError."""
    async with asyncio.timeout(SOON):
        while not condition(told(each for each in command.seen if each["event"] == event)):
            await command.until(event)


async def metaq(zk: str, *words: str) -> None:
    """Do as somebody at another machine: `metaq topics … --url zk://…`."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "metaq", "topics", *words, "--url", f"zk://{zk}/meta",
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()


async def registered(tree: ZooKeeperClient, wanted: Mapping[str, int]) -> bool:
    """Tell whether broker 1 takes messages of these topics, with so many partitions, and of no other."""
    found = {topic: await tree.get(f"{Paths().publish(topic)}/1-m") for topic in ("test", "orders", "old")}
    return {topic: decode_topic(node.data).num_parts for topic, node in found.items() if node is not None} == wanted
