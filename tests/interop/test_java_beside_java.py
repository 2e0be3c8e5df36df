"""The judge itself: what it says of a Java broker is the measure for ours."""

from pathlib import Path

import pytest

from tests.interop import jvm
from tests.interop.conftest import Brokers, Judge


async def test_a_java_consumer_gets_from_a_java_broker_what_a_java_producer_sent(
    java_broker: Brokers, judge: Judge
) -> None:
    await java_broker()
    produced = await judge("Produce", topic="test", count=20, size=100, attribute="a")
    consumed = await judge("Consume", topic="test", group="g", count=20, max_delay_ms=10)
    sent = {event["id"]: event["n"] for event in produced.of("sent")}
    got = {event["id"]: event["head"] for event in consumed.of("message")}
    assert len(sent) == 20
    assert got == {key: f"m-{n}" for key, n in sent.items()}
    assert {event["attribute"] for event in consumed.of("message")} == {"a"}


async def test_a_java_broker_that_cannot_start_says_why(java_broker: Brokers) -> None:
    with pytest.raises(RuntimeError, match=r"does not serve on [^$]*server\.ini:\n[^$]*noSuchKey"):
        await java_broker(system={"noSuchKey": 1})


async def test_a_command_of_the_judge_that_fails_shows_its_words(judge: Judge) -> None:
    with pytest.raises(AssertionError, match=r"NoSuchCommand ended with 1: \[\]\n[^$]*ClassNotFoundException"):
        await judge("NoSuchCommand")


def test_only_the_named_keys_of_one_section_change() -> None:
    text = "[system]\nbrokerId = 1\n; serverPort=5\nserverPort: 8123\n[topic=a]\nserverPort=7\n"
    changed = jvm.with_settings(text, "system", {"serverPort": "9"})
    assert changed == "[system]\nserverPort=9\nbrokerId = 1\n; serverPort=5\n[topic=a]\nserverPort=7\n"


def test_a_free_port_is_none_that_an_outgoing_connection_may_get() -> None:
    first_outgoing = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert all(10_000 <= jvm.free_port() < max(first_outgoing, 20_000) for _ in range(20))


def test_the_class_path_names_jars_that_exist(java: str) -> None:
    jars = [Path(jar) for jar in java.split(":")]
    assert all(jar.is_file() for jar in jars)
    assert {"a-judge.jar", "metamorphosis-server-1.4.6.2.jar"} <= {jar.name for jar in jars}
