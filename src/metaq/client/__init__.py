"""What applications import to send and read messages; `metaq.aio` and `metaq.sync` are the two faces of it."""

from metaq.client.browser import Browser
from metaq.client.connect import connect
from metaq.client.consuming.consumer import Consumer
from metaq.client.message import Message
from metaq.client.partitioner import ByKey, Selector
from metaq.client.producer import Producer
from metaq.client.queue import MessageQueue
from metaq.client.reader import Reader
from metaq.client.sending import Sent
from metaq.errors import (
    ConfigError,
    CorruptMessage,
    LinkClosed,
    MetaqError,
    NoBroker,
    Refused,
    RegistryError,
    RequestTimeout,
)
from metaq.model import BrokerPartition, Receipt

__all__ = [
    "BrokerPartition",
    "Browser",
    "ByKey",
    "ConfigError",
    "Consumer",
    "CorruptMessage",
    "LinkClosed",
    "Message",
    "MessageQueue",
    "MetaqError",
    "NoBroker",
    "Producer",
    "Reader",
    "Receipt",
    "Refused",
    "RegistryError",
    "RequestTimeout",
    "Selector",
    "Sent",
    "connect",
]
