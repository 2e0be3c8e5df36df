"""A broker that does what a test tells it, over real sockets and the real codec.

Left alone it behaves: it stores puts in memory and answers get, offset, stats and version as 1.4.6.2 does, and, with
`extensions`, as one of ours. `next` and `always` make it misbehave for the next, or for every, command of one kind.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Protocol, Self, TypeAlias, runtime_checkable

from metaq.model import BrokerAddress, TopicPartition
from metaq.net.streams import Streams
from metaq.ports import Network
from metaq.protocol import encoder
from metaq.protocol.commands import Command, Get, Mput, Offset, Put, Quit, Result, Stats, Value, Version
from metaq.protocol.decoder import Decoder
from metaq.record import pack, validate, walk

LATEST = (1 << 63) - 1
REMEMBERED = 5  # batches of each producer in each partition
OURS = ("mput", "wait", "mget")  # the extensions of our brokers
LONGEST = 60_000  # ms that a get may wait


@runtime_checkable
class Wire(Protocol):
    """The part of a transport a peer needs; uvloop's are no asyncio.Transport by inheritance."""

    def write(self, data: bytes, /) -> None: ...
    def close(self) -> None: ...
    def abort(self) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...


class Socket(Protocol):
    def getsockname(self) -> tuple[str, int]: ...


@runtime_checkable
class HasSockets(Protocol):
    """A server that tells where it listens."""

    @property
    def sockets(self) -> Sequence[Socket]: ...


class Peer(asyncio.Protocol):
    """One accepted connection."""

    def __init__(self, broker: "FakeBroker") -> None:
        self.broker = broker
        self.decoder = Decoder()
        self.transport: Wire
        self.offered: tuple[str, ...] = ()  # the extensions it was told of

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, Wire)
        self.transport = transport
        self.broker.peers.append(self)
        self.broker.accepted += 1
        if self.broker.is_mute:
            self.transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self.broker.peers.remove(self)
        self.broker.forget(self)

    def data_received(self, data: bytes) -> None:
        self.broker.reads += 1
        for command in self.decoder.feed(data):
            self.broker.received.append(command)
            self.broker.act(self, command)

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.transport.write(data)


Act: TypeAlias = Callable[[Peer, Command], None]


class FakeBroker:
    """One broker with `partitions` of every topic; it keeps what it was sent in `received`, messages in `logs`."""

    def __init__(
        self,
        broker_id: int = 0,
        *,
        partitions: int = 2,
        version: str = "1.4.6.2",
        network: Network | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.broker_id = broker_id
        self.partitions = partitions
        self.version = version
        self.is_slave = False
        self.is_mute = False  # accepts connections and reads nothing
        self.max_transfer = 1 << 20
        self.logs: dict[TopicPartition, bytearray] = defaultdict(bytearray)
        self.bases: dict[TopicPartition, int] = defaultdict(int)
        self.closed: set[TopicPartition] = set()
        self.received: list[Command] = []
        self.waiting: list[tuple[Peer, Command]] = []  # what `held` keeps
        self.peers: list[Peer] = []
        self.accepted = 0
        self.reads = 0  # pieces of data received
        self.host = host
        self.port = port
        self.extensions: tuple[str, ...] = ()  # what it says that it offers, OURS or some of them
        self.polls: dict[tuple[Peer, Get], asyncio.TimerHandle] = {}  # what waits for a message, and until when
        self.producers: dict[tuple[TopicPartition, int], list[tuple[Mput, bytes]]] = {}  # batches and answers
        self._ids = 0
        self._once: dict[type, list[Act]] = defaultdict(list)
        self._always: dict[type, Act] = {}
        self._network = network
        self._server: asyncio.AbstractServer | None = None

    # running

    @property
    def address(self) -> BrokerAddress:
        return BrokerAddress(self.host, self.port)

    @property
    def url(self) -> str:
        return f"metaq://{self.host}:{self.port}"

    async def start(self) -> Self:
        """Listen, on the same port as before if there was one."""
        network = Streams() if self._network is None else self._network
        self._server = await network.listen(lambda: Peer(self), self.host, self.port)
        assert isinstance(self._server, HasSockets)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def stop(self) -> None:
        """Refuse connections and drop those there are."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.drop_all()
        while self.peers:
            await asyncio.sleep(0)

    def drop_all(self) -> None:
        """Cut every connection."""
        for peer in list(self.peers):
            peer.transport.abort()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    # scripting

    def next(self, kind: type, *acts: Act) -> None:
        """Treat the next commands of this kind so, one act each."""
        self._once[kind].extend(acts)

    def always(self, kind: type, act: Act) -> None:
        """Treat all commands of this kind so."""
        self._always[kind] = act

    def of(self, kind: type) -> list[Command]:
        """Return the commands of one kind that were received."""
        return [command for command in self.received if isinstance(command, kind)]

    def act(self, peer: Peer, command: Command) -> None:
        """Do what the script says, or behave."""
        once = self._once[type(command)]
        act = once.pop(0) if once else self._always.get(type(command), behave)
        act(peer, command)

    # behaving

    def append(self, target: TopicPartition, flag: int, body: bytes) -> tuple[int, int]:
        """Store a message; return its id and offset."""
        self._ids += 1
        log = self.logs[target]
        offset = self.bases[target] + len(log)
        log += pack(self._ids, flag, body)
        for peer, command in [poll for poll in self.polls if poll[1].target == target]:
            self._answer(peer, command)
        return self._ids, offset

    def put(self, command: Put) -> bytes:
        topic, number = command.target
        target = TopicPartition(topic, number if number >= 0 else self._ids % self.partitions)
        if command.target in self.closed or target in self.closed:
            return encoder.result(403, f"partition[{self.broker_id}-{number}] has been closed", command.opaque)
        if target.partition >= self.partitions:
            return encoder.result(500, f"wrong partition {number}", command.opaque)
        id, offset = self.append(target, command.flag, command.body)
        return encoder.put_reply(id, target.partition, offset, command.opaque)

    def mput(self, command: Mput) -> bytes:
        """Store a batch once, as protocol.md §9 says; return the answer."""
        target, records, count, producer, epoch, sequence, opaque = command
        key = (target, producer)
        sent = self.producers.get(key, [])
        for before, answer in sent:
            if before[4:6] == (epoch, sequence):
                assert before[1:3] == (records, count)
                return encoder.result(200, answer.decode(), opaque)
        last = sent[-1][0] if sent else None
        wanted = (last.epoch, last.sequence + 1) if last else (0, 0)
        if (sequence and (epoch, sequence) != wanted) or (last and epoch < last.epoch):
            return encoder.result(409, f"{wanted[0]} {wanted[1]} would be next", opaque)
        if target in self.closed:
            return encoder.result(403, f"partition[{self.broker_id}-{target.partition}] has been closed", opaque)
        if not 0 <= target.partition < self.partitions:
            return encoder.result(500, f"wrong partition {target.partition}", opaque)
        assert validate(records) == count
        places = [self.append(target, record.flag, record.body) for record in walk(records)]
        answer = b"%d %d %d" % (places[0][0], target.partition, places[0][1])
        self.producers[key] = [*sent, (command, answer)][-REMEMBERED:]
        return encoder.result(200, answer.decode(), opaque)

    def knows(self, command: Mput) -> bool:
        """Say whether the producer of a batch has stored any in its partition."""
        return (command.target, command.producer) in self.producers

    def get(self, command: Get) -> bytes:
        if command.target not in self.logs:
            return encoder.result(404, "no such partition", command.opaque)
        first, log = self.bases[command.target], self.logs[command.target]
        at = command.offset - first
        if at < 0 or command.offset == LATEST:
            return encoder.result(301, str(first if at < 0 else first + len(log)), command.opaque)
        if at >= len(log):
            return encoder.result(404, f"Could not find message at position {command.offset}", command.opaque)
        data = bytes(log[at : at + min(command.max_size, self.max_transfer)])
        return encoder.encode(Value(data, command.opaque))

    def wait(self, peer: Peer, command: Get) -> bool:
        """Keep a get that waits (protocol.md §9) until something is there or its time is up; False: it need not."""
        end = self.bases[command.target] + len(self.logs.get(command.target, b""))
        if command.wait <= 0 or command.offset != end or command.target.partition >= self.partitions:
            return False
        loop = asyncio.get_running_loop()
        seconds = min(command.wait, LONGEST) / 1000
        self.polls[peer, command] = loop.call_later(seconds, self._answer, peer, command)
        return True

    def _answer(self, peer: Peer, command: Get) -> None:
        """Answer a get that waited with what there is now."""
        self.polls.pop((peer, command)).cancel()
        peer.send(self.get(command))

    def forget(self, peer: Peer) -> None:
        """Drop what waits for a connection that is over."""
        for poll in [poll for poll in self.polls if poll[0] is peer]:
            self.polls.pop(poll).cancel()

    def offset(self, command: Offset) -> bytes:
        if command.target not in self.logs:
            return encoder.result(404, "no such partition", command.opaque)
        first = self.bases[command.target]
        end = first + len(self.logs[command.target])
        return encoder.result(200, str(end if command.offset >= end else first), command.opaque)

    def stats(self, command: Stats) -> bytes:
        lines: list[str] = []
        if command.item == "config":
            text = f"[system]\nbrokerId={self.broker_id}\nnumPartitions={self.partitions}\n"
            text += "[topic=t]\n[zookeeper]\nzk.zkEnable=false\n"
            return encoder.result(200, text, command.opaque)
        if command.item == "":
            lines = [f"broker_id {self.broker_id}", f"slave {str(self.is_slave).lower()}"]
        elif command.item == "offsets":
            for (topic, number), log in self.logs.items():
                first = self.bases[TopicPartition(topic, number)]
                lines.append(f"{topic} part {number} min_offset {first} max_offset {first + len(log)}")
        return encoder.result(200, "\r\n".join(["STATS", *lines, "END", ""]), command.opaque)


async def until(condition: Callable[[], object], timeout: float = 20.0) -> None:
    """Return once the condition holds; fail after `timeout` seconds."""
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.002)


def behave(peer: Peer, command: Command) -> None:
    """Answer as a broker does."""
    broker = peer.broker
    match command:
        case Put():
            peer.send(broker.put(command))
        case Mput():
            assert "mput" in peer.offered
            peer.send(broker.mput(command))
        case Get():
            assert not command.wait or "wait" in peer.offered
            if not broker.wait(peer, command):
                peer.send(broker.get(command))
        case Offset():
            peer.send(broker.offset(command))
        case Stats():
            peer.send(broker.stats(command))
        case Version():
            words = ("metaq/2", *broker.extensions) if broker.extensions and command.extensions else ()
            peer.offered += words
            peer.send(encoder.result(200, " ".join((broker.version, *words)), command.opaque))
        case _:
            raise AssertionError(f"nobody should send {command}")


def silence(peer: Peer, command: Command) -> None:
    """Never answer."""


def garbage(peer: Peer, command: Command) -> None:
    """Answer with bytes that are no reply."""
    peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def hang_up(peer: Peer, command: Command) -> None:
    """Close instead of answering."""
    peer.transport.abort()


def half_frame(peer: Peer, command: Command) -> None:
    """Close in the middle of the answer."""
    peer.send(b"result 200 100 1\r\nabc")
    peer.transport.close()


def wrong_opaque(peer: Peer, command: Command) -> None:
    """Answer somebody else's question, then this one."""
    peer.send(encoder.encode(Result(200, b"1 2 3", 123456789)))
    behave(peer, command)


def status(code: int, text: str) -> Act:
    """Answer with a status."""

    def act(peer: Peer, command: Command) -> None:
        assert not isinstance(command, Quit)
        peer.send(encoder.result(code, text, command.opaque))

    return act


def held(peer: Peer, command: Command) -> None:
    """Behave, but only once the test says so by calling `release`."""
    peer.broker.waiting.append((peer, command))


def release(broker: FakeBroker) -> int:
    """Answer what was held; return how many that were."""
    waiting, broker.waiting = broker.waiting, []
    for peer, command in waiting:
        behave(peer, command)
    return len(waiting)
