"""What a changed server.ini means for a running broker; pure (reference: config.md §7, MetaConfig.reload).

The whole new file is checked before anything is taken from it, so a bad one changes nothing. Topics come from the new
file; [system], [zookeeper] and [pymetaq] stay those of the start, also as defaults of the topics.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from metaq.config import keys
from metaq.config.broker import OURS, Document, parse, read_topics
from metaq.config.model import BrokerConfig

SECTIONS = {"system": keys.SYSTEM, "zookeeper": keys.ZOOKEEPER, OURS: keys.PYMETAQ}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reloaded:
    """The configuration to go on with, and what is different; topics in the order of their file.

    `restart` names keys that differ from the running broker's and need a restart, as `[system] serverPort`.
    """

    config: BrokerConfig
    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()


def reload(
    current: BrokerConfig,
    data: bytes,
    *,
    env: Mapping[str, str] = os.environ,
    is_dir: Callable[[str], bool] = os.path.isdir,
) -> Reloaded:
    """Return what the new content of `current.path` leads to. ConfigError if it is wrong anywhere."""
    fresh = parse(data, current.path, env=env, is_dir=is_dir)
    topics, _ = read_topics(Document(data, current.path), current.defaults)
    before = {topic.name: topic for topic in current.topics}
    names = {topic.name for topic in topics}
    return Reloaded(
        config=replace(current, topics=topics, text=data, checksum=fresh.checksum, warnings=fresh.warnings),
        added=tuple(topic.name for topic in topics if topic.name not in before),
        changed=tuple(topic.name for topic in topics if before.get(topic.name, topic) != topic),
        removed=tuple(name for name in before if name not in names),
        restart=tuple(
            f"[{section}] {name}"
            for section, known in SECTIONS.items()
            for name, field in known.items()
            if setting(fresh, field) != setting(current, field)
        ),
    )


def setting(config: BrokerConfig, field: str) -> object:
    """Return the value of a field of `keys`, a dotted one from a part of the configuration."""
    value: object = config
    for name in field.split("."):
        value = getattr(value, name)
    return value
