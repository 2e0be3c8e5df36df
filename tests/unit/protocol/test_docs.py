"""The examples of docs/protocol.md are true."""

import ast
import re
from pathlib import Path

import pytest

from metaq.protocol.commands import Command, Quit, Result, Value
from metaq.protocol.decoder import Decoder
from metaq.protocol.encoder import encode
from metaq.protocol.parts import read_parts
from metaq.record import Record, pack, walk

TEXT = (Path(__file__).parents[3] / "docs" / "protocol.md").read_text(encoding="utf-8")


def blocks(kind: str) -> list[list[str]]:
    """Return the lines of all code blocks of a kind."""
    return [block.splitlines() for block in re.findall(rf"^```{kind}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)]


def raw(text: str) -> bytes:
    """Return the bytes an example stands for."""
    value = ast.literal_eval(f'b"{text}"')
    assert isinstance(value, bytes)
    return value


def decode(wire: bytes) -> tuple[list[Command], bool]:
    decoder = Decoder()
    return decoder.feed(wire), decoder.error is not None


LINES = [line for block in blocks("wire") for line in block]
MARKS = {mark: [line[2:] for line in LINES if line.startswith(f"{mark} ")] for mark in "><~!"}


def test_every_example_is_checked_and_every_verb_has_one() -> None:
    assert sum(map(len, MARKS.values())) == len(LINES)
    ours = {"mput", "mget", "msync"}
    verbs = {line.split(" ")[0].removesuffix(r"\r\n") for mark in "><" for line in MARKS[mark]}
    assert (
        verbs == {"put", "get", "offset", "version", "stats", "quit", "sync", "transaction", "result", "value"} | ours
    )


@pytest.mark.parametrize("mark", ["<", ">"])
def test_examples_are_decoded_to_one_command_and_encoded_again(mark: str) -> None:
    for example in MARKS[mark]:
        decoded, failed = decode(raw(example))
        assert len(decoded) == 1 and not failed, example
        assert isinstance(decoded[0], Result | Value) == (mark == "<"), example
        assert encode(decoded[0]) == raw(example)


def test_old_forms_are_decoded_and_written_in_another_way() -> None:
    for example in MARKS["~"]:
        decoded, failed = decode(raw(example))
        assert len(decoded) == 1 and not failed, example
        assert encode(decoded[0]) != raw(example)


def test_malformed_examples_are_refused() -> None:
    for example in MARKS["!"]:
        assert decode(raw(example)) == ([], True), example


def test_a_reply_carries_the_opaque_of_the_request_before_it() -> None:
    for block in blocks("wire"):
        opaque: int | None = None
        for line in block:
            if line[0] == "!":
                continue
            command = decode(raw(line[2:]))[0][0]
            if isinstance(command, Result | Value):
                assert command.opaque == opaque, line
            opaque = None if isinstance(command, Quit) else command.opaque


def test_example_records_are_what_is_packed() -> None:
    (lines,) = blocks("record")
    for line in lines:
        id, flag, body, *words = line.split(" ")
        data = bytes.fromhex("".join(words))
        content = b"" if body == "-" else raw(body)
        assert pack(int(id), int(flag), content) == data
        assert list(walk(data)) == [Record(0, int(id), int(flag), content)]


def test_values_among_the_examples_hold_whole_records() -> None:
    values = [command for example in MARKS["<"] for command in decode(raw(example))[0] if isinstance(command, Value)]
    of_mget = [value for value in values if value.data[:1].isdigit()]
    plain = [value.data for value in values if value not in of_mget]
    parts = [bytes(part.data) for value in of_mget for part in read_parts(value.data)]
    assert plain and parts
    for data in (*plain, *parts):
        assert sum(20 + len(record.body) for record in walk(data)) == len(data)
