"""The encoding of ZooKeeper's packets, called jute: everything big-endian (source: org.apache.jute.BinaryInputArchive).

bool    1 byte, 0 or 1
int     4 bytes, signed
long    8 bytes, signed
buffer  int length, so many bytes; length −1: null
string  as a buffer, UTF-8
vector  int count, so many items; count −1: null, read here as none
"""

from collections.abc import Callable, Sequence
from struct import Struct
from struct import error as StructError
from typing import Final, TypeVar

from metaq.errors import ProtocolError

T = TypeVar("T")

INT: Final = Struct(">i")
LONG: Final = Struct(">q")


class Reader:
    """Takes values off a packet, one behind the other. Raises ProtocolError where they end or make no sense."""

    __slots__ = ("_data", "_position")

    def __init__(self, data: bytes, position: int = 0) -> None:
        self._data = data
        self._position = position

    @property
    def left(self) -> int:
        """Bytes that were not read yet."""
        return len(self._data) - self._position

    def read_int(self) -> int:
        position = self._position
        self._position = position + 4
        try:
            value: int = INT.unpack_from(self._data, position)[0]
        except StructError:
            raise self._ends_too_early() from None
        return value

    def read_long(self) -> int:
        position = self._position
        self._position = position + 8
        try:
            value: int = LONG.unpack_from(self._data, position)[0]
        except StructError:
            raise self._ends_too_early() from None
        return value

    def read_bool(self) -> bool:
        position = self._position
        self._position = position + 1
        if position >= len(self._data):
            raise self._ends_too_early()
        return self._data[position] != 0

    def read_buffer(self) -> bytes | None:
        size = self.read_int()
        start = self._position
        data = self._data[start : start + size]
        if len(data) != size:
            if size == -1:
                return None
            if size < 0:
                raise ProtocolError(f"a length of {size} bytes")
            self._position += size
            raise self._ends_too_early()
        self._position = start + size
        return data

    def read_string(self) -> str:
        """Return a string; null becomes the empty one, which no path and no name may be."""
        try:
            return (self.read_buffer() or b"").decode()
        except UnicodeDecodeError as exc:
            raise ProtocolError(f"a string that is not UTF-8: {exc.reason}") from None

    def read_vector(self, item: Callable[["Reader"], T]) -> list[T]:
        """Return so many items as the count says; each takes a byte at least, so a count cannot ask for more memory."""
        count = self.read_int()
        if count < -1 or count > self.left:
            raise ProtocolError(f"a vector of {count} items in {self.left} bytes")
        return [item(self) for _ in range(count)]

    def rest(self) -> bytes:
        """Return all bytes that were not read yet; they stay so."""
        return self._data[self._position :]

    def skip(self, expected: bytes) -> bool:
        """Return whether these bytes are next; then they are read."""
        found = self._data.startswith(expected, self._position)
        if found:
            self._position += len(expected)
        return found

    def _ends_too_early(self) -> ProtocolError:
        return ProtocolError(f"a packet that ends {-self.left} bytes too early")


def pack_buffer(data: bytes | None) -> bytes:
    return INT.pack(-1) if data is None else INT.pack(len(data)) + data


def pack_string(text: str) -> bytes:
    data = text.encode()
    return INT.pack(len(data)) + data


def pack_vector(items: Sequence[bytes]) -> bytes:
    """Return a vector of items that are packed already."""
    return INT.pack(len(items)) + b"".join(items)
