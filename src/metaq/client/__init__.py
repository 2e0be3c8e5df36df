"""What applications import to send and read messages; `metaq.aio` and `metaq.sync` are the two faces of it."""

from metaq.client.browser import Browser
from metaq.client.connect import connect
from metaq.client.consuming.consumer import Consumer
from metaq.client.consuming.options import ConsumerOptions
from metaq.client.message import Message
from metaq.client.offsets import FileOffsets, MemoryOffsets, OffsetStore, SqlOffsets, positions_after
from metaq.client.partitioner import ByKey, Selector
from metaq.client.producer import Producer
from metaq.client.producing.items import Spooled
from metaq.client.producing.one_way import OneWayProducer
from metaq.client.producing.options import OneWayOptions, OrderedOptions
from metaq.client.producing.ordered import OrderedProducer
from metaq.client.queue import MessageQueue
from metaq.client.reader import Reader
from metaq.client.sending import Sent
from metaq.client.spool import SpoolLimits
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
    "Selector",
    "Sent",
    "SpoolError",
    "SpoolFull",
    "SpoolLimits",
    "SpoolLocked",
    "Spooled",
    "SqlOffsets",
    "connect",
    "positions_after",
]
