"""How consumers of one client find their group: through ZooKeeper, or each for itself where there is none."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol
from uuid import UUID

from metaq.client.consuming.member import Holder, Member, SoleMember
from metaq.client.consuming.options import ConsumerOptions
from metaq.client.routes import Routes
from metaq.cluster.address import default_host
from metaq.cluster.membership import Membership, MembershipOptions
from metaq.cluster.ports import Registry
from metaq.ports import Random


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """Where a client runs, as the names of its consumers say it."""

    address: Callable[[], str] = default_host
    pid: int = field(default_factory=os.getpid)


class Groups(Protocol):
    """Makes members of groups."""

    def member(self, group: str, topics: tuple[str, ...], holder: Holder, options: ConsumerOptions) -> Member:
        """Return a member that has not joined yet. Raises ConfigError for names that cannot be."""


class ZooKeeperGroups:
    """Groups as 1.4.6.2 has them, with members of either kind."""

    def __init__(self, registry: Registry, root: str, host: Host, random: Random) -> None:
        self._registry = registry
        self._root = root
        self._host = host
        self._random = random

    def member(self, group: str, topics: tuple[str, ...], holder: Holder, options: ConsumerOptions) -> Member:
        """Return a member that registers under the root."""
        settings = MembershipOptions(
            root=self._root,
            group=group,
            topics=topics,
            consumer_id=options.consumer_id,
            host=self._host.address(),
            pid=self._host.pid,
            uuid=_uuid(self._random),
            strategy=options.strategy,
            sync_time=options.sync_time,
        )
        return Membership(self._registry, holder, settings)


class LoneGroups:
    """No ZooKeeper, so nobody to share with: every consumer has all partitions."""

    def __init__(self, routes: Routes, host: Host, random: Random) -> None:
        self._routes = routes
        self._host = host
        self._random = random

    def member(self, group: str, topics: tuple[str, ...], holder: Holder, options: ConsumerOptions) -> Member:
        """Return the only member."""
        settings = MembershipOptions(
            group=group,
            topics=topics,
            consumer_id=options.consumer_id,
            host=self._host.address(),
            pid=self._host.pid,
            uuid=_uuid(self._random),
        )
        return SoleMember(self._routes, holder, settings.name, settings.topics)


def broadcast_group(group: str, host: str) -> str:
    """Return the group of all consumers of one host (reference: client.md §7.13)."""
    return f"{group}-{host.replace('.', '-').replace(':', '-')}"


def _uuid(random: Random) -> str:
    number = 0
    for _ in range(4):
        number = number << 32 | random.randrange(1 << 32)
    return str(UUID(int=number, version=4))
