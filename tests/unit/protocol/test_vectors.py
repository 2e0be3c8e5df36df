"""Decoder and encoder against the bytes of the original."""

import pytest

from metaq.protocol.commands import Quit
from metaq.protocol.decoder import Decoder
from metaq.protocol.encoder import encode
from tests.wire.vectors import (
    CONVERSATIONS,
    MORE_THAN_THE_ORIGINAL,
    REPLIES,
    REQUESTS,
    UNIT_TESTS,
    Conversation,
    Vector,
)

VECTORS = REQUESTS + REPLIES + UNIT_TESTS


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name)
def test_a_frame_of_the_original_is_decoded(vector: Vector) -> None:
    for _ in range(2):  # the hot path knows a plain put from the second time on
        decoder = Decoder()
        assert decoder.feed(vector.wire) == [vector.command]
        assert decoder.error is None


@pytest.mark.parametrize("vector", [v for v in VECTORS if v.canonical], ids=lambda vector: vector.name)
def test_a_command_is_encoded_as_the_original_does(vector: Vector) -> None:
    assert encode(vector.command) == vector.wire


@pytest.mark.parametrize("vector", [v for v in VECTORS if not v.canonical], ids=lambda vector: vector.name)
def test_an_old_form_is_written_in_the_new_form_and_means_the_same(vector: Vector) -> None:
    wire = encode(vector.command)
    assert wire != vector.wire
    assert Decoder().feed(wire) == [vector.command]


@pytest.mark.parametrize("talk", CONVERSATIONS + MORE_THAN_THE_ORIGINAL, ids=lambda talk: repr(talk.sent))
@pytest.mark.parametrize("step", [1, 3, 1000])
def test_a_conversation_is_understood_as_by_the_original(talk: Conversation, step: int) -> None:
    decoder = Decoder()
    decoded = []
    for start in range(0, len(talk.sent), step):
        decoded += decoder.feed(talk.sent[start : start + step])
    assert tuple(decoded) == talk.decoded
    assert (decoder.error is not None or Quit() in decoded) == talk.closed
