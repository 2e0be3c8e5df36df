"""The systems measured with their clients by the same workloads: how to start each, what drives it, what it can."""

import importlib.util
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from bench import servers
from bench.brokers import Config, prepare, serves
from bench.cases import JAVA, OURS, Setting
from bench.loads import BUILD
from bench.processes import serving
from bench.servers import Serve, Server
from metaq.testing import ZooKeeper
from tests.interop import jvm

COUNTS: Final = (16, 128, 1024, 10_000)
PEERS: Final = Path(__file__).parent / "peers"


@dataclass(frozen=True, slots=True)
class Client:
    """One client of a system. `driver`: a module of bench.peers, or a class of bench/peers/java."""

    name: str  # in tables
    driver: str
    workloads: str  # those of P1, P2, P3, P5, P6 it takes part in
    java: str = ""  # folder of its classes in build/bench/classes
    mode: str = ""
    part: int = 0  # which of the addresses of the server, where it has several
    module: str = ""  # of Python, which it needs


@dataclass(frozen=True, slots=True)
class System:
    """A server and its clients. `most`: partitions up to which it is measured; `java`: it gets faster while it runs."""

    name: str
    clients: tuple[Client, ...]
    serve: Serve
    most: int
    java: bool = False
    makes_topics: bool = False  # topics have to be prepared by a client
    shows_late: bool = False  # a message can be read once it was flushed: latency is measured where that is at once

    def missing(self) -> str:
        """Return what of it is not installed; "" if nothing is. Fetches what can be fetched."""
        if self.name == "MetaQ (Java)" and (what := jvm.missing() or ("" if ZooKeeper.available() else "zookeeper")):
            return f"no {what}"
        for program, serve in (("redis-server", servers.redis), (str(servers.RABBITMQ), servers.rabbitmq)):
            if self.serve is serve and shutil.which(program) is None:
                return f"no {program}"
        if self.serve is servers.nats and servers.nats_server() is None:
            return "no nats-server: neither in PATH nor can Go fetch it"
        for serve, name in ((servers.kafka, "kafka"), (servers.rocketmq, "rocketmq")):
            if self.serve is serve and (shutil.which("java") is None or not servers.fetch(name)):
                return f"no {self.name}: needs Java, and Maven to fetch it"
        return ""

    def those_there(self) -> tuple[Client, ...]:
        """Return the clients whose modules are installed."""
        return tuple(each for each in self.clients if not each.module or importlib.util.find_spec(each.module))


def topics() -> dict[str, int]:
    """Return the topics of a session, with their partitions."""
    return {f"t{count}": count for count in COUNTS} | {"t16s100": 16, "t16s1000": 16, "latency": 16}


def ours(zk: str) -> Serve:
    """Return what starts our broker, or the Java broker where the address of a ZooKeeper is given."""

    @asynccontextmanager
    async def serve(folder: Path, synced: bool = False) -> AsyncIterator[Server]:
        name = JAVA if zk else OURS
        # a root of its own: what a broker that was killed registered stays for a while
        config = Config(Setting(synced, 16), topics(), zk, f"/{folder.name}-{time.monotonic_ns()}" if zk else "")
        port, command = prepare(name, folder, config)
        async with serving(command, partial(serves, name, port, command.log)) as served:
            yield Server(f"127.0.0.1:{port}", (served,))
            if zk:
                served.process.kill()  # it takes seven seconds to stop in order, and nobody reads its folder again

    return serve


def all_systems(zk: str) -> tuple[System, ...]:
    """Return all, ours first. `zk`: the address of a ZooKeeper for the Java broker; "": there is none."""
    kafka = (
        Client("confluent-kafka", "with_confluent", "P1 P2 P3 P5 P6", module="confluent_kafka"),
        Client("aiokafka", "with_aiokafka", "P1 P2 P3 P5 P6", module="aiokafka"),
    )
    rabbitmq = (
        Client("rstream", "with_rstream", "P1 P2 P3 P5", module="rstream"),
        Client("aio-pika", "with_aio_pika", "P5", mode="classic", part=1, module="aio_pika"),
        Client("aio-pika quorum", "with_aio_pika", "P6", mode="quorum", part=1, module="aio_pika"),
    )
    own = (
        Client(OURS, "with_metaq", "P1 P2 P3 P5 P6"),
        Client(f"{OURS} plain", "with_metaq", "P1", mode="plain"),
        Client(f"{OURS} send_nowait", "with_metaq", "P3", mode="send_nowait"),
    )
    found = (
        System(OURS, own, ours(""), 10_000),
        System(
            "MetaQ (Java)", (Client(JAVA, "WithMetaq", "P1 P2 P3 P5 P6", java="metaq"),),
            ours(zk), 1024, java=True, shows_late=True,
        ),
        System("Kafka", kafka, servers.kafka, 10_000, java=True, makes_topics=True),
        System(
            "NATS JetStream", (Client("nats-py", "with_nats", "P1 P2 P3 P5 P6", module="nats"),),
            servers.nats, 10_000, makes_topics=True,
        ),
        System(
            "Redis Streams", (Client("redis-py", "with_redis", "P1 P2 P3 P5 P6", module="redis"),),
            servers.redis, 10_000,
        ),
        System("RabbitMQ", rabbitmq, servers.rabbitmq, 128, makes_topics=True),
        System(
            "RocketMQ", (Client("RocketMQ Java", "WithRocketmq", "P1 P2 P3 P5 P6", java="rocketmq"),),
            servers.rocketmq, 1024, java=True, makes_topics=True,
        ),
    )  # fmt: skip
    return tuple(each for each in found if zk or each.name != "MetaQ (Java)")


def compile_java(names: Sequence[str]) -> None:
    """Compile the drivers in Java of these folders. Raises RuntimeError with javac's words."""
    for name in names:
        path = jvm.class_path() if name == "metaq" else f"{BUILD}/{name}/lib/*"
        sources = [str(PEERS / "java" / f"{part}.java") for part in ("Work", f"With{name.capitalize()}")]
        words = ["javac", "-nowarn", "-cp", path, "-d", str(classes(name)), *sources]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"javac: {done.stderr[-300:]}")


def classes(name: str) -> Path:
    return BUILD / "classes" / name


def driver_words(client: Client, folder: Path) -> list[str]:
    """Return the command line of a driver, its own words left out."""
    if not client.java:
        return [sys.executable, "-m", "bench.peers.work", client.driver]
    libraries = jvm.class_path() if client.java == "metaq" else f"{BUILD}/{client.java}/lib/*"
    path = f"{classes(client.java)}:{libraries}"
    opened = ("--add-opens=java.base/java.nio=ALL-UNNAMED",)
    return ["java", "-Xmx1g", *opened, f"-Duser.home={folder}", "-cp", path, client.driver]
