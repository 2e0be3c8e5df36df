"""Whatever is asked for, a get returns the bytes of the log, from memory, from files, or from both."""

import asyncio
from pathlib import Path
from random import Random

import pytest

from metaq.model import TopicPartition
from metaq.record import HEADER_SIZE
from tests.embedding import Dial, Serving, configured, serving, settings
from tests.faults.checker import read_log

LIMIT = 5000  # maxTransferSize
SEGMENT = 8000
TARGET = TopicPartition("test", 0)
EVERYTHING_MOVES = {"tailMemory": 1 << 14}


async def fill(dial: Dial, chance: Random, count: int) -> list[int]:
    """Put messages of many sizes; return the offset of each."""
    peer = await dial()
    offsets = []
    for _ in range(count):
        size = chance.choice([0, 1, 50, 700, 3000])
        reply = await peer.asks(b"put test 0 %d 0 -1 1\r\n%b" % (size, chance.randbytes(size)))
        offsets.append(int(reply.split(b" ")[-1]))
    return offsets


def segment_ends(offsets: list[int], end: int) -> list[int]:
    """Return where segments end: at the first message that begins at or beyond the limit."""
    ends, base = [], 0
    for offset in [*offsets, end]:
        if offset - base >= SEGMENT:
            ends.append(offset)
            base = offset
    return ends if ends[-1:] == [end] else [*ends, end]


async def ask_for_anything(dial: Dial, chance: Random, offsets: list[int]) -> None:
    """Compare many gets, at boundaries and anywhere, with what the log holds."""
    peer = await dial()
    log = await read_log(peer, TARGET)
    ends = segment_ends(offsets, len(log))
    for _ in range(300):
        offset = chance.choice([chance.randrange(len(log)), chance.choice(offsets)])
        size = chance.choice([1, HEADER_SIZE, 100, LIMIT, LIMIT * 10, chance.randrange(1, LIMIT)])
        end = min(offset + min(size, LIMIT), next(end for end in ends if end > offset))
        reply = await peer.asks(b"get test g 0 %d %d 1\r\n" % (offset, size))
        assert reply == b"value %d 1\r\n%b" % (end - offset, log[offset:end])
        reply = await peer.asks(b"offset test g 0 %d 1\r\n" % offset)
        assert int(reply.partition(b"\r\n")[2]) == max(base for base in [0, *ends] if base <= offset)


async def moved(broker: Serving) -> None:
    """Return when the background writer has moved what it was to move."""
    log = broker.running.broker.store.get(TARGET)
    assert log is not None
    async with asyncio.timeout(10):
        while log.moved == 0:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("pymetaq", [{}, EVERYTHING_MOVES], ids=["in memory", "half in files"])
async def test_a_get_returns_the_bytes_of_the_log_and_stops_at_the_end_of_a_segment(
    pymetaq: dict[str, object], folder: Path
) -> None:
    chance = Random(8)
    system = {"maxSegmentSize": SEGMENT, "maxTransferSize": LIMIT}
    config = configured(folder, settings(folder, system, pymetaq))
    async with serving(config) as broker:
        dial = Dial(broker.port)
        offsets = await fill(dial, chance, 80)
        if pymetaq:
            await moved(broker)
        await ask_for_anything(dial, chance, offsets)
        await dial.end()
    async with serving(config) as broker:
        dial = Dial(broker.port)
        await ask_for_anything(dial, chance, offsets)
        offsets += await fill(dial, chance, 30)
        await ask_for_anything(dial, chance, offsets)
        await dial.end()
