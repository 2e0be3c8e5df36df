"""The numbers and the reader of docs/storage.md are true."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final
from zlib import crc32

from metaq.config.model import BrokerConfig
from metaq.record import pack as pack_record
from metaq.store import checkpoint as checkpoints
from metaq.store.checkpoint import Checkpoint, LogState, ProducerState
from metaq.store.entries import (
    Batch,
    Create,
    Cut,
    Epoch,
    Extent,
    FileHeader,
    Kind,
    Roll,
    Run,
    Stamp,
    pack,
    pack_file_header,
    pack_round_header,
)
from metaq.store.journal import Mark
from metaq.store.layout import JAVA_LOCK
from tests.unit.store.course import FAST, HOME, SAFE, opened

TEXT: Final = (Path(__file__).parents[3] / "docs" / "storage.md").read_text("utf-8")
HEADER: Final = FileHeader(3, 0, 0x0123456789ABCDEF, bytes.fromhex("00112233445566778899aabbccddeeff"), 17)
RECORD: Final = pack_record(1, 0, b"hello")
CREATE, ROLL, RUN = Create(5, 0, "orders", 2, ""), Roll(4, 1073741903), Run(5, 0, 0, RECORD)
PAYLOAD: Final = pack(CREATE) + pack(ROLL) + pack(RUN)

Rounds = Callable[[str, list[int]], Iterator[tuple[int, bytes]]]


def test_every_example_is_what_the_code_packs() -> None:
    examples = {
        name: bytes.fromhex(text) for name, text in re.findall(r"^```hex (.*)\n(.*)\n```$", TEXT, flags=re.MULTILINE)
    }
    packed = {
        "record id=1 flag=0 hello": RECORD,
        "file header generation=3 number=0 nonce=0x0123456789abcdef"
        " boot=00112233445566778899aabbccddeeff first=17": pack_file_header(HEADER)[:60],
        "round sequence=17 durable=16 highest_id=1": pack_round_header(
            HEADER.nonce, (17, 16, 1, len(PAYLOAD), crc32(PAYLOAD, HEADER.seed()))
        ),
        'create 5 base=0 orders 2 root=""': pack(CREATE),
        "roll 4 base=1073741903": pack(ROLL),
        "run 5 base=0 offset=0: the record above": pack(RUN),
        "stamped extent 5 base=0 offset=50 length=1048576 crc=0xdeadbeef stamp=9,1,7": pack(
            Extent(5, 0, 50, 1 << 20, 0xDEADBEEF, Stamp(9, 1, 7))
        ),
        "cut 5 to=25": pack(Cut(5, 25)),
        "stamp 5 offset=0 length=25 count=1 first_id=1 stamp=9,1,7": pack(Batch(5, 0, 25, 1, 1, Stamp(9, 1, 7))),
        "epoch 5 epoch=7 start=25": pack(Epoch(5, 7, 25)),
    }
    assert examples == packed
    assert TEXT.count("```hex") == len(packed)


def test_every_kind_of_entry_is_documented_with_its_number() -> None:
    table = dict(re.findall(r"^\| (\d+) \| ([a-z ]+?) \|", TEXT, flags=re.MULTILINE))
    assert table == {str(int(kind)): kind.name.lower().replace("_", " ") for kind in Kind}


def test_the_checkpoint_is_what_the_code_writes() -> None:
    made = Checkpoint(
        mark=Mark(3, 0, 4096 + 40 + len(PAYLOAD), 17, 123456),
        clean=False,
        highest_id=1,
        next_log_id=6,
        boot_id=HEADER.boot_id.hex(),
        logs=[
            LogState(4, "orders", 1, "", 1073741903, 1073741903, 1073741903),
            LogState(5, "orders", 2, "", 0, 25, 25, ((7, 25),)),
        ],
        producers=[ProducerState(9, 5, ((1, 7, 0, 25, 1, 1, 0.0),))],
    )
    text = re.search(r"^```text\n(.*?)^```$", TEXT, flags=re.MULTILINE | re.DOTALL)
    assert text is not None
    assert text[1] == checkpoints.encode(made).decode()


def test_the_defaults_are_those_of_the_code() -> None:
    table = dict(re.findall(r"^\| `(\w+)` \| (\d+) \|", TEXT, flags=re.MULTILINE))
    config = BrokerConfig(broker_id=0)
    assert table == {
        "journalFileSize": str(config.journal_file_size),
        "journalLimit": str(config.journal_limit),
        "tailMemory": str(config.tail_memory),
        "largeRun": str(config.large_run),
        "diskReserve": str(config.disk_reserve),
        "openFiles": str(config.open_files),
    }
    assert JAVA_LOCK in TEXT


def documented_reader() -> Rounds:
    code = re.search(r"^```python\n(.*?)^```$", TEXT, flags=re.MULTILINE | re.DOTALL)
    assert code is not None
    names: dict[str, Rounds] = {}
    exec(compile(code[1], "docs/storage.md", "exec"), names)
    return names["rounds"]


def test_the_documented_reader_reads_a_journal_of_several_files_and_generations(tmp_path: Path) -> None:
    with opened() as (world, life):

        async def course() -> int:
            life.open()
            life.put(SAFE, 300)
            await life.settle()
            await life.checkpoint()
            before = count = life.store.journal.sequence
            for _ in range(2):
                for _ in range(7):
                    life.put(SAFE, 900)
                    life.put(FAST, 900)
                    await life.settle()
                count = life.store.journal.sequence
                life.store.abandon()
                life.open()
            life.store.abandon()
            return count - before

        count = world.run(course())
        disk = life.machine.disk
        for entry in disk.list(f"{HOME}/pymetaq/journal"):
            (tmp_path / entry.name).write_bytes(disk.read(f"{HOME}/pymetaq/journal/{entry.name}"))
        state = checkpoints.load(disk, f"{HOME}/pymetaq/checkpoint")
        assert state is not None and state.mark.position
        read = list(documented_reader()(str(tmp_path), list(state.mark)))
        assert len(read) == count > 10
        journaled = b"".join(payload for _, payload in read)
        assert all(put.data in journaled for log in life.model.logs.values() for put in log.puts[1:])
