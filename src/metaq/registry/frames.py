"""Bytes as they come off a socket → packets. Before each stands its length, an int."""

from typing import Final

from metaq.registry.jute import INT

_HEAD: Final = 4


class Frames:
    """Collects bytes until packets are whole."""

    def __init__(self, limit: int) -> None:
        """Take the most bytes that a packet may have."""
        self._limit = limit
        self._rest = bytearray()
        self._wanted = _HEAD
        self.error: str | None = None

    def feed(self, data: bytes) -> list[bytes]:
        """Return the packets that are whole now.

        A length that none may have sets `error`; what came before it is good, whatever comes after makes no sense.
        """
        if self._rest:
            self._rest += data
            if len(self._rest) < self._wanted:
                return []
            data = bytes(self._rest)
        packets: list[bytes] = []
        position, end = 0, len(data)
        self._wanted = _HEAD
        while end - position >= _HEAD and self.error is None:
            (size,) = INT.unpack_from(data, position)
            following = position + _HEAD + size
            if not 0 <= size <= self._limit:
                self.error = f"a packet of {size} bytes, the limit is {self._limit}"
            elif following > end:
                self._wanted = _HEAD + size
                break
            else:
                packets.append(data[position + _HEAD : following])
                position = following
        self._rest = bytearray(data[position:])
        return packets
