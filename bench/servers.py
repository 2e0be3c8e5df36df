"""The servers of the peers, as they are installed, each in a folder that is removed afterwards."""

import asyncio
import functools
import importlib.util
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Protocol

from bench.loads import BUILD
from bench.processes import Command, Served, ServerFailed, accepts, serving
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
NATS: Final = "github.com/nats-io/nats-server/v2@v2.15.2"
PATIENCE_OF_GO: Final = 400.0  # seconds
NATS_CONFIG: Final = """\
host: 127.0.0.1
port: {port}
jetstream {{
  store_dir: "{folder}"
  max_file_store: 40GB
  {sync}
}}
"""
ROCKETMQ_MAIN: Final = "org.apache.rocketmq"
ROCKETMQ: Final = """\
brokerName=bench
brokerId=0
brokerIP1=127.0.0.1
listenPort={port}
namesrvAddr=127.0.0.1:{names}
storePathRootDir={folder}/store
storePathCommitLog={folder}/store/commitlog
flushDiskType={disk}
brokerRole=ASYNC_MASTER
sendMessageThreadPoolNums=4
waitTimeMillsInSendQueue=2000
"""
ROCKETMQ_FLAGS: Final = (
    "-XX:+UseG1GC", "--add-opens=java.base/java.nio=ALL-UNNAMED",
    "--add-exports=java.base/jdk.internal.ref=ALL-UNNAMED", "--add-exports=java.base/sun.nio.ch=ALL-UNNAMED",
    "--add-opens=java.base/sun.nio.ch=ALL-UNNAMED",
)  # fmt: skip
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


@dataclass(frozen=True, slots=True)
class Server:
    """A server that answers at `address`, and its processes, the chief one last."""

    address: str
    processes: tuple[Served, ...]

    @property
    def seconds(self) -> float:
        """How long the processes took to start, one after the other."""
        return sum(each.seconds for each in self.processes)

    def memory(self) -> float:
        """Return the resident memory of all, with what they started, in MiB."""
        return sum(each.memory_of_all() for each in self.processes)


class Serve(Protocol):
    """Starts a server in an empty folder. `synced`: it answers when a message is on disk, as far as it can do that."""

    def __call__(self, folder: Path, synced: bool = False) -> AbstractAsyncContextManager[Server]: ...


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
        if self.serve is kafka and not fetch("kafka"):
            return "no Kafka: Maven cannot fetch it"
        if self.serve is nats and nats_server() is None:
            return "no nats-server: neither in PATH nor can Go fetch it"
        return ""

    def server_version(self) -> str:
        """Return name and version of its server."""
        return version_of(self.serve)


def version_of(serve: Serve) -> str:
    """Return name and version of a server, "" of ours."""
    if serve is kafka:
        return jar_version("kafka", "Kafka", "kafka_*.jar")
    if serve is rocketmq:
        return jar_version("rocketmq", "RocketMQ", "rocketmq-broker-*.jar")
    if serve is nats:
        done = subprocess.run([nats_server() or "nats-server", "-v"], capture_output=True, text=True, check=False)
        return done.stdout.strip().replace(": v", " ")
    if serve is not redis and serve is not rabbitmq:
        return ""
    package = "redis-server" if serve is redis else "rabbitmq-server"
    words = ["dpkg-query", "-W", "-f", "${Version}", package]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return f"{package} {done.stdout.strip() or 'of unknown version'}"


def jar_version(folder: str, name: str, pattern: str) -> str:
    jar = next(iter((BUILD / folder / "lib").glob(pattern)), None)
    return "" if jar is None else f"{name} {jar.stem.rpartition('-')[2]}"


def fetch(name: str) -> bool:
    """Return whether the jars of a server are there, after an attempt to have Maven fetch them."""
    place = BUILD / name / "lib"
    if not list(place.glob("*.jar")):
        maven = shutil.which("mvn")
        if maven is None:
            return False
        pom = str(PEERS / f"{name}-pom.xml")
        words = [maven, "-B", "-ntp", "-q", "-f", pom, "dependency:copy-dependencies", f"-DoutputDirectory={place}"]
        return subprocess.run(words, stdout=subprocess.DEVNULL, check=False).returncode == 0
    return True


@functools.cache
def nats_server() -> str | None:
    """Return where nats-server is: built by Go, or the one of the system; None: neither can be had."""
    built = BUILD / "bin" / "nats-server"
    go = shutil.which("go") or shutil.which("/usr/local/go/bin/go")
    if not built.exists() and go is not None:
        built.parent.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "GOBIN": str(built.parent)}
        with suppress(subprocess.TimeoutExpired):
            subprocess.run([go, "install", NATS], check=False, env=environment, timeout=PATIENCE_OF_GO)
    return str(built) if built.exists() else shutil.which("nats-server")


@asynccontextmanager
async def redis(folder: Path, synced: bool = False) -> AsyncIterator[Server]:
    port = jvm.free_port()
    how = "always" if synced else "everysec"
    words = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""]
    command = Command("redis", [*words, "--appendonly", "yes", "--appendfsync", how], folder)
    async with serving(command, partial(accepts, port, b"PING\r\n", b"+PONG")) as served:
        yield Server(f"127.0.0.1:{port}", (served,))


@asynccontextmanager
async def nats(folder: Path, synced: bool = False) -> AsyncIterator[Server]:
    port = jvm.free_port()
    config = folder / "nats.conf"
    config.write_text(NATS_CONFIG.format(port=port, folder=folder, sync="sync_interval: always" if synced else ""))
    command = Command("nats", [nats_server() or "nats-server", "-c", str(config)], folder)
    async with serving(command, partial(accepts, port, b"CONNECT {}\r\nPING\r\n", b"INFO")) as served:
        yield Server(f"127.0.0.1:{port}", (served,))


@asynccontextmanager
async def rocketmq(folder: Path, synced: bool = False) -> AsyncIterator[Server]:
    names, port = jvm.free_port(), jvm.free_port()
    environment = {"ROCKETMQ_HOME": str(folder)}
    (folder / "names").mkdir()
    config, names_config = folder / "broker.conf", folder / "names.conf"
    disk = "SYNC_FLUSH" if synced else "ASYNC_FLUSH"
    config.write_text(ROCKETMQ.format(names=names, port=port, folder=folder, disk=disk))
    names_config.write_text(f"listenPort={names}\n")

    def command(part: str, heap: str, main: str, config: Path, home: Path) -> Command:
        memory = [f"-Xms{heap}", f"-Xmx{heap}"]
        words = ["java", *memory, *ROCKETMQ_FLAGS, f"-Duser.home={folder}", f"-Drocketmq.home.dir={folder}"]
        return Command(part, [*words, "-cp", f"{BUILD}/rocketmq/lib/*", main, "-c", str(config)], home, environment)

    namesrv = command("namesrv", "256m", f"{ROCKETMQ_MAIN}.namesrv.NamesrvStartup", names_config, folder / "names")
    broker = command("rocketmq", "1G", f"{ROCKETMQ_MAIN}.broker.BrokerStartup", config, folder)
    async with serving(namesrv, partial(accepts, names)) as first, serving(broker, partial(accepts, port)) as second:
        yield Server(f"127.0.0.1:{names},127.0.0.1:{port}", (first, second))


@asynccontextmanager
async def rabbitmq(folder: Path, synced: bool = False) -> AsyncIterator[Server]:  # synced: the kind of queue says it
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
    async with serving(epmd, partial(accepts, names)) as first, serving(command, partial(accepts, port)) as second:
        yield Server(f"127.0.0.1:{port},127.0.0.1:{other}", (first, second))


@asynccontextmanager
async def kafka(folder: Path, synced: bool = False) -> AsyncIterator[Server]:
    port, other = jvm.free_port(), jvm.free_port()
    config, log4j = folder / "kafka.properties", folder / "log4j.properties"
    text = KAFKA.format(port=port, other=other, folder=folder)
    config.write_text(text + "log.flush.interval.messages=1\n" * synced)
    log4j.write_text(KAFKA_LOG)
    java = ["java", *KAFKA_FLAGS, f"-Dlog4j.configuration=file:{log4j}", "-cp", f"{KAFKA_JARS}/*"]
    format_it = ["kafka.tools.StorageTool", "format", "-t", "MkU3OEVBNTcwNTJENDM2Qg", "-c", str(config)]
    done = await asyncio.create_subprocess_exec(*java, *format_it, stdout=subprocess.DEVNULL)
    if await done.wait():
        raise ServerFailed("Kafka cannot format its folder")
    command = Command("kafka", [*java, "kafka.Kafka", str(config)], folder)
    async with serving(command, partial(accepts, port)) as served:
        yield Server(f"127.0.0.1:{port}", (served,))


CLIENTS: Final = (
    Peer("redis-py", "redis_streams", redis, "redis", ("redis", "hiredis")),
    Peer("rstream", "rabbitmq_streams", rabbitmq, "rstream", ("rstream",)),
    Peer("aiokafka", "kafka_aio", kafka, "aiokafka", ("aiokafka",)),
    Peer("confluent-kafka", "kafka_confluent", kafka, "confluent_kafka", ("confluent-kafka",)),
    Peer("confluent-kafka tuned", "kafka_confluent", kafka, "confluent_kafka", ("confluent-kafka",), tuned=True),
)
