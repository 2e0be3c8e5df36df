"""The servers of the peers, as they are installed, each in a folder that is removed afterwards."""

import asyncio
import importlib.util
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Protocol

from bench.loads import BUILD
from bench.processes import Command, ServerFailed, accepts, serving
from tests.interop import jvm

PEERS: Final = Path(__file__).parent / "peers"
KAFKA_JARS: Final = BUILD / "kafka" / "lib"
RABBITMQ: Final = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
KAFKA: Final = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{other}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{other}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
log.dirs={folder}/data
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
"""
KAFKA_LOG: Final = """\
log4j.rootLogger=WARN,out
log4j.appender.out=org.apache.log4j.ConsoleAppender
log4j.appender.out.layout=org.apache.log4j.SimpleLayout
"""
# those of bin/kafka-server-start.sh and kafka-run-class.sh
KAFKA_FLAGS: Final = (
    "-Xmx1G", "-Xms1G", "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35", "-XX:+ExplicitGCInvokesConcurrent", "-Djava.awt.headless=true",
)  # fmt: skip
RABBITMQ_CONFIG: Final = """\
listeners.tcp.1 = 127.0.0.1:{other}
stream.listeners.tcp.1 = 127.0.0.1:{port}
stream.advertised_host = 127.0.0.1
stream.advertised_port = {port}
"""


class Serve(Protocol):
    """Starts a server in an empty folder; yields its address."""

    def __call__(self, folder: Path) -> AbstractAsyncContextManager[str]: ...


@dataclass(frozen=True, slots=True)
class Peer:
    """A client to compare with: its driver `bench.peers.<driver>`, its server, what both need."""

    name: str
    driver: str
    serve: Serve
    module: str
    packages: tuple[str, ...]  # of Python, for the versions
    tuned: bool = False

    def missing(self) -> str:
        """Return what of it is not installed; "" if nothing is. Fetches the jars of Kafka if that can be done."""
        if importlib.util.find_spec(self.module) is None:
            return f"no Python module {self.module}"
        if self.serve is redis and shutil.which("redis-server") is None:
            return "no redis-server"
        if self.serve is rabbitmq and not RABBITMQ.exists():
            return "no rabbitmq-server"
        if self.serve is kafka and not fetch_kafka():
            return "no Kafka: Maven cannot fetch it"
        return ""

    def server_version(self) -> str:
        """Return name and version of its server."""
        if self.serve is kafka:
            jar = next(iter(KAFKA_JARS.glob("kafka_*.jar")), None)
            return "" if jar is None else f"Kafka {jar.stem.rpartition('-')[2]}"
        package = "redis-server" if self.serve is redis else "rabbitmq-server"
        words = ["dpkg-query", "-W", "-f", "${Version}", package]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        return f"{package} {done.stdout.strip() or 'of unknown version'}"


def fetch_kafka() -> bool:
    """Return whether the jars of Kafka are there, after an attempt to have Maven fetch them."""
    if not list(KAFKA_JARS.glob("kafka_*.jar")):
        maven = shutil.which("mvn")
        if maven is None:
            return False
        output = f"-DoutputDirectory={KAFKA_JARS}"
        words = [maven, "-B", "-ntp", "-q", "-f", str(PEERS / "kafka-pom.xml"), "dependency:copy-dependencies", output]
        return subprocess.run(words, stdout=subprocess.DEVNULL, check=False).returncode == 0
    return True


@asynccontextmanager
async def redis(folder: Path) -> AsyncIterator[str]:
    port = jvm.free_port()
    words = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--appendonly", "yes"]
    async with serving(Command("redis", words, folder), partial(accepts, port, b"PING\r\n", b"+PONG")):
        yield f"127.0.0.1:{port}"


@asynccontextmanager
async def rabbitmq(folder: Path) -> AsyncIterator[str]:
    port, other, between, names = (jvm.free_port() for _ in range(4))
    (folder / "rabbitmq.conf").write_text(RABBITMQ_CONFIG.format(port=port, other=other))
    (folder / "plugins").write_text("[rabbitmq_stream].\n")
    environment = {
        "HOME": str(folder),
        "RABBITMQ_NODENAME": f"bench{port}@localhost",
        "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
        "RABBITMQ_LOG_BASE": str(folder),
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        "RABBITMQ_DIST_PORT": str(between),
        "RABBITMQ_PID_FILE": str(folder / "pid"),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "ERL_EPMD_PORT": str(names),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
    }
    (folder / "epmd").mkdir()  # without one of its own it would start one that stays
    epmd = Command("epmd", ["epmd", "-port", str(names), "-address", "127.0.0.1"], folder / "epmd")
    command = Command("rabbitmq", [str(RABBITMQ)], folder, environment)
    async with serving(epmd, partial(accepts, names)), serving(command, partial(accepts, port)):
        yield f"127.0.0.1:{port}"


@asynccontextmanager
async def kafka(folder: Path) -> AsyncIterator[str]:
    port, other = jvm.free_port(), jvm.free_port()
    config, log4j = folder / "kafka.properties", folder / "log4j.properties"
    config.write_text(KAFKA.format(port=port, other=other, folder=folder))
    log4j.write_text(KAFKA_LOG)
    java = ["java", *KAFKA_FLAGS, f"-Dlog4j.configuration=file:{log4j}", "-cp", f"{KAFKA_JARS}/*"]
    format_it = ["kafka.tools.StorageTool", "format", "-t", "MkU3OEVBNTcwNTJENDM2Qg", "-c", str(config)]
    done = await asyncio.create_subprocess_exec(*java, *format_it, stdout=subprocess.DEVNULL)
    if await done.wait():
        raise ServerFailed("Kafka cannot format its folder")
    async with serving(Command("kafka", [*java, "kafka.Kafka", str(config)], folder), partial(accepts, port)):
        yield f"127.0.0.1:{port}"


CLIENTS: Final = (
    Peer("redis-py", "redis_streams", redis, "redis", ("redis", "hiredis")),
    Peer("rstream", "rabbitmq_streams", rabbitmq, "rstream", ("rstream",)),
    Peer("aiokafka", "kafka_aio", kafka, "aiokafka", ("aiokafka",)),
    Peer("confluent-kafka", "kafka_confluent", kafka, "confluent_kafka", ("confluent-kafka",)),
    Peer("confluent-kafka tuned", "kafka_confluent", kafka, "confluent_kafka", ("confluent-kafka",), tuned=True),
)
