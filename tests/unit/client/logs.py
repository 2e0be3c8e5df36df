"""A partition without network: segments of records, asked through what stands for a link."""

from collections.abc import Callable, Coroutine
from typing import Final, TypeVar, cast

from metaq.model import BrokerAddress, TopicPartition
from metaq.net.link import Link
from metaq.protocol.commands import Get, Offset, Reply, Result, Value
from metaq.protocol.decoder import Decoder

T = TypeVar("T")

TARGET: Final = TopicPartition("t", 0)
_LATEST: Final = (1 << 63) - 1


class SegmentedLog:
    """Answers get and offset as brokers do: at most `most` bytes, and none of the next segment."""

    def __init__(self, segments: list[bytes], *, base: int = 0, most: int = 1 << 20) -> None:
        self.segments = segments
        self.base = base
        self.most = most
        self.gets = 0
        self.before_get: Callable[[], None] = lambda: None
        self.address = BrokerAddress("nowhere", 1)

    @property
    def end(self) -> int:
        return self.base + sum(map(len, self.segments))

    @property
    def link(self) -> Link:
        return cast(Link, self)

    async def request(self, build: Callable[[int], bytes], timeout: float) -> Reply:
        [command] = Decoder().feed(build(7))
        match command:
            case Get(_, _, offset, size, _):
                self.gets += 1
                self.before_get()
                return self._get(offset, min(size, self.most))
            case Offset(_, _, offset, _):
                return Result(200, str(self.end if offset == _LATEST else self.base).encode(), 7)
        raise AssertionError(command)

    def read(self, offset: int, size: int) -> bytes | None:
        """Return what get returns, None if that is nothing."""
        start = self.base
        for segment in self.segments:
            if start <= offset < start + len(segment):
                return segment[offset - start : offset - start + size]
            start += len(segment)
        return None

    def _get(self, offset: int, size: int) -> Reply:
        if offset < self.base:
            return Result(301, str(self.base).encode(), 7)
        data = self.read(offset, size)
        return Result(404, b"", 7) if data is None else Value(data, 7)


def outcome(work: Coroutine[object, object, T]) -> T:
    """Return what a coroutine returns that waits for nothing."""
    try:
        work.send(None)
    except StopIteration as exc:
        return cast(T, exc.value)
    raise AssertionError("it waits")
