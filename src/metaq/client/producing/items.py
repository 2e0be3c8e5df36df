"""What waits in the spool of a producer: messages as bytes, and what their senders are told. Pure."""

from dataclasses import dataclass
from struct import Struct
from typing import Final, NamedTuple

from metaq.errors import CorruptMessage, CorruptSpool
from metaq.model import BrokerPartition
from metaq.record import decode_body, encode_body

# An item (big-endian); the partition is -1 -1 where any will do. The body is that of a record.
#   0      4           8           12
#   | flag | broker id | partition | body |
_HEAD: Final = Struct(">iii")


@dataclass(frozen=True, slots=True)
class Spooled:
    """Instead of a receipt: the message is on the disk of this machine, and will be sent to this partition.

    It has no id and no offset yet, and nobody can read it.
    """

    partition: str  # <brokerId>-<partition>


class Item(NamedTuple):
    """A message on its way. `partition` None: any will do."""

    data: bytes
    attribute: str | None
    partition: BrokerPartition | None

    @property
    def size(self) -> int:
        """How many bytes it takes in a spool, a few more at most."""
        return _HEAD.size + 4 + len(self.data) + (len(self.attribute.encode()) if self.attribute else 0)


def pack_item(item: Item) -> bytes:
    """Return the bytes that are kept."""
    flag, body = encode_body(item.data, item.attribute)
    return _HEAD.pack(flag, *(item.partition or (-1, -1))) + body


def unpack_item(data: bytes) -> Item:
    """Return the message that was kept. Raises CorruptSpool."""
    if len(data) < _HEAD.size:
        raise CorruptSpool(f"{len(data)} bytes are no message that was kept")
    flag, broker_id, partition = _HEAD.unpack_from(data)
    try:
        body, attribute = decode_body(flag, data[_HEAD.size :])
    except CorruptMessage as exc:
        raise CorruptSpool(f"{len(data)} bytes are no message that was kept: {exc}") from exc
    return Item(body, attribute, None if broker_id < 0 else BrokerPartition(broker_id, partition))
