"""Every error metaq raises, in one tree, and the status codes of the wire.

MetaqError
├── ConfigError              server.ini or an argument is wrong; the message says where and what would be right
├── ProtocolError            the peer broke the protocol; drop the connection
├── RequestError             this request failed; the connection is still good. `.status` goes on the wire
│   ├── TopicNotAccepted     500
│   ├── WrongPartition       500
│   ├── ChecksumMismatch     500
│   ├── MessageTooLarge      500
│   ├── InvalidMessage       500   flag and attribute prefix do not fit the body
│   ├── PartitionClosed      403
│   ├── PartitionNotFound    404   no such topic-partition here
│   ├── NothingAtOffset      404   nothing to read there yet
│   ├── OffsetMoved          301   `.offset` is the one to use instead
│   ├── BadRequest           400
│   ├── SequenceConflict     409   not the producer's next batch; epoch and sequence that would be are named
│   ├── DiskFull             500
│   ├── NotCopied            500   the other broker of a pair has not got it, or is away
│   └── Unsupported          500
├── StoreError               the message log, or what the registry keeps; it stops or does not start
│   ├── StoreLocked          another process has the directory
│   ├── CorruptStore         file and position named; nothing was changed
│   ├── ForeignBytes         partition files grew behind our journal; ways out named
│   └── SegmentMismatch      copied records belong to a segment that is not the last one here; nothing was changed
├── RegistryError            ZooKeeper refused or stayed away
└── ClientError
    ├── LinkClosed           the connection ended before the answer; retriable
    ├── RequestTimeout       no answer in time; the request may have been carried out; retriable
    ├── NoBroker             nobody serves this topic or partition at present; retriable
    ├── Refused              the broker answered with an error; `.status`, `.text`
    ├── SpoolError           messages could not be kept on, or read from, the disk of this machine
    │   ├── SpoolLocked      another process, or another client of this one, has the folder
    │   ├── SpoolFull        as much waits there as is allowed, or the disk is full
    │   └── CorruptSpool     bytes that were durable are gone or changed; file and position named
    ├── OffsetStoreError     what keeps the offsets of groups cannot be read or written now; retriable
    ├── CorruptMessage       a fetched record fails its checksum
    ├── NoStoredOffset       a group has no offset in a partition, and shall go on from a stored one only
    ├── NoTimeInIds          the messages of a partition do not tell when they were stored
    └── OffsetLost           a group's stored offset is not in the log, and shall go on from there only
"""

from enum import IntEnum
from typing import ClassVar


class Status(IntEnum):
    """Status codes of `result` replies (reference: HttpStatus)."""

    SUCCESS = 200
    MOVED = 301
    BAD_REQUEST = 400
    UNAUTHORIZED = 401
    FORBIDDEN = 403
    NOT_FOUND = 404
    CONFLICT = 409  # of ours alone
    ERROR = 500
    UNAVAILABLE = 503
    TIMEOUT = 504


class MetaqError(Exception):
    """Root of all errors of this package."""


class ConfigError(MetaqError):
    """The configuration cannot be used as it is."""


class ProtocolError(MetaqError):
    """The peer sent bytes that are no command; the connection is of no further use."""


class RequestError(MetaqError):
    """This request failed; the connection is still good."""

    status: ClassVar[Status] = Status.ERROR


class TopicNotAccepted(RequestError):
    """No section of server.ini names the topic."""

    def __init__(self, topic: str) -> None:
        super().__init__(f"The server do not accept topic {topic}")


class WrongPartition(RequestError):
    """The partition is not one of 0 … numPartitions-1."""

    def __init__(self, partition: int) -> None:
        super().__init__(f"wrong partition {partition}")


class ChecksumMismatch(RequestError):
    """The checksum sent with the message is not that of its body."""

    def __init__(self) -> None:
        super().__init__("Checksum failure,message may be corrupted when transfering on networking.")


class MessageTooLarge(RequestError):
    """Nobody could fetch a message of this size, so it is not stored; or a batch has more than it may."""

    def __init__(self, size: int, limit: int, what: str = "message") -> None:
        super().__init__(f"{what} of {size} bytes is larger than the limit of {limit}")


class InvalidMessage(RequestError):
    """Flag bit 0 announces an attribute, but the body does not begin with one that fits."""


class PartitionClosed(RequestError):
    """An administrator closed the partition."""

    status = Status.FORBIDDEN


class PartitionNotFound(RequestError):
    """This broker has no such partition."""

    status = Status.NOT_FOUND

    def __init__(self, topic: str, partition: int) -> None:
        super().__init__(f"The topic `{topic}` in partition `{partition}` is not exists")


class NothingAtOffset(RequestError):
    """The offset is at or beyond the end of the log, or in a hole."""

    status = Status.NOT_FOUND

    def __init__(self, offset: int) -> None:
        super().__init__(f"Could not find message at position {offset}")


class OffsetMoved(RequestError):
    """The offset is outside the log; `.offset` is the one to go on from."""

    status = Status.MOVED

    def __init__(self, offset: int) -> None:
        super().__init__(str(offset))
        self.offset = offset


class BadRequest(RequestError):
    """A number in the request makes no sense."""

    status = Status.BAD_REQUEST


class SequenceConflict(RequestError):
    """A batch is neither a producer's next one in its partition nor one of the last; the text begins with the next."""

    status = Status.CONFLICT

    def __init__(self, next_epoch: int, next_sequence: int, epoch: int, sequence: int) -> None:
        super().__init__(f"{next_epoch} {next_sequence} would be next, not batch {sequence} of epoch {epoch}")


class DiskFull(RequestError):
    """Less space is left on the file system than the reserve; reads go on, puts do not."""


class NotCopied(RequestError):
    """A message is not on the other broker of a synchronous pair: it is not stored, or not seen before it is there."""


class Unsupported(RequestError):
    """This broker does not do that."""


class StoreError(MetaqError):
    """The message log, or what the registry keeps, cannot go on."""


class StoreLocked(StoreError):
    """Another process has the directory open."""


class CorruptStore(StoreError):
    """Bytes that were durable are gone or changed."""


class ForeignBytes(StoreError):
    """Partition files hold bytes our journal does not know, written while we were not looking."""


class SegmentMismatch(StoreError):
    """Copied records belong to a segment that is not the last one here, nor begins at the end. Nothing was changed."""


class RegistryError(MetaqError):
    """ZooKeeper refused, or stayed away too long."""


class ClientError(MetaqError):
    """Something a client asked for did not happen."""

    retriable: ClassVar[bool] = False


class LinkClosed(ClientError):
    """The connection ended before the answer came. The request may have been carried out."""

    retriable = True


class RequestTimeout(ClientError, TimeoutError):
    """No answer in time. The request may have been carried out."""

    retriable = True


class NoBroker(ClientError):
    """Nobody serves this topic or partition at present."""

    retriable = True


class Refused(ClientError):
    """The broker answered with an error; `.status` is its code, `.text` its words."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status}: {text}")
        self.status = status
        self.text = text


class SpoolError(ClientError):
    """Messages could not be kept on, or read from, the disk of this machine."""


class SpoolLocked(SpoolError):
    """Another process, or another client of this one, has the folder."""


class SpoolFull(SpoolError):
    """As much waits in a spool as is allowed, or the disk is full. The message was not taken."""

    retriable = True


class CorruptSpool(SpoolError):
    """Bytes of a spool that were durable are gone or changed."""


class OffsetStoreError(ClientError):
    """What keeps the offsets of groups cannot be read or written now; the message says what to do about it."""

    retriable = True


class CorruptMessage(ClientError):
    """A fetched record fails its checksum or has an impossible shape."""


class NoStoredOffset(ClientError):
    """A group has nothing stored for a partition, and its consumer was told to go on from what is stored only."""


class OffsetLost(ClientError):
    """A group's stored offset is not in the log any more, or not yet, and its consumer may go on from there only."""


class NoTimeInIds(ClientError):
    """The ids of a partition's messages do not tell when they were stored: a broker of 1.4.6.2 gave them."""
