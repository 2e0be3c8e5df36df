"""A network in memory that delays, splits, cuts and parts, all drawn from one seed."""

import asyncio
import errno
import os
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Final, Self

from .loop import PowerLoss, SimLoop
from .wire import Pipe, SimTransport

HERE: Final = "127.0.0.1"
_LOOPBACK: Final = frozenset({HERE, "localhost", "::1"})
_ANY: Final = frozenset({None, "", "0.0.0.0", "::"})
DIAL_LIMIT: Final = 127.0  # seconds until the system gives up dialling a host that is silent (Linux, 6 retries)


@dataclass(frozen=True, slots=True)
class SimSocket:
    """What `asyncio.Server.sockets` holds, as far as anybody asks."""

    address: tuple[str, int]

    def getsockname(self) -> tuple[str, int]:
        return self.address


class _Link:
    """A connection: the end that dialled, the end that listened, the ways between."""

    def __init__(self, network: "SimNetwork", near: tuple[str, int], far: tuple[str, int]) -> None:
        self.near = SimTransport(network, near, far)
        self.far = SimTransport(network, far, near)
        self.ends = (self.near, self.far)
        self.ways = (Pipe(network, self.near, self.far), Pipe(network, self.far, self.near))
        self.near.join(*self.ways)
        self.far.join(*reversed(self.ways))

    @property
    def delivered(self) -> int:
        return sum(way.delivered for way in self.ways)

    def joins(self, host: str | None, other: str | None) -> bool:
        names = {None, self.near.local[0], self.far.local[0]}
        return host in names and other in names and (host is None or host != other or len(names) == 2)


class SimServer(asyncio.AbstractServer):
    """A listening port. As in Python 3.12, `wait_closed` waits for the connections too."""

    def __init__(
        self, network: "SimNetwork", address: tuple[str, int], factory: Callable[[], asyncio.Protocol]
    ) -> None:
        self._network = network
        self._address = address
        self._serving = True
        self._factory = factory
        self._waiters: list[asyncio.Future[None]] = []
        self._accepted = 0  # connections that are not over

    @property
    def sockets(self) -> tuple[SimSocket, ...]:
        return (SimSocket(self._address),) if self._serving else ()

    def close(self) -> None:
        """Accept no more; the connections stay."""
        if self._serving:
            self._serving = False
            self._network.unbind(self._address)
            self._wake()

    async def wait_closed(self) -> None:
        while self._accepted or self._serving:
            waiter = self._network.loop.create_future()
            self._waiters.append(waiter)
            await waiter

    def accept(self, end: SimTransport) -> None:
        """Hand a connection to a new protocol."""
        self._accepted += 1
        if self._serving:
            end.start(self._factory())
        else:
            end.abort()

    def over(self) -> None:
        """One accepted connection is over."""
        self._accepted -= 1
        self._wake()

    def _wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()

    def get_loop(self) -> SimLoop:
        return self._network.loop

    def is_serving(self) -> bool:
        return self._serving

    async def start_serving(self) -> None: ...

    async def serve_forever(self) -> None:
        try:
            await self._network.loop.create_future()
        finally:
            self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.close()
        await self.wait_closed()


class SimHost:
    """The network as one process on a host sees it: `ports.Network`. PowerLoss once the process is `dead`."""

    def __init__(self, network: "SimNetwork", name: str) -> None:
        self._network = network
        self.name = name
        self.dead = False

    async def listen(
        self, factory: Callable[[], asyncio.Protocol], host: str | None, port: int, *, backlog: int = 1000
    ) -> SimServer:
        """Accept connections for `host`, which must be this one, a loopback name or any (all mean this one)."""
        self._live()
        if host not in _ANY and self._resolve(host or "") != self.name:
            raise OSError(errno.EADDRNOTAVAIL, f"{host} is no address of {self.name}")
        return self._network.bind(self.name, port, factory)

    async def connect(self, factory: Callable[[], asyncio.Protocol], host: str, port: int) -> SimTransport:
        """Dial as `ports.Network`: refused where nobody listens, TimeoutError after DIAL_LIMIT where all is silent."""
        self._live()
        return await self._network.dial(self, (self._resolve(host), port), factory)

    def end(self) -> None:
        """The process is gone: it dials and listens no more."""
        self.dead = True

    def _live(self) -> None:
        if self.dead:
            raise PowerLoss(f"a process of {self.name} uses the network")

    def _resolve(self, host: str) -> str:
        return self.name if host in _LOOPBACK else host


class SimNetwork:
    """All hosts and what lies between them. Itself a `ports.Network`: the one of the host 127.0.0.1.

    `lag` is (least, most) seconds for one way; one delivery in a hundred takes ten times as long. `trace` holds the
    last events, `delivered` the bytes that arrived so far.
    """

    def __init__(self, loop: SimLoop, random: Random, *, lag: tuple[float, float] = (0.0001, 0.005)) -> None:
        self.loop = loop
        self.lag = lag
        self.trace: deque[str] = deque(maxlen=10_000)
        self.dialled = 0  # connections that came about
        self._random = random
        self._servers: dict[tuple[str, int], SimServer] = {}
        self._links: dict[_Link, None] = {}  # in the order they came about
        self._blocked: set[tuple[str, str]] = set()  # (source, target)
        self._down: set[str] = set()
        self._delivered_before = 0  # by connections that are over
        self._next_port = 20_000
        self._here = SimHost(self, HERE)

    async def listen(
        self, factory: Callable[[], asyncio.Protocol], host: str | None, port: int, *, backlog: int = 1000
    ) -> SimServer:
        return await self._here.listen(factory, host, port, backlog=backlog)

    async def connect(self, factory: Callable[[], asyncio.Protocol], host: str, port: int) -> SimTransport:
        return await self._here.connect(factory, host, port)

    def host(self, name: str) -> SimHost:
        """Return the network as the host of this name, which is also its address, sees it."""
        return SimHost(self, name)

    @property
    def delivered(self) -> int:
        return self._delivered_before + sum(link.delivered for link in self._links)

    @property
    def connections(self) -> list[tuple[tuple[str, int], tuple[str, int]]]:
        """The connections that stand: (dialling address, listening address) of each, oldest first."""
        return [(link.near.local, link.far.local) for link in self._links]

    # Bad days

    def cut(self, host: str | None = None, other: str | None = None) -> int:
        """Cut all connections, those of one host, or those between two; return how many.

        Nothing that is on its way arrives; each end hears of it (ConnectionResetError) in its own time.
        """
        links = [link for link in self._links if link.joins(host, other)]
        for link in links:
            self.note(f"cut {link.near.local} {link.far.local}")
            for way in link.ways:
                way.cut()
            for end in link.ends:
                error = ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
                self.loop.call_later(self.delay(), end.lose_silently, error)
        return len(links)

    def part(self, host: str, other: str, *, one_way: bool = False) -> None:
        """Let nothing through from `host` to `other`, nor back unless `one_way`. Bytes wait, as TCP sends again.

        Who has bytes under way for RESEND_LIMIT seconds loses the connection (TimeoutError).
        """
        self.note(f"part {host} {other}{' one way' if one_way else ''}")
        self._blocked.add((host, other))
        if not one_way:
            self._blocked.add((other, host))

    def heal(self, host: str | None = None, other: str | None = None) -> None:
        """End all partings, those of one host, or the one between two."""
        self.note(f"heal {host} {other}")
        self._blocked = {pair for pair in self._blocked if not (host in (None, *pair) and other in (None, *pair))}
        self._retry()

    def crash(self, host: str, *, power: bool = False) -> None:
        """End the processes of a host: ports are free, its protocols hear nothing any more.

        Killed: its system ends the connections. `power`: silence until `restart`, then a reset for who still sends.
        """
        self.note(f"crash {host}{' power' if power else ''}")
        for address in [address for address in self._servers if address[0] == host]:
            self._servers[address].close()
        if power:
            self._down.add(host)
        for end in [end for link in self._links for end in link.ends if end.local[0] == host]:
            end.die(silently=power)

    def restart(self, host: str) -> None:
        """Switch a host on again."""
        self._down.discard(host)
        self._retry()

    # What hosts and connections ask

    def delay(self) -> float:
        least, most = self.lag
        seconds = least + (most - least) * self._random.random()
        return seconds * 10 if self._random.random() < 0.01 else seconds

    def split(self, size: int) -> int:
        luck = self._random.random()
        if luck < 0.5:
            return size
        return 1 + self._random.randrange(min(size, 40) if luck < 0.6 else size)

    def blocked(self, source: str, target: str) -> bool:
        return (source, target) in self._blocked or source in self._down or target in self._down

    def note(self, text: str) -> None:
        self.trace.append(f"{self.loop.time():.6f} {text}")

    def bind(self, host: str, port: int, factory: Callable[[], asyncio.Protocol]) -> SimServer:
        """Open a port; 0 takes a free one."""
        address = (host, port or self._free_port())
        if address in self._servers:
            raise OSError(errno.EADDRINUSE, f"{host}:{port} is in use")
        server = self._servers[address] = SimServer(self, address, factory)
        return server

    def unbind(self, address: tuple[str, int]) -> None:
        """Free a port."""
        del self._servers[address]

    async def dial(
        self, host: SimHost, target: tuple[str, int], factory: Callable[[], asyncio.Protocol]
    ) -> SimTransport:
        """Connect a process with an address."""
        await self._travel(host.name, target[0])
        server = self._servers.get(target)
        if server is None:
            await self._travel(target[0], host.name)
            self.note(f"{host.name} refused by {target[0]}:{target[1]}")
            raise ConnectionRefusedError(errno.ECONNREFUSED, f"Connect call failed {target}")
        link = self._join((host.name, self._free_port()), target, server)
        self.loop.call_soon(server.accept, link.far)
        try:
            await self._travel(target[0], host.name)
        except BaseException:
            link.near.abort()
            raise
        if host.dead:
            raise PowerLoss(f"{host.name} while dialling")
        if link.near.lost:
            raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
        link.near.start(factory())
        return link.near

    async def _travel(self, source: str, target: str) -> None:
        await asyncio.sleep(self.delay())
        deadline = self.loop.time() + DIAL_LIMIT
        while self.blocked(source, target):
            if self.loop.time() > deadline:
                raise TimeoutError(errno.ETIMEDOUT, f"no answer from {target}")
            await asyncio.sleep(1 + self.delay())

    def _join(self, near: tuple[str, int], far: tuple[str, int], server: SimServer) -> _Link:
        self.note(f"{near[0]}:{near[1]} dials {far[0]}:{far[1]}")
        link = _Link(self, near, far)
        link.near.when_lost = partial(self._one_lost, link)
        link.far.when_lost = partial(self._one_lost, link, server)
        self._links[link] = None
        self.dialled += 1
        return link

    def _one_lost(self, link: _Link, server: SimServer | None = None) -> None:
        if server is not None:
            server.over()
        if link.near.lost and link.far.lost and link in self._links:
            del self._links[link]
            self._delivered_before += link.delivered

    def _free_port(self) -> int:
        self._next_port += 1
        return self._next_port

    def _retry(self) -> None:
        for link in list(self._links):
            for way in link.ways:
                way.retry()
