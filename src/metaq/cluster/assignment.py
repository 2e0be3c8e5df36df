"""Which member of a group owns which partition, exactly as 1.4.6.2 divides them. Pure.

Each member divides for itself. That agrees only because all have the same two lists, consumers and partition texts,
both sorted as Java sorts text, and the same strategy, which is published nowhere.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from hashlib import md5
from itertools import accumulate
from struct import Struct
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

Strategy: TypeAlias = Literal["default", "consistent"]
Assignment: TypeAlias = Mapping[str, Sequence[str]]

_POINTS: Final = Struct("<4I")  # one MD5 gives four points of the ring
_POINT: Final = Struct("<I")
_DIGESTS: Final = 40  # per consumer, hence 160 points
_KEPT: Final = 64  # divisions and rings: a few topics of a few groups; who was in a group before needs none


def sort_texts(texts: Iterable[str]) -> tuple[str, ...]:
    """Return texts in the order of their UTF-16 code units, each once: `0-10` comes before `0-2`."""
    return tuple(sorted(set(texts), key=lambda text: text.encode("utf-16-be", "surrogatepass")))


def assign(strategy: Strategy, consumers: tuple[str, ...], partitions: tuple[str, ...]) -> Assignment:
    """Return the partitions of each consumer of one topic; both lists as `sort_texts` gives them.

    Every partition is in exactly one list if there is any consumer. Consumers that get nothing may be missing.
    The latest answers are kept, so that many members of one process divide once.
    """
    return _STRATEGIES[strategy](consumers, partitions)


@lru_cache(_KEPT)
def _slices(consumers: tuple[str, ...], partitions: tuple[str, ...]) -> Assignment:
    """Give each consumer a slice, the first ones one partition more (reference: DefaultLoadBalanceStrategy)."""
    if not consumers:
        return {}
    least, more = divmod(len(partitions), len(consumers))
    ends = accumulate(least + (index < more) for index in range(len(consumers)))
    starts = [0, *ends]
    return MappingProxyType(
        {each: partitions[starts[index] : starts[index + 1]] for index, each in enumerate(consumers)}
    )


@lru_cache(_KEPT)
def _around_ring(consumers: tuple[str, ...], partitions: tuple[str, ...]) -> Assignment:
    """Give each partition to the next consumer on a ring of hashes (reference: ConsisHashStrategy)."""
    points, owners = _ring(consumers)
    found: dict[str, list[str]] = {}
    if points:
        for partition in partitions:
            index = bisect_left(points, position(partition)) % len(points)
            found.setdefault(owners[index], []).append(partition)
    return MappingProxyType(found)


@lru_cache(_KEPT)
def _ring(consumers: tuple[str, ...]) -> tuple[list[int], list[str]]:
    """Return the points of the ring in order, and who owns each; where two meet, the later consumer has it."""
    owners: dict[int, str] = {}
    for consumer in consumers:
        for index in range(_DIGESTS):
            for point in _POINTS.unpack(_md5(f"{consumer}-{index}")):
                owners[point] = consumer
    points = sorted(owners)
    return points, [owners[point] for point in points]


def position(partition: str) -> int:
    """Return where a partition lies on the ring (reference: HashAlgorithm.KETAMA_HASH)."""
    found: int = _POINT.unpack_from(_md5(partition))[0]
    return found


def _md5(text: str) -> bytes:
    # Java writes "?" for half a surrogate pair
    return md5(text.encode("utf-8", "replace"), usedforsecurity=False).digest()


_STRATEGIES: Final[Mapping[Strategy, Callable[[tuple[str, ...], tuple[str, ...]], Assignment]]] = MappingProxyType(
    {"default": _slices, "consistent": _around_ring}
)
