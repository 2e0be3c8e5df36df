"""The commands and replies of the wire, as values, for both directions (reference: protocol.md §2, §6.1)."""

from enum import Enum
from typing import NamedTuple, TypeAlias

from metaq.errors import Status
from metaq.model import TopicPartition
from metaq.txid import TransactionId


class Put(NamedTuple):
    """Store one message. `checksum` -1: none was sent. `target.partition` -1: the broker chooses."""

    target: TopicPartition
    body: bytes
    flag: int
    checksum: int
    opaque: int
    transaction: TransactionId | None = None


class Mput(NamedTuple):
    """Store so many messages of one partition, all or none (metaq). `records` stand one behind the other, their ids 0.

    `producer` 0: no stamp. Else the batch is the one numbered `sequence` of those that this producer sends to this
    partition in this epoch of its, from 0 on.
    """

    target: TopicPartition
    records: bytes
    record_count: int
    producer: int
    epoch: int
    sequence: int
    opaque: int


class Oversized(NamedTuple):
    """A put, mput, sync or msync whose body is over the limit; it is skipped, `size` is its announced length.

    `batch_limit`: the limit it is over, of an mput or msync; 0 of the others.
    """

    target: TopicPartition
    size: int
    opaque: int
    batch_limit: int = 0


class Sync(NamedTuple):
    """Store one message under the id its master gave it (synchronous replication)."""

    target: TopicPartition
    body: bytes
    flag: int
    id: int
    checksum: int
    opaque: int


class Msync(NamedTuple):
    """Have these bytes at `offset`, in the segment that begins at `base` (metaq, synchronous replication).

    No bytes: the log shall end at `offset`; what is beyond it goes. `stamps`: packed, of batches that end in `records`.
    """

    target: TopicPartition
    records: bytes
    base: int
    offset: int
    opaque: int
    stamps: bytes = b""


class Get(NamedTuple):
    """Read at most `max_size` bytes from `offset` on. `wait` (metaq): ms to wait for something to be there."""

    target: TopicPartition
    group: str
    offset: int
    max_size: int
    opaque: int
    wait: int = 0


class Want(NamedTuple):
    """One partition of an mget: at most `max_size` bytes from `offset` on."""

    target: TopicPartition
    offset: int
    max_size: int


class Mget(NamedTuple):
    """Read several partitions, together at most about `max_size` bytes (metaq); `wait` in ms, until one has any.

    `stamps`: with those of the batches that the data is of, for a replica.
    """

    group: str
    wants: tuple[Want, ...]
    max_size: int
    wait: int
    opaque: int
    stamps: bool = False


class Offset(NamedTuple):
    """Ask for the nearest valid offset."""

    target: TopicPartition
    group: str
    offset: int
    opaque: int


class Stats(NamedTuple):
    """Ask for statistics; `item` "" is the summary."""

    item: str
    opaque: int


class Version(NamedTuple):
    """Ask for the version; also the heartbeat. `extensions`: the surplus tokens (design.md §6: `metaq`)."""

    opaque: int
    extensions: tuple[str, ...] = ()


class Quit(NamedTuple):
    """End the connection after the replies that are ready."""


class Operation(Enum):
    """What a `transaction` command asks for."""

    BEGIN = "BEGIN"
    END = "END"
    PREPARE = "PREPARE"
    COMMIT_ONE_PHASE = "COMMIT_ONE_PHASE"
    COMMIT_TWO_PHASE = "COMMIT_TWO_PHASE"
    ROLLBACK = "ROLLBACK"
    RECOVER = "RECOVER"
    FORGET = "FORGET"


class Transaction(NamedTuple):
    """Move a transaction on. `timeout` in seconds, 0: none given. `qualifier` None: none given."""

    id: TransactionId
    session: str
    operation: Operation
    timeout: int
    qualifier: str | None
    opaque: int


class Result(NamedTuple):
    """A reply with a status and a text (raw bytes: `stats config` sends a file)."""

    status: Status | int
    body: bytes
    opaque: int


class Value(NamedTuple):
    """A reply to get: raw bytes of a partition, records, the last one perhaps cut."""

    data: bytes
    opaque: int


Request: TypeAlias = Put | Mput | Oversized | Sync | Msync | Get | Mget | Offset | Stats | Version | Quit | Transaction
Reply: TypeAlias = Result | Value
Command: TypeAlias = Request | Reply
