"""The broker that one partition is read from, at present."""

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from metaq.client import asking
from metaq.client.preference import DEFAULT_MAX_LAG, Candidate, Preference, in_order
from metaq.errors import ClientError, NoBroker
from metaq.model import BrokerAddress, ClusterPartition, TopicPartition
from metaq.net.link import Link

if TYPE_CHECKING:
    from metaq.client.replicas import Replicas

log = logging.getLogger(__name__)

_PATIENCE: Final = 1.0  # seconds that a broker which is wanted may take to be connected
_AVOID: Final = 0.5  # seconds after trouble with one; doubled while that keeps coming, up to
_AVOID_MOST: Final = 60.0
_QUICKLY: Final = 2.0  # seconds for an answer that only helps to choose
_GROUP: Final = "pymetaq-reader"
_ROUND: Final = 1.0  # seconds between two looks while another is preferred, or there may be a lag
_OFTEN: Final = 0.05  # seconds between two looks at least, and
_SELDOM: Final = 10.0  # at most


class Reached(NamedTuple):
    """How far somebody reads. `at_end`: nothing more was there."""

    offset: int
    at_end: bool


class Way(NamedTuple):
    """Over which link a partition is read, and whether the master is at its other end."""

    link: Link
    is_master: bool


def _nowhere() -> None:
    """Nobody reads yet."""


def _nobody() -> None:
    """Nobody is to be told."""


class Source:
    """Says whom to read a partition from.

    It stays with a broker for as long as that one answers. With a preference other than the master, `begin` has it
    looked after: it goes back to who is preferred when that one answers again and has what was read half of `max_lag`
    ago; and away from a slave that lacks, for more than `max_lag` seconds, what its master has (None: never). Only a
    reader at the end of what the slave has is moved for that: until then the slave has all that is wanted.
    """

    __slots__ = (
        "_avoided", "_checked", "_current", "_generation", "_lacks", "_max_lag", "_moved", "_owed", "_preference",
        "_read", "_replicas", "_target", "_timeout", "_way", "_where", "due", "every", "key",
    )  # fmt: skip

    def __init__(
        self, replicas: "Replicas", key: ClusterPartition, preference: Preference, max_lag: float | None, timeout: float
    ) -> None:
        self.key = key
        self.every = _SELDOM if max_lag is None else min(max(max_lag / 4, _OFTEN), _SELDOM)
        self._replicas = replicas
        self._preference = preference
        self._max_lag = max_lag
        self._timeout = timeout
        self._target = TopicPartition(key.topic, key.partition.partition)
        self._where: Callable[[], Reached | None] = _nowhere
        self._moved: Callable[[], None] = _nobody
        self._current: Candidate | None = None  # of those in order; None: not chosen yet, or not to be chosen
        self._way: Way | None = None
        self._generation = -1  # of what is known of brokers, when this was chosen
        self._avoided: dict[BrokerAddress, tuple[float, float]] = {}  # until when, and how long in all
        self._owed: dict[BrokerAddress, int] = {}  # how far those must have come that were left for lagging behind
        self._read: list[tuple[float, int]] = []  # times, and where reading had come to
        self._lacks: tuple[float, int] | None = None  # since when a slave lacks what is before this offset
        self._checked = 0.0
        self.due = 0.0  # when to look after it next, by the loop's clock

    def begin(self, where: Callable[[], Reached | None], moved: Callable[[], None]) -> None:
        """Be looked after until `end`. `moved` is called when it is to be read from another broker from now on."""
        if self._preference.kind != "master":
            self._where, self._moved = where, moved
            self._replicas.watch(self)

    def end(self) -> None:
        """Be looked after no more."""
        self._replicas.forget(self)

    async def way(self) -> Way:
        """Return whom to read from. Raises NoBroker if there is nobody in time, RegistryError."""
        routes, way = self._replicas.routes, self._way
        seen = routes.changes.generation
        if way is not None and self._generation == seen and way.link.is_open and self._is_well(self._current):
            return way  # nothing has changed since
        if self._preference.kind == "master":
            self._way = await self._master_or_slave()
        else:
            chosen = await self._choose()
            self._way = Way(routes.links.to(chosen.address), chosen.is_master)
        return self._way

    async def _master_or_slave(self) -> Way:
        """Return the master, or while there is none a slave; wait for a connection to whom that is meanwhile."""
        routes, clock = self._replicas.routes, asyncio.get_running_loop().time
        deadline = clock() + self._timeout
        while True:
            self._generation = seen = routes.changes.generation
            way = Way(*await routes.to_replica(self.key.partition.broker_id, self._timeout))
            if way.link.is_open:
                return way
            if not await routes.changes.wait(seen, deadline - clock()):
                raise NoBroker(f"{way.link.address}: no connection within {self._timeout:g} s: {way.link.reason}")

    @property
    def stands_in(self) -> bool:
        """Whether it is read from a slave only because there was no master."""
        return self._preference.kind == "master" and self._way is not None and not self._way.is_master

    async def authority(self) -> Link:
        """Return the link to who knows best where the partition ends: the master, or while it is away a slave."""
        return (await self._replicas.routes.to_replica(self.key.partition.broker_id, self._timeout))[0]

    def avoid(self, link: Link) -> bool:
        """Read from another broker for a while, after trouble with this one; False: there is no preference."""
        if self._preference.kind == "master":
            return False
        now, address = asyncio.get_running_loop().time(), link.address
        until, before = self._avoided.get(address, (0.0, 0.0))
        pause = _AVOID if now > until + 2 * before else min(2 * before, _AVOID_MOST)
        self._avoided[address] = now + pause, pause
        return True

    def hurry(self, address: BrokerAddress) -> None:
        """Be looked after at once if this is who is read from."""
        if self._current is not None and self._current.address == address:
            self.due = 0.0

    async def review(self) -> None:
        """See whether another broker is the one to read from now; say so then."""
        now = asyncio.get_running_loop().time()
        current, place = self._current, self._where()
        self.due = now + min(self.every, _ROUND)
        if current is None or place is None:
            return
        self._remember(now, place.offset)
        if not self._is_well(current):
            better = await self._first_that_can(await self._candidates(), place.offset)
        else:
            better = await self._better(current, place.offset)
        if better is None and await self._is_too_far_behind(current, place):
            better = await self._instead_of(current, place.offset)
        if better is not None and self._current == current:
            self._settle(better, -1)
            self._moved()

    def _remember(self, now: float, offset: int) -> None:
        self._read.append((now, offset))
        since = now - (DEFAULT_MAX_LAG if self._max_lag is None else self._max_lag) / 2
        while len(self._read) > 1 and self._read[1][0] <= since:
            del self._read[0]

    async def _better(self, current: Candidate, offset: int) -> Candidate | None:
        """Return who is preferred to the present one, answers, and is not far behind."""
        candidates = await self._candidates()
        if current not in candidates:
            return None  # the next question chooses
        if current == candidates[0] and self._lacks is None:
            self.due += self.every  # all is as it should be
        preferred = candidates[: candidates.index(current)]
        return await self._first_that_can(preferred, min(self._read[0][1], offset))

    async def _instead_of(self, current: Candidate, offset: int) -> Candidate | None:
        if self._lacks is None:
            return None
        self._owed[current.address] = self._lacks[1]
        found = await self._first_that_can(await self._candidates(), offset)
        if found is not None:
            log.warning(
                "%s: %s lacks what its master has for more than %g s; reading from %s",
                self.key, current.address, self._max_lag, found.address,
            )  # fmt: skip
        return found

    async def _is_too_far_behind(self, current: Candidate, place: Reached) -> bool:
        """Say whether a slave lacks for too long what its master has; ask the master at times."""
        now = asyncio.get_running_loop().time()
        if self._max_lag is None or current.is_master or not place.at_end:
            self._lacks = None
            return False
        if self._lacks is not None and place.offset >= self._lacks[1]:
            self._lacks = None
        if self._lacks is None:
            if now - self._checked >= self.every:
                self._checked = now
                master = (await self._replicas.routes.directory.brokers()).get(self.key.partition.broker_id)
                end = None if master is None else await self._end(master)
                if end is not None and end > place.offset:
                    self._lacks, self.due = (now, end), now
            return False
        if now - self._lacks[0] <= self._max_lag:
            return False
        lacks = self._lacks[1]
        end = await self._end(current.address)  # perhaps it is the reader that does not come on
        if end is not None and end >= lacks:
            self._lacks = None
        return end is not None and end < lacks

    async def _candidates(self) -> list[Candidate]:
        routes, broker_id = self._replicas.routes, self.key.partition.broker_id
        master = (await routes.directory.brokers()).get(broker_id)
        slaves = await routes.directory.slaves(broker_id)
        near: list[BrokerAddress] = []
        if self._preference.kind == "nearest":
            here = [*([] if master is None else [master]), *slaves.values()]
            near = await self._replicas.by_distance(broker_id, here)
        return in_order(self._preference, master, slaves, self.key.partition.partition, near)

    async def _choose(self) -> Candidate:
        """Return the present one if it is well, else the first that is; wait for one, and a moment for the best."""
        clock, changes = asyncio.get_running_loop().time, self._replicas.routes.changes
        began, patient = clock(), True
        while True:
            seen = changes.generation
            candidates = await self._candidates()
            chosen: Candidate | None
            if self._current in candidates and self._is_well(self._current):
                chosen = self._current
            elif patient and self._waits_for(candidates):
                patient = await changes.wait(seen, began + _PATIENCE - clock())
                continue
            else:
                self._replicas.tried.update(each.address for each in candidates if not self._is_open(each))
                chosen = await self._one_of(candidates)
            if chosen is not None:
                self._settle(chosen, seen)
                return chosen
            if not await changes.wait(seen, began + self._timeout - clock()):
                raise NoBroker(f"nobody has {self.key}, within {self._timeout:g} s")

    def _waits_for(self, candidates: list[Candidate]) -> bool:
        """Say whether one that would be chosen, or measured, is being dialled for the first time."""
        tried = self._replicas.tried
        tried.update(each.address for each in candidates if self._is_open(each))
        if self._preference.kind != "nearest":
            candidates = candidates[: next((n for n, each in enumerate(candidates) if self._is_well(each)), None)]
        return any(not self._is_open(each) and each.address not in tried for each in candidates)

    async def _one_of(self, candidates: list[Candidate]) -> Candidate | None:
        """Return the first that has what is read next, or whoever is connected; None: nobody is."""
        place = self._where()
        found = await self._first_that_can(candidates, None if place is None else place.offset)
        there = [each for each in candidates if self._is_open(each)]
        return found or next((each for each in there if self._is_well(each)), there[0] if there else None)

    async def _first_that_can(self, candidates: list[Candidate], offset: int | None) -> Candidate | None:
        """Return the first that answers and has what comes at an offset, or all before it; None: nobody."""
        for each in candidates:
            if not self._is_well(each):
                continue
            if each.is_master or (offset is None and each.address not in self._owed):
                return each
            bounds = await self._bounds(each.address)
            least = max(offset or 0, self._owed.get(each.address, 0))
            if bounds is not None and bounds[0] <= (offset or bounds[0]) and bounds[1] >= least:
                self._owed.pop(each.address, None)
                return each
        return None

    async def _bounds(self, address: BrokerAddress) -> tuple[int, int] | None:
        """Return where the partition begins and ends there; None: no answer soon."""
        link = self._replicas.routes.links.to(address)
        try:
            async with asyncio.timeout(_QUICKLY):
                first = await asking.nearest_offset(link, self._target, _GROUP, 0, _QUICKLY)
        except (ClientError, TimeoutError):
            return None
        end = await self._end(address)
        return None if end is None else (first or 0, end)

    async def _end(self, address: BrokerAddress) -> int | None:
        """Return where the partition ends there; None: no answer soon."""
        try:
            async with asyncio.timeout(_QUICKLY):
                link = self._replicas.routes.links.to(address)
                return await asking.nearest_offset(link, self._target, _GROUP, asking.LATEST, _QUICKLY) or 0
        except (ClientError, TimeoutError):
            return None

    def _settle(self, chosen: Candidate, generation: int) -> None:
        if chosen != self._current:
            log.info("%s: read from %s (read_from %s)", self.key, chosen.address, self._preference)
            self._current, self._lacks, self.due = chosen, None, 0.0
        self._generation = generation

    def _is_open(self, candidate: Candidate) -> bool:
        return self._replicas.routes.links.to(candidate.address).is_open

    def _is_well(self, candidate: Candidate | None) -> bool:
        if candidate is None:
            return self._preference.kind == "master"
        if not self._replicas.answers(candidate.address):
            return False
        avoided = self._avoided.get(candidate.address)
        return avoided is None or avoided[0] <= asyncio.get_running_loop().time()
