"""The bytes in docs/registry.md are those the code packs."""

import re
from pathlib import Path
from typing import Final

from metaq.registry.changes import Begin, Change, Internal
from metaq.registry.entries import FileHeader, Mark, pack_change, pack_file_header, pack_round, pack_seal
from metaq.registry.log import LogOptions
from metaq.registry.requests import ANYBODY, Create, Mode, Op
from metaq.registry.snapshot import Capture, encode
from metaq.registry.state import Session
from metaq.registry.tree import Znode

TEXT: Final = (Path(__file__).parents[3] / "docs" / "registry.md").read_text("utf-8")
HEADER: Final = FileHeader(2, 3, 0x0123456789ABCDEF, 4194304, 17, 0x89ABCDEF)
PASSWORD: Final = b"0123456789abcdef"
ZXID, TIME, SESSION = 0x200000002, 1700000000001, 0x1234
BEGIN: Final = pack_change(Change(ZXID - 1, TIME - 1, SESSION, Internal.BEGIN_SESSION, Begin(4000, PASSWORD)))
CREATE: Final = pack_change(
    Change(ZXID, TIME, SESSION, Op.CREATE, Create("/a", b"x", [ANYBODY], Mode.PERSISTENT))
)  # fmt: skip


def test_every_example_is_what_the_code_packs() -> None:
    examples = {
        name: bytes.fromhex(text) for name, text in re.findall(r"^```hex (.*)\n(.*)\n```$", TEXT, flags=re.MULTILINE)
    }
    packed, chain = pack_round(HEADER.nonce, 17, BEGIN + CREATE, HEADER.seed())
    node = Znode(b"x", (ANYBODY,), 0, ZXID, TIME, ZXID, TIME, ZXID)
    capture = Capture(ZXID, {SESSION: Session(4000, PASSWORD)}, {"/a": node})
    header, sessions, nodes, last = encode(capture, Mark(3, 4096 + len(packed), 17, chain))
    expected = {
        "file generation=2 number=3 nonce=0x0123456789abcdef size=4194304 first=17 chain=0x89abcdef": pack_file_header(
            HEADER
        )[:56],
        "round 17 of that file, with the two changes below": packed[:24],
        "seal behind it": pack_seal(HEADER.nonce, 17),
        "session 0x1234 begins, 4000 ms": BEGIN,
        'it creates /a with "x" for anybody': CREATE,
        "header of a snapshot of a session and a node, behind the round above": header,
        "block of that session": sessions,
        "block of node /a": nodes,
        "last block": last,
    }
    assert examples == expected
    assert TEXT.count("```hex") == len(expected)


def test_every_change_of_our_own_is_documented_with_its_number() -> None:
    table = dict(re.findall(r"^\| (-\d+) \| (\w+) \|", TEXT, flags=re.MULTILINE))
    assert table == {str(int(each)): each.name for each in Internal}


def test_the_sizes_are_those_of_the_code() -> None:
    options = LogOptions()
    assert f"by number; {options.file_size >> 20} MiB each" in TEXT
    assert f"when {options.snapshot_after >> 20} MiB of log have come" in TEXT
