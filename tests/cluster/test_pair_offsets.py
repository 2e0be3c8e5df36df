"""recoverOffset: groups go on behind the message that they had last, wherever it stands now."""

from pathlib import Path

from metaq.cluster.memory import MemoryRegistry, MemoryTree
from metaq.model import TopicPartition
from metaq.record import pack, walk
from metaq.replication.pair.recovering import recover_offsets
from metaq.store.store import MessageStore
from tests.embedding import Dial, configured, serving, settings

TOPIC = "[topic=test]\nnumPartitions=1\n"


async def filled(store: MessageStore, port: int) -> list[tuple[int, int]]:
    """Put 40 messages into several segments; return (id, end) of each."""
    dial = Dial(port)
    peer = await dial()
    for number in range(40):
        assert b"result 200" in await peer.asks(b"put test 0 50 0 %d\r\n" % number + b"%050d" % number)
    await dial.end()
    log = store.get(TopicPartition("test", 0))
    assert log is not None
    assert len(log.bases) > 3
    ends = []
    for base, stop in zip(log.bases, [*log.bases[1:], log.end], strict=True):
        found = store.slice(log, base, stop - base)
        assert isinstance(found, list)
        ends += [(record.id, base + record.position + 70) for record in walk(b"".join(found))]
    return ends


async def test_each_group_goes_on_behind_the_message_it_had_last(tmp_path: Path) -> None:
    async with serving(configured(tmp_path, settings(tmp_path, {"maxSegmentSize": 600}, topics=TOPIC))) as broker:
        store = broker.running.broker.store
        ends = await filled(store, broker.port)
        registry = MemoryRegistry(MemoryTree())
        await registry.connect()
        (first_id, first_end), (third_id, third_end), (last_id, last_end) = ends[0], ends[2], ends[-1]
        before = {
            "moved": f"{third_id}-{third_end + 111}",
            "right": f"{last_id}-{last_end}",
            "first": f"{first_id}-0",
            "ahead": f"{last_id + 1000}-999999",
            "older": f"{first_id - 1}-50",
            "new": "-1-0",
            "ancient": "1234",
            "odd": "not a number",
        }
        for group, text in before.items():
            await registry.create(f"/meta/consumers/{group}/offsets/test/0-0", text.encode())
        await registry.create("/meta/consumers/idle/ids", None)
        assert await recover_offsets(registry, "/meta", 0, store) == 4
        after = {}
        for group in before:
            node = await registry.get(f"/meta/consumers/{group}/offsets/test/0-0")
            assert node is not None
            assert node.data is not None
            after[group] = node.data.decode()
        assert after == {
            "moved": f"{third_id}-{third_end}",
            "right": f"{last_id}-{last_end}",
            "first": f"{first_id}-{first_end}",
            "ahead": f"{last_id + 1000}-{last_end}",
            "older": f"{first_id - 1}-0",
            "new": "-1-0",
            "ancient": "1234",
            "odd": "not a number",
        }


async def test_ids_that_begin_again_below_zero_are_found_and_what_is_broken_holds_nothing_up(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "test-0"
    folder.mkdir(parents=True)
    after = pack(-900, 0, b"after the machine was started again")
    before = pack(-20, 0, b"before") + pack(-10, 0, b"before, too")
    (folder / f"{0:020d}.meta").write_bytes(before)
    (folder / f"{len(before):020d}.meta").write_bytes(after)
    broken = len(before) + len(after)
    (folder / f"{broken:020d}.meta").write_bytes(bytes([after[0] ^ 1]) + after[1:])
    (folder / f"{broken + len(after):020d}.meta").write_bytes(pack(-800, 0, b"last"))
    async with serving(configured(tmp_path, settings(tmp_path, topics=TOPIC))) as broker:
        store = broker.running.broker.store
        registry = MemoryRegistry(MemoryTree())
        await registry.connect()
        path = "/meta/consumers/{}/offsets/test/0-0"
        for group, text in {"old": "-10-999", "new": "-900-5", "lost": "-15-7"}.items():
            await registry.create(path.format(group), text.encode())
        assert await recover_offsets(registry, "/meta", 0, store) == 2
        found = {group: await registry.get(path.format(group)) for group in ("old", "new", "lost")}
    assert {group: node and node.data for group, node in found.items()} == {
        "old": b"-10-%d" % len(before),
        "new": b"-900-%d" % broken,
        "lost": b"-15-7",  # ids do not ascend, so nobody can tell what came after it
    }
