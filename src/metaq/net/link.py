"""The dialling side: one broker, at most one connection to it, dialled again for ever until the link is closed.

A link never sends a request twice. What was sent when the connection ended fails with LinkClosed: it may have been
carried out. What could not be sent fails with NoBroker: it was not.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from metaq.errors import ClientError, LinkClosed, NoBroker, RequestTimeout, Status
from metaq.model import BrokerAddress
from metaq.net.calls import Call, Connection
from metaq.net.pace import AS_THE_SYSTEM, Pace
from metaq.ports import Network, Random
from metaq.protocol.commands import Reply, Result, Version
from metaq.protocol.decoder import Limits
from metaq.protocol.encoder import encode

log = logging.getLogger(__name__)

_WORTH_A_LINE: Final = 8  # attempts to dial without success
_LAST_OPAQUE: Final = 2147483646  # 2147483647 is what a request without an opaque is answered with


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkOptions:
    """How a link behaves; seconds and bytes. The heartbeat is that of the original client."""

    connect_timeout: float = 10.0  # for dialling and the first answer together
    heartbeat_idle: float = 10.0  # without traffic
    heartbeat_timeout: float = 5.0
    heartbeat_failures: int = 3  # in a row; then the connection is closed
    first_delay: float = 0.05  # before dialling again; doubled each time
    longest_delay: float = 5.0
    in_flight: int = 16 << 20  # bytes of requests without an answer; above it `ready` waits
    limits: Limits = field(default_factory=Limits)
    pace: Pace = AS_THE_SYSTEM


DEFAULT_LINK: Final = LinkOptions()


class Request(Call):
    """A call whose reply is waited for with a future."""

    __slots__ = ("future",)

    def __init__(self, future: asyncio.Future[Reply], deadline: float, size: int) -> None:
        self.future = future
        self.deadline = deadline
        self.size = size

    def answer(self, reply: Reply) -> None:
        if not self.future.done():
            self.future.set_result(reply)

    def fail(self, error: ClientError) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class Link:
    """A connection to one broker that comes back by itself.

    `start` begins to dial, `close` ends it for good. `version` and `extensions` are what the broker said when the
    present connection began; a broker of another kind may stand at the same address next time.
    """

    def __init__(
        self,
        network: Network,
        address: BrokerAddress,
        *,
        random: Random,
        options: LinkOptions = DEFAULT_LINK,
        on_change: Callable[["Link"], None] | None = None,
    ) -> None:
        self.address = address
        self.version = ""
        self.extensions: frozenset[str] = frozenset()
        self._network = network
        self._random = random
        self._options = options
        self._on_change = on_change  # told when the link opened and when it was lost
        self._loop = asyncio.get_running_loop()
        self._connection: Connection | None = None
        self._opened = asyncio.Event()
        self._closed = False
        self._reason = "not connected yet"
        self._opaque = 0
        self._task: asyncio.Task[None] | None = None

    @property
    def is_open(self) -> bool:
        """Whether requests can be sent now."""
        return self._connection is not None

    @property
    def used(self) -> float:
        """When bytes last came, or the first request left that waits, by the loop's clock; 0: no connection."""
        return 0.0 if self._connection is None else self._connection.used

    @property
    def reason(self) -> str:
        """Why there is no connection: the last error met."""
        return self._reason

    def start(self) -> None:
        """Begin to dial, in a task that `close` ends."""
        if self._task is None and not self._closed:
            self._task = self._loop.create_task(self._run(), name=f"link {self.address}")

    async def close(self) -> None:
        """Close for good; requests that wait fail with LinkClosed. May be called again."""
        self._closed = True
        self._reason = "closed by us"
        self._opened.set()  # lets those go who wait for a connection
        if self._connection is not None:
            self._connection.drop(self._reason)
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    # sending

    def has_room(self) -> bool:
        """Say whether a request can be sent now without waiting."""
        connection = self._connection
        return connection is not None and connection.has_room(self._options.in_flight)

    async def ready(self, timeout: float) -> None:
        """Wait until there is a connection with room for a request.

        Raises NoBroker if there is none in time (with the reason), RequestTimeout if it takes nothing more.
        """
        if self.has_room():
            return
        try:
            async with asyncio.timeout(max(timeout, 0)):
                while not self.has_room():
                    await self._opened.wait()
                    if self._closed:
                        raise NoBroker(f"{self.address}: the link is closed")
                    await self.room(timeout)
        except TimeoutError as exc:
            raise NoBroker(f"{self.address}: no connection within {timeout:g} s: {self._reason}") from exc

    async def room(self, timeout: float) -> None:
        """Wait until the connection takes another request, or is lost. Raises RequestTimeout if it is too slow."""
        if self._connection is not None:
            try:
                async with asyncio.timeout(max(timeout, 0)):
                    await self._connection.room(self._options.in_flight)
            except TimeoutError as exc:
                raise RequestTimeout(f"{self.address}: nothing sent within {timeout:g} s, it is too slow") from exc

    def next_opaque(self) -> int:
        """Return a number no waiting request of this link has."""
        connection = self._connection
        while True:
            self._opaque = self._opaque + 1 if self._opaque < _LAST_OPAQUE else 1
            if connection is None or not connection.waits_for(self._opaque):
                return self._opaque

    def send(self, opaque: int, call: Call, frame: bytes, *, at_once: bool = False) -> None:
        """Send a request, however much is in flight; without a connection it fails with NoBroker.

        What is sent during one turn of the loop leaves together at its end, or with the first that goes `at_once`.
        """
        if self._connection is None:
            call.fail(NoBroker(f"{self.address}: no connection: {self._reason}"))
        else:
            self._connection.send(opaque, call, frame, at_once=at_once)

    async def request(self, build: Callable[[int], bytes], timeout: float) -> Reply:
        """Send what `build(opaque)` returns and wait for its reply, for a connection too if there is none.

        Raises NoBroker (nothing was sent), RequestTimeout or LinkClosed (it may have been carried out).
        """
        deadline = self._loop.time() + timeout
        await self.ready(timeout)
        opaque = self.next_opaque()
        frame = build(opaque)
        call = Request(self._loop.create_future(), deadline, len(frame))
        self.send(opaque, call, frame)
        return await call.future

    # dialling

    async def _run(self) -> None:
        delay = self._options.first_delay
        failures = 0
        while not self._closed:
            began = self._loop.time()
            try:
                await self._serve()
                failures = 0
            except (OSError, ValueError, ClientError) as exc:  # TimeoutError is an OSError; ValueError: an odd host
                failures += 1
                self._reason = str(exc).removeprefix(f"{self.address}: ") or type(exc).__name__
            # a connection that was lost is worth a line, so is one that cannot be made for a while; not each attempt
            level = logging.WARNING if failures in (0, _WORTH_A_LINE) else logging.DEBUG
            log.log(level, "%s: no connection, dialling again: %s", self.address, self._reason)
            if self._loop.time() - began > self._options.longest_delay:
                delay = self._options.first_delay
            await asyncio.sleep(delay * (0.5 + self._random.random() / 2))
            delay = min(delay * 2, self._options.longest_delay)

    async def _serve(self) -> None:
        """Dial, greet, and hold the connection until it is lost. Raises OSError or ClientError if that fails."""
        connection = Connection(self.address, self._options.limits, self._lost)
        dialled = False
        try:
            async with asyncio.timeout(self._options.connect_timeout) as limit:
                transport = await self._network.connect(lambda: connection, self.address.host, self.address.port)
                dialled = True
                self._options.pace.choose(transport)
                limit.reschedule(None)  # from here on the request's own time-out holds
            await self._greet(connection)
            self._connection = connection
            self._opened.set()
            log.info("%s: connected, version %s", self.address, self.version)
            self._tell()
            self._reason = await self._hold(connection)
        finally:
            connection.drop("closed by us")
            if dialled:
                await asyncio.wait([connection.lost])  # so that the socket is gone before the loop may end
            else:
                # called off between connection_made and our turn: asyncio closes it in the next turn of the loop,
                # uvloop has done so already, and says it to nobody
                await asyncio.sleep(0)

    def _lost(self) -> None:
        """Send nothing more over the connection that ended."""
        if self._connection is None:
            return
        self._connection = None
        if not self._closed:
            self._opened.clear()
        self._tell()

    def _tell(self) -> None:
        if self._on_change is not None:
            self._on_change(self)

    async def _greet(self, connection: Connection) -> None:
        """Ask for version and extensions, once for this connection."""
        reply = await self._version(connection, ("metaq",), self._options.connect_timeout)
        if reply.status != Status.SUCCESS:
            raise LinkClosed(f"{self.address}: answered version with {int(reply.status)}")
        words = reply.body.decode("utf-8", "replace").split()
        self.version = words[0] if words else ""
        self.extensions = frozenset(words[1:])

    async def _hold(self, connection: Connection) -> str:
        """Keep the connection alive; return why it was lost."""
        failures = 0
        while not connection.lost.done():
            idle = self._loop.time() - connection.used
            if idle < self._options.heartbeat_idle and not failures:
                # never so short a wait that adding it to the time changes nothing
                await asyncio.wait([connection.lost], timeout=max(self._options.heartbeat_idle - idle, 0.001))
                continue
            try:
                reply = await self._version(connection, (), self._options.heartbeat_timeout)
                failures = 0 if reply.status == Status.SUCCESS else failures + 1
            except RequestTimeout:
                failures += 1
            except LinkClosed:
                break
            if failures >= self._options.heartbeat_failures:
                connection.drop(f"no answer to {failures} heartbeats")
                break
        return await connection.lost

    async def _version(self, connection: Connection, extensions: tuple[str, ...], timeout: float) -> Result:
        opaque = self.next_opaque()
        frame = encode(Version(opaque, extensions))
        call = Request(self._loop.create_future(), self._loop.time() + timeout, 0)
        connection.send(opaque, call, frame)
        reply = await call.future
        if not isinstance(reply, Result):
            raise LinkClosed(f"{self.address}: answered version with data")
        return reply
