"""Reading from the copy of a partition that is preferred, from another while that one is away, and back again.

All copies have the same bytes at the same offsets, so reading goes on elsewhere at the offset where it was.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Final

from metaq.client import asking
from metaq.client.preference import MASTER, Preference, nearest_first
from metaq.client.routes import Routes
from metaq.client.source import Source
from metaq.errors import ClientError, MetaqError
from metaq.model import BrokerAddress, ClusterPartition
from metaq.net.link import Link

log = logging.getLogger(__name__)

_ROUND: Final = 1.0  # seconds between two looks at most
_AT_ONCE: Final = 100  # sources looked at in one go; each takes some 50 µs
_ANSWER: Final = 2.0  # seconds after which a broker that says nothing counts as away
_LATELY: Final = 0.1  # seconds after a question: what comes then comes from one that is alive
_SAMPLES: Final = 5  # of a round trip; the shortest counts, since in the others something else was waited for


class Replicas:
    """Knows of all brokers with copies how they answer; one task asks them while something prefers other than masters.

    Who makes it closes it.
    """

    def __init__(self, routes: Routes) -> None:
        self.routes = routes
        self._sources: dict[Source, None] = {}
        self._samples: dict[BrokerAddress, deque[float]] = {}
        self._silent: set[BrokerAddress] = set()
        self.tried: set[BrokerAddress] = set()  # those that were connected once, or waited for in vain
        self._near: dict[int, list[BrokerAddress]] = {}  # by broker id
        self._task: asyncio.Task[None] | None = None
        self._is_closed = False

    def source(
        self,
        key: ClusterPartition,
        preference: Preference = MASTER,
        max_lag: float | None = None,
        timeout: float = 10.0,
    ) -> Source:
        """Return where a partition is read from. `max_lag` in seconds, see Source; `timeout`: for one answer."""
        return Source(self, key, preference, max_lag, timeout)

    def watch(self, source: Source) -> None:
        """Look after a source from now on."""
        self._sources[source] = None
        if self._task is None and not self._is_closed:
            self._task = asyncio.create_task(self._look_on(), name="copies that are read")

    def forget(self, source: Source) -> None:
        """Look after it no more."""
        self._sources.pop(source, None)

    async def close(self) -> None:
        """Stop asking. May be called again."""
        self._is_closed = True
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    def answers(self, address: BrokerAddress) -> bool:
        """Say whether a broker is connected, and answered when it was asked last."""
        return self.routes.links.to(address).is_open and address not in self._silent

    @property
    def round_trips(self) -> Mapping[BrokerAddress, float]:
        """Seconds, of the brokers that were measured."""
        return {address: min(samples) for address, samples in self._samples.items() if samples}

    async def by_distance(self, broker_id: int, addresses: Iterable[BrokerAddress]) -> list[BrokerAddress]:
        """Return brokers by their round trips, measuring those that were not; those that do not answer last."""
        wanted = list(addresses)
        links = [self.routes.links.to(address) for address in wanted if address not in self._samples]
        await self._measure([link for link in links if link.is_open])
        self._near[broker_id] = nearest_first(wanted, self.round_trips, self._near.get(broker_id, ()))
        return self._near[broker_id]

    async def _look_on(self) -> None:
        while True:
            await asyncio.sleep(min([_ROUND, *(source.every for source in self._sources)]))
            try:
                await self._look()
            except MetaqError as exc:  # of the directory: what is known stands
                log.debug("copies that are read are not looked at: %s", exc)
            except Exception:
                log.exception("copies that are read are not looked at")

    async def _look(self) -> None:
        sources = list(self._sources)
        addresses: set[BrokerAddress] = set()
        for broker_id in {source.key.partition.broker_id for source in sources}:
            master = (await self.routes.directory.brokers()).get(broker_id)
            here = {*(await self.routes.directory.slaves(broker_id)).values(), *([] if master is None else [master])}
            addresses |= here
        links = [self.routes.links.to(address) for address in addresses]
        await self._measure([link for link in links if link.is_open])
        now = asyncio.get_running_loop().time()
        due = [each for each in sources if each.due <= now and each in self._sources]
        for start in range(0, len(due), _AT_ONCE):
            outcomes = await asyncio.gather(
                *(each.review() for each in due[start : start + _AT_ONCE]), return_exceptions=True
            )
            for outcome in outcomes:
                if outcome is not None:
                    raise outcome

    async def _measure(self, links: Iterable[Link]) -> None:
        await asyncio.gather(*map(self._ping, links))

    async def _ping(self, link: Link) -> None:
        """Take a round trip; note who does not answer."""
        clock = asyncio.get_running_loop().time
        began, address = clock(), link.address
        try:
            async with asyncio.timeout(_ANSWER):
                await asking.version(link, _ANSWER)
        except (ClientError, TimeoutError) as exc:
            if link.used > began + _LATELY:
                return  # it has much to say before
            if address not in self._silent and link.is_open:
                log.warning("%s: does not answer, it is not read from meanwhile: %s", address, str(exc) or "no answer")
                self._silent.add(address)
                for source in self._sources:
                    source.hurry(address)
            return
        self._samples.setdefault(address, deque(maxlen=_SAMPLES)).append(clock() - began)
        self._silent.discard(address)
