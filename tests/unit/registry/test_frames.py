"""Packets out of bytes."""

from hypothesis import given
from hypothesis import strategies as st

from metaq.registry.frames import Frames
from metaq.registry.jute import INT


def framed(packets: list[bytes]) -> bytes:
    return b"".join(INT.pack(len(packet)) + packet for packet in packets)


@given(st.lists(st.binary(max_size=12), max_size=6), st.integers(1, 9), st.binary(max_size=3))
def test_how_bytes_arrive_never_changes_the_packets(packets: list[bytes], step: int, more: bytes) -> None:
    frames = Frames(100)
    wire = framed(packets) + more
    found = [packet for i in range(0, len(wire), step) for packet in frames.feed(wire[i : i + step])]
    assert (found, frames.error) == (packets, None)


def test_what_came_before_a_length_that_none_may_have_is_good_and_nothing_behind_it_is() -> None:
    for length in (-1, 11, 2 << 20):
        frames = Frames(10)
        assert frames.feed(framed([b"good", b"x" * 10]) + INT.pack(length) + framed([b"bad"])) == [b"good", b"x" * 10]
        assert frames.error == f"a packet of {length} bytes, the limit is 10"
        assert frames.feed(framed([b"bad"])) == []


def test_a_large_packet_in_small_pieces_is_put_together_once() -> None:
    packet = bytes(1 << 20)
    frames = Frames(1 << 20)
    wire = framed([packet])
    pieces = [frames.feed(wire[i : i + 1000]) for i in range(0, len(wire), 1000)]
    assert pieces[-1] == [packet]
    assert not any(pieces[:-1])
