"""The registry's shell: connections, rounds, the clock.

A round is what one turn of the loop brought. All of it is done in memory at once; then the log is asked to write what
changed. Rounds wait in one queue: what a round answers leaves when the log has written it and all before it, so that
nobody sees what a crash could take back. A round that changed nothing leaves at once if nobody waits before it.
"""

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from metaq.ports import Timer, World
from metaq.registry.changes import Log
from metaq.registry.clients import Client
from metaq.registry.connection import Connection
from metaq.registry.machine import Machine
from metaq.registry.options import RegistryOptions
from metaq.registry.state import State
from metaq.registry.words import Facts, Latency

log = logging.getLogger(__name__)

_BACKLOG: Final = 4096  # connections that wait to be accepted; what is beyond is dialled again a second later
_FAREWELL: Final = 1.0  # seconds that clients have at the end to read what they were sent


@dataclass(slots=True)
class _Round:
    """What a turn of the loop gave: (connection, what it is sent, what `Connection.wait` returned), and who goes."""

    began: float
    sends: list[tuple[Connection, bytes, int]]
    closes: list[Connection]
    written: bool


class Server:
    """Serves one state. State and log belong to somebody else, who closes the log after it.

    Connections are accepted between `listen` and `close`. `fail` is for whoever learns that the log cannot go on.
    """

    def __init__(self, state: State, changes: Log, world: World, options: RegistryOptions) -> None:
        self._changes = changes
        self._world = world
        self._options = options
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._machine = Machine(state, changes, world.random, options, self._moment())
        self._connections: dict[Client, Connection] = {}
        self._strangers: dict[Client, float] = {}  # without a session, and since when
        self._from: Counter[str] = Counter()
        self._rounds: deque[_Round] = deque()
        self._round_began: float | None = None
        self._moved: asyncio.Future[None] | None = None  # of the one who waits for the end
        self._listener: asyncio.AbstractServer | None = None
        self._over = False
        self._received = self._sent = 0
        self._latencies = [0, 0, 0, 0]  # of rounds in ms: least, most, sum, count
        self._timers: dict[str, Timer] = {}
        self._look_at_clock()  # that is a round: the epoch is written before anybody hears of it
        self._look_for_containers()

    async def listen(self, host: str | None, port: int) -> int:
        """Accept connections; return the port, which is a free one for 0. OSError if it is taken."""
        factory = self._connection
        self._listener = await self._world.network.listen(factory, host, port, backlog=_BACKLOG)
        sockets = getattr(self._listener, "sockets", None)
        return int(sockets[0].getsockname()[1]) if sockets else port

    async def close(self) -> None:
        """Accept no more, answer what was asked for, close all connections. Sessions live on for those back in time."""
        self._stop()
        for client in self._connections:
            client.closing = True
        try:
            await self._until(lambda: not self._rounds and self._round_began is None)
            for connection in list(self._connections.values()):
                connection.close()
            with suppress(TimeoutError):
                async with asyncio.timeout(_FAREWELL):
                    await self._until(lambda: not self._connections)
        finally:
            self.fail()

    def fail(self) -> None:
        """Cut off all connections; what was not answered stays so."""
        self._stop()
        self._over = True
        self._rounds.clear()
        for connection in list(self._connections.values()):
            connection.abort()
        self._wake()

    # for connections

    @property
    def max_packet(self) -> int:
        return self._options.max_packet

    def admit(self, connection: Connection) -> bool:
        """See `connection.Host`."""
        client = connection.client
        self._connections[client] = connection
        self._from[client.address] += 1
        if self._over:
            return False
        if self._from[client.address] > self._options.max_connections:
            log.warning("too many connections from %s, the limit is %d", client.address, self._options.max_connections)
            return False
        self._strangers[client] = self._loop.time()
        return True

    def arrived(self, connection: Connection, packets: list[bytes]) -> None:
        """See `connection.Host`."""
        if self._over:
            return
        if self._round_began is None:
            self._begin_round()
        self._received += len(packets)
        self._machine.receive(connection.client, packets)

    def left(self, connection: Connection) -> None:
        """See `connection.Host`."""
        client = connection.client
        self._machine.leave(client)
        self._strangers.pop(client, None)
        del self._connections[client]
        self._from[client.address] -= 1
        if not self._from[client.address]:
            del self._from[client.address]
        self._wake()

    def facts(self) -> Facts:
        """See `connection.Host`."""
        tree = self._machine.state.tree
        least, most, total, count = self._latencies
        return Facts(
            received=self._received,
            sent=self._sent,
            connections=len(self._connections),
            outstanding=len(self._rounds),
            zxid=self._machine.state.zxid,
            nodes=len(tree.nodes),
            watches=len(self._machine.watches),
            ephemerals=tree.ephemerals,
            data_size=lambda: sum(len(path) + len(node.data or b"") for path, node in tree.nodes.items()),
            sessions=len(self._machine.sessions),
            uptime=round((self._loop.time() - self._began) * 1000),
            latency=Latency(least, total / max(count, 1), most),
        )

    def _connection(self) -> Connection:
        return Connection(self)

    # rounds

    def _begin_round(self) -> None:
        self._round_began = self._loop.time()
        self._machine.tell(*self._moment())
        self._loop.call_soon(self._end_round)

    def _end_round(self) -> None:
        if self._over or self._round_began is None:
            return
        clients, changed = self._machine.take()
        round_ = _Round(self._round_began, [], [], not changed)
        self._round_began = None
        for client in clients:
            connection = self._connections.get(client)
            if connection is None:
                continue
            outputs, client.outputs = client.outputs, []
            self._sent += len(outputs)
            round_.sends.append((connection, b"".join(outputs), connection.wait()))
            if client.closing:
                round_.closes.append(connection)
        if changed:
            self._rounds.append(round_)
            self._changes.commit(self._written)
        elif self._rounds:
            self._rounds.append(round_)
        else:
            self._send(round_)

    def _written(self) -> None:
        """The log has written the first round that waits; those behind it that changed nothing waited for it only."""
        if self._over:
            return
        self._send(self._rounds.popleft())
        while self._rounds and self._rounds[0].written:
            self._send(self._rounds.popleft())

    def _send(self, round_: _Round) -> None:
        for connection, data, gathered in round_.sends:
            if not connection.client.dropped:
                connection.send(data, gathered)
        for connection in round_.closes:
            if connection.client not in self._connections:
                continue
            if connection.client.dropped:
                connection.abort()
            else:
                self._strangers[connection.client] = self._loop.time()  # it has to read what it was sent
                connection.close()
        if round_.sends:
            self._count(round(1000 * (self._loop.time() - round_.began)))
        self._wake()

    def _count(self, latency: int) -> None:
        least, most, total, count = self._latencies
        self._latencies = [min(least, latency) if count else latency, max(most, latency), total + latency, count + 1]

    # the clock

    def _moment(self) -> tuple[int, int]:
        """Return what `Machine.tell` takes."""
        return int(self._world.clock.monotonic() * 1000), int(self._world.clock.time() * 1000)

    def _look_at_clock(self) -> None:
        """Once a tick: sessions may be over, strangers may be silent for too long."""
        self._timers["clock"] = self._loop.call_later(self._options.tick / 1000, self._look_at_clock)
        if self._round_began is None:
            self._begin_round()
        self._machine.expire()
        latest = self._loop.time() - self._options.greeting_time
        for client, since in list(self._strangers.items()):
            if client.session is not None:
                del self._strangers[client]
            elif since < latest:
                log.info("%s has no session and is closed", client)
                self._connections[client].abort()

    def _look_for_containers(self) -> None:
        self._timers["containers"] = self._loop.call_later(self._options.container_interval, self._look_for_containers)
        if self._round_began is None:
            self._begin_round()
        self._machine.remove_containers()

    # the end

    def _stop(self) -> None:
        if self._listener is not None:
            self._listener.close()
        for timer in self._timers.values():
            timer.cancel()

    async def _until(self, condition: Callable[[], bool]) -> None:
        """Wait for something, or for a failure."""
        while not condition() and not self._over:
            self._moved = self._loop.create_future()
            await self._moved

    def _wake(self) -> None:
        if self._moved is not None and not self._moved.done():
            self._moved.set_result(None)
