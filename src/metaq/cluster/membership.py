"""One member of a consumer group (reference: ConsumerZooKeeper)."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from math import inf
from random import Random
from typing import Final
from weakref import WeakKeyDictionary

from metaq.cluster.claims import Claims
from metaq.cluster.directory import Directory
from metaq.cluster.holding import Holder, Holding, Stage
from metaq.cluster.lease import Lease
from metaq.cluster.member_node import MemberNode
from metaq.cluster.member_options import MembershipOptions, check_topics
from metaq.cluster.members import Group, share
from metaq.cluster.operations import NameTaken, RegistryClosed, SessionLost, State
from metaq.cluster.paths import Paths
from metaq.cluster.ports import Registry
from metaq.errors import ConfigError, RegistryError
from metaq.model import ClusterPartition

__all__ = ["Holder", "Membership", "MembershipOptions"]

log = logging.getLogger(__name__)

_PAUSE: Final = 0.1  # seconds before trying again what failed; doubles up to _LONGEST_PAUSE or `sync_time`
_LONGEST_PAUSE: Final = 5.0
_BURST: Final = 10  # rounds at once; what changes in a storm is looked at so often in _BURST_TIME seconds
_BURST_TIME: Final = 0.25
_AWAY: Final = 1.0  # seconds without a connection after which leaving does without ZooKeeper
_LEAVE_TRIES: Final = 5

_names: WeakKeyDictionary[Registry, set[str]] = WeakKeyDictionary()  # in one session nothing else tells two apart


class Membership:
    """One member: takes the partitions that are its share and gives back those that are not, in every session anew.

    Never gives up: what fails is tried again, and only for itself. A partition that another still owns is claimed as
    soon as its node goes. Partitions that stay ours go on being consumed while others change hands.
    """

    def __init__(self, registry: Registry, holder: Holder, options: MembershipOptions) -> None:
        self._registry = registry
        self._options = options
        self._paths = Paths(options.root)
        self._random = Random(options.name)  # so that members do not all try again at once
        self._wake = asyncio.Event()
        self._holding = Holding(options.group, holder, self._wake.set)
        self._claims = Claims(registry, self._paths, options.group, self.name, self._suspect)
        self._leave_lock = asyncio.Lock()
        self._keeper: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        """Return the name of our node below `ids`, which owner nodes repeat."""
        return self._options.name

    @property
    def owned(self) -> frozenset[ClusterPartition]:
        """Return what the holder has taken and not given back or lost."""
        return self._holding.at(Stage.TAKEN)

    @property
    def sure(self) -> bool:
        """Return whether what we own is certainly ours; if not, `lose` is about to come, or came already."""
        return self._keeper is not None and self._lease.sure

    async def join(self) -> None:
        """Register and take our share; return when the first rebalance is done. Partitions others own yet come later.

        Raises RegistryError if that takes longer than `options.timeout`, or NameTaken if another consumer has our id
        for longer than a dead one could; ConfigError if it is another one of this client. Nothing is registered then.
        """
        if self._keeper is None:
            self._open()
        try:
            async with asyncio.timeout(self._options.timeout):
                await self._settled()
        except TimeoutError as exc:
            trouble = f": {self._trouble}" if self._trouble else ""
            await self.leave()
            raise RegistryError(f"{self.name}: not a member after {self._options.timeout:g} s{trouble}") from exc
        except BaseException:
            await self.leave()
            raise

    async def leave(self) -> None:
        """Give everything back, delete our nodes. May be called again; without ZooKeeper everything is lost instead.

        If it is cancelled all that is left is lost, and its nodes stay until the session ends.
        """
        async with self._leave_lock:
            keeper = self._keeper
            if keeper is None:
                return
            self._leaving = True
            self._wake.set()
            try:
                while not keeper.done():
                    await asyncio.wait({keeper}, timeout=_AWAY)
                    if self._registry.state is not State.CONNECTED:
                        break
            finally:
                await self._close(keeper)

    async def update_topics(self, topics: Iterable[str]) -> None:
        """Subscribe these topics and no others; return when the rebalance is done. Raises ConfigError."""
        self._options = replace(self._options, topics=check_topics(topics))
        if self._keeper is not None:
            await self._settled()

    def _open(self) -> None:
        names = _names.setdefault(self._registry, set())
        path = self._paths.consumer(self._options.group, self.name)
        if path in names:
            raise ConfigError(f"{path} is another consumer of this client")
        names.add(path)
        self._leaving = False
        self._joined = False
        self._trouble = ""
        self._waiters: list[asyncio.Future[None]] = []
        self._suspects: set[ClusterPartition] = set()
        self._attempted: set[ClusterPartition] = set()  # what became of it is not known
        self._awaited: dict[ClusterPartition, float] = {}  # others own them; when to try again
        self._failures: dict[ClusterPartition, tuple[int, float]] = {}  # how often in a row; when to try again
        self._told: tuple[int, int] = (0, 0)  # numbers last logged
        self._rounds: deque[float] = deque(maxlen=_BURST)
        self._session = 0
        self._errors = 0  # in a row
        self._node = MemberNode(self._registry, path, self._wake.set)
        self._group = Group(self._registry, self._paths, self._options.group, self._wake.set)
        self._directory = Directory(self._registry, self._options.root, self._wake.set)
        self._lease = Lease(self._registry, self._paths.group_ids(self._options.group), self._lapsed, self._wake.set)
        self._stop_listening = self._registry.on_state(self._hear_state)
        self._keeper = asyncio.create_task(self._keep(), name=f"member {self.name}")
        self._keeper.add_done_callback(self._ended)

    def _ended(self, keeper: asyncio.Task[None]) -> None:
        """Tell those who wait that no more will happen."""
        error = None if keeper.cancelled() else keeper.exception()
        if error is not None:
            self._holding.drop(self._holding.partitions)
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_exception(error or RegistryError(f"{self.name} has left its group"))

    async def _close(self, keeper: asyncio.Task[None]) -> None:
        self._keeper = None
        if left := self._holding.partitions:
            log.warning("%s: left without giving back %d partitions", self.name, len(left))
            self._holding.drop(left)
        keeper.cancel()
        self._stop_listening()
        await asyncio.gather(keeper, return_exceptions=True)
        await self._holding.close()
        await self._lease.close()
        await self._directory.close()
        _names[self._registry].discard(self._paths.consumer(self._options.group, self.name))

    async def _settled(self) -> None:
        """Wait until all wanted up to now is so."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        self._wake.set()
        if self._keeper is not None and self._keeper.done():
            self._ended(self._keeper)
        await waiter

    async def _keep(self) -> None:
        """Make everything as it should be whenever something changed; then give everything back."""
        while not self._leaving:
            self._wake.clear()
            waiters = list(self._waiters)
            if await self._succeeds(self._round):
                self._settle(waiters)
            if not self._leaving:
                await self._rest()
        for _ in range(_LEAVE_TRIES):
            self._wake.clear()
            if await self._succeeds(self._depart):
                return

    async def _succeeds(self, work: Callable[[], Awaitable[bool]]) -> bool:
        """Do some work; after an error wait a little. Raises what no second try can mend."""
        try:
            done = await work()
        except RegistryClosed:
            raise
        except RegistryError as exc:
            if isinstance(exc, NameTaken) and not self._joined:
                raise
            self._trouble = str(exc)
            log.warning("%s: %s; trying again", self.name, exc)
        except Exception as exc:
            self._trouble = repr(exc)
            log.exception("%s: failed; trying again", self.name)
        else:
            self._errors = 0
            return done
        self._errors += 1
        await asyncio.sleep(self._pause(self._errors))
        self._wake.set()
        return False

    def _pause(self, failures: int) -> float:
        """Return how long to wait after so many failures in a row."""
        longest = min(_PAUSE * 2.0 ** min(failures - 1, 16), _LONGEST_PAUSE, self._options.sync_time)
        return longest * (0.5 + 0.5 * self._random.random())

    def _settle(self, waiters: list[asyncio.Future[None]]) -> None:
        self._joined = True
        for waiter in waiters:
            self._waiters.remove(waiter)
            if not waiter.done():
                waiter.set_result(None)

    async def _rest(self) -> None:
        """Wait for a change, or for the time to try something again; let a storm of changes gather."""
        loop = asyncio.get_running_loop()
        due = min([self._due, *map(self._retry_at, (self._awaited.keys() | self._failures) - self._holding.partitions)])
        with suppress(TimeoutError):
            async with asyncio.timeout_at(None if due == inf else due):
                await self._wake.wait()
        if len(self._rounds) == _BURST:
            await asyncio.sleep(self._rounds[0] + _BURST_TIME - loop.time())
        self._rounds.append(loop.time())

    async def _round(self) -> bool:
        """Bring what we claim and consume nearer to what we should; return whether nothing is left that we can do."""
        self._due = inf
        if not await self._register():
            return False
        await self._check()
        members = await self._group.members()
        options = self._options
        wanted = await share(self._directory, members, self.name, options.topics, options.strategy)
        self._holding.give(self._holding.at(Stage.TAKEN) - wanted)
        await self._release(wanted)
        await self._claim(wanted, members)
        idle = self._holding.at(Stage.CLAIMED) & wanted
        if self._lease.sure:
            self._holding.take(idle)
        elif idle:
            return False
        self._report()
        return not self._holding.busy

    async def _depart(self) -> bool:
        """Give everything back and delete our nodes; return True."""
        while True:
            await self._retire()
            if not self._holding.partitions:
                break
            await self._wake.wait()
            self._wake.clear()
        await self._node.withdraw(self._session)
        return True

    async def _retire(self) -> None:
        """Give back what is consumed, and the claims nobody consumes."""
        self._holding.lose(self._holding.at(Stage.TAKING))
        self._holding.give(self._holding.at(Stage.TAKEN))
        await self._check()
        await self._release(frozenset())

    async def _register(self) -> bool:
        """Return whether our node is in the tree; in a new session nothing is ours yet."""
        if not self._registry.session == self._session != 0:
            self._holding.drop(self._holding.partitions)
            self._awaited.clear()
            await self._registry.ensure(self._paths.group_ids(self._options.group))  # waits for a session
            self._session = self._registry.session
            if self._session == 0:
                raise SessionLost()
            self._claims.begin(self._session)
            self._attempted.clear()
        if await self._node.announce(self._session, self._options.topics):
            return True
        self._due = self._node.retry_at
        await self._retire()  # others know but one member of our name, and that is not us
        return False

    async def _check(self) -> None:
        """Look at nodes that may have changed: claims of ours that somebody took away, others' that are free now."""
        if self._attempted:
            self._holding.add(await self._claims.still(self._attempted))
            self._attempted.clear()
        suspects, self._suspects = self._suspects, set()
        ours = self._holding.partitions & suspects
        try:
            gone = ours - await self._claims.still(ours)
        except BaseException:
            self._suspects |= suspects
            raise
        if gone := gone & self._holding.partitions:
            log.warning("%s: somebody took away %d of our claims", self.name, len(gone))
            self._holding.drop(gone)
        for each in suspects:
            self._awaited.pop(each, None)

    async def _release(self, wanted: frozenset[ClusterPartition]) -> None:
        """Give up claims that nobody consumes, of what is not wanted and of what could not be taken."""
        failed = self._holding.at(Stage.FAILED)
        idle = self._holding.at(Stage.CLAIMED) - wanted | failed
        if idle:
            await self._claims.release(idle)
            self._holding.remove(idle)
        now = asyncio.get_running_loop().time()
        for each in sorted(failed):
            failures = self._failures.get(each, (0, 0.0))[0] + 1
            self._failures[each] = failures, now + self._pause(failures)

    async def _claim(self, wanted: frozenset[ClusterPartition], members: Iterable[str]) -> None:
        """Claim what is wanted and nobody's; remember when to try again what is another's."""
        now = asyncio.get_running_loop().time()
        self._awaited = {each: time for each, time in self._awaited.items() if each in wanted}
        taken = self._holding.at(Stage.TAKEN)
        self._failures = {each: f for each, f in self._failures.items() if each in wanted and each not in taken}
        missing = [each for each in sorted(wanted - self._holding.partitions) if self._retry_at(each) <= now]
        if not missing:
            return
        self._attempted.update(missing)
        ours = await self._claims.claim(missing, frozenset(members))
        self._attempted.clear()
        self._holding.add(ours)
        for each in missing:
            if each in ours:
                self._awaited.pop(each, None)
            else:
                self._awaited[each] = now + self._options.sync_time * (0.5 + 0.5 * self._random.random())

    def _retry_at(self, partition: ClusterPartition) -> float:
        """Return the loop's time from which on a partition may be claimed."""
        return max(self._awaited.get(partition, 0.0), self._failures.get(partition, (0, 0.0))[1])

    def _report(self) -> None:
        told = len(self.owned), len(self._awaited)
        if told != self._told and not self._holding.busy:
            log.info("%s: owns %d partitions, waits for %d that others own", self.name, *told)
            self._told = told

    def _suspect(self, partition: ClusterPartition) -> None:
        if partition in self._holding or partition in self._awaited or partition in self._attempted:
            self._suspects.add(partition)
            self._wake.set()

    def _lapsed(self) -> None:
        """ZooKeeper has been silent for so long that our session may be over."""
        log.warning(
            "%s: no answer from ZooKeeper for too long, letting go of %d partitions", self.name, len(self.owned)
        )
        self._holding.lose(self._holding.partitions)
        self._wake.set()

    def _hear_state(self, state: State) -> None:
        if state is State.LOST:
            self._holding.drop(self._holding.partitions)
        self._wake.set()
