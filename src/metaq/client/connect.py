"""`connect`: from a URL to a client. The one place where the real network and randomness are chosen."""

import asyncio
import os
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from metaq.client.consuming.groups import Groups, Host, LoneGroups, ZooKeeperGroups
from metaq.client.consuming.making import Machine
from metaq.client.direct import DirectDirectory
from metaq.client.directory import Changes
from metaq.client.links import Links
from metaq.client.offsets import Surroundings
from metaq.client.queue import Cluster, MessageQueue, QueueOptions
from metaq.client.routes import Routes
from metaq.client.url import FORMS, BrokersUrl, ZooKeeperUrl, parse_url
from metaq.client.zookeeper import SessionFactory, ZooKeeperDirectory
from metaq.cluster.zk import ZooKeeperClient
from metaq.errors import ConfigError
from metaq.files import OsFiles, OsThreads
from metaq.net.link import DEFAULT_LINK, Link, LinkOptions
from metaq.net.streams import Streams
from metaq.ports import Files, Network, Random, Threads


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """What a client reaches for outside itself; a simulated world hands in its own."""

    network: Network = field(default_factory=Streams)
    random: Random = field(default_factory=random.Random)
    session: SessionFactory | None = None  # to ZooKeeper; None: a real one
    files: Files = field(default_factory=OsFiles)
    threads: Callable[[], Threads] = lambda: OsThreads(asyncio.get_running_loop())  # called within the loop
    host: Host = field(default_factory=Host)
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)


def connect(
    url: str | None = None,
    *,
    connect_timeout: float = 10.0,
    timeout: float = 5.0,
    session_timeout: float = 30.0,
    link: LinkOptions = DEFAULT_LINK,
    outside: Outside | None = None,
) -> MessageQueue:
    """Return a client; `async with` or `await` opens it.

    `url`: `zk://host:port[,host:port…][/root]` or `metaq://host:port[,host:port…]`; None: what METAQ_URL says.
    `connect_timeout`: seconds until somebody must have answered when it opens; `timeout`: seconds one answer to a
    question may take later; `session_timeout`: seconds without a word after which ZooKeeper gives the partitions of our
    consumers to others (it may allow less, or want more). Raises ConfigError if the URL names nothing.
    """
    outside = Outside() if outside is None else outside
    url = outside.environment.get("METAQ_URL") if url is None else url
    if not url:
        raise ConfigError(f"no URL given and METAQ_URL is not set; wanted {FORMS}")
    target = parse_url(url)
    options = QueueOptions(connect_timeout=connect_timeout, timeout=timeout)
    if outside.session is None:
        outside = replace(outside, session=partial(ZooKeeperClient, session_timeout=session_timeout))
    return MessageQueue(lambda: _assemble(target, outside, link, timeout), outside.random, options)


def _assemble(target: ZooKeeperUrl | BrokersUrl, outside: Outside, link: LinkOptions, timeout: float) -> Cluster:
    """Put the parts of a client together. Nothing is dialled before the directory is opened."""
    changes = Changes()
    known: list[DirectDirectory] = []

    def changed(link: Link) -> None:
        for directory in known:
            directory.forget(link)
        changes.bump()

    links = Links(outside.network, outside.random, link, changed)
    files, threads, host = outside.files, outside.threads(), outside.host
    around = Surroundings(files=files, threads=threads)
    groups: Groups
    if isinstance(target, ZooKeeperUrl):
        assert outside.session is not None
        session = outside.session(target.hosts)
        routes = Routes(ZooKeeperDirectory(target, session, links, changes, timeout), links, changes)
        groups = ZooKeeperGroups(session, target.root, host, outside.random)
        around = replace(around, registry=session, root=target.root)
    else:
        directory = DirectDirectory(links, target.addresses, changes, timeout)
        known.append(directory)
        routes = Routes(directory, links, changes)
        groups = LoneGroups(routes, host, outside.random)
    return Cluster(routes, groups, Machine(files=files, threads=threads, host=host, around=around))
