"""metaq: a durable, partitioned, replayable message log; MetaQ 1.4.6.2 again, in Python.

    with metaq.connect("zk://127.0.0.1:2181/meta") as mq:
        receipt = mq.producer("orders").send(b"hello", attribute="key")

`metaq.connect` is for plain code, `metaq.aio.connect` for asyncio. The names below are loaded when first used, so
that importing a part of the package loads only that part.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from metaq._version import __version__

if TYPE_CHECKING:
    from metaq import aio, sync
    from metaq.client.offsets import FileOffsets, MemoryOffsets, OffsetStore, SqlOffsets, positions_after
    from metaq.cluster.znodes import Position
    from metaq.errors import (
        ConfigError,
        CorruptMessage,
        CorruptSpool,
        LinkClosed,
        MetaqError,
        NoBroker,
        NoStoredOffset,
        NoTimeInIds,
        OffsetLost,
        OffsetStoreError,
        Refused,
        RegistryError,
        RequestTimeout,
        SpoolError,
        SpoolFull,
        SpoolLocked,
    )
    from metaq.model import BrokerPartition, ClusterPartition, Receipt
    from metaq.sync import (
        Browser,
        ByKey,
        Consumer,
        ConsumerOptions,
        Message,
        MessageQueue,
        OneWayOptions,
        OneWayProducer,
        OrderedOptions,
        OrderedProducer,
        Producer,
        Reader,
        Spooled,
        SpoolLimits,
        connect,
    )

__all__ = [
    "BrokerPartition",
    "Browser",
    "ByKey",
    "ClusterPartition",
    "ConfigError",
    "Consumer",
    "ConsumerOptions",
    "CorruptMessage",
    "CorruptSpool",
    "FileOffsets",
    "LinkClosed",
    "MemoryOffsets",
    "Message",
    "MessageQueue",
    "MetaqError",
    "NoBroker",
    "NoStoredOffset",
    "NoTimeInIds",
    "OffsetLost",
    "OffsetStore",
    "OffsetStoreError",
    "OneWayOptions",
    "OneWayProducer",
    "OrderedOptions",
    "OrderedProducer",
    "Position",
    "Producer",
    "Reader",
    "Receipt",
    "Refused",
    "RegistryError",
    "RequestTimeout",
    "SpoolError",
    "SpoolFull",
    "SpoolLimits",
    "SpoolLocked",
    "Spooled",
    "SqlOffsets",
    "__version__",
    "aio",
    "connect",
    "positions_after",
    "sync",
]


def __getattr__(name: str) -> object:
    """Load a public name when it is first used."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in ("aio", "sync"):
        return import_module(f"{__name__}.{name}")
    value: object = getattr(import_module("metaq.sync"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
