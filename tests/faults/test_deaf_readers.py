"""The benchmark's course of readers that stop reading, short: it says what is the case, also where memory is scarce."""

from pathlib import Path

from bench import deaf
from tests.faults.pressing import most_connections


async def test_deaf_readers_take_bounded_memory_and_get_every_byte_when_they_read_again(tmp_path: Path) -> None:
    course = await deaf.press(tmp_path, most_connections(340), 3.0, turns=1)
    figures = {name: value for name, value, _ in deaf.figures(course)}
    assert figures["read again, right and in order"] == 1
    more = figures["resident memory, most"] - figures["resident memory before, most"]
    assert more < 256 + 40, f"{more:.0f} MiB for readers that read nothing"
    assert course.rates(course.acknowledged, deaf.DEAF, 0.5)[0] > 0, "producers stand still"
    kept = figures["slow reader, the second half : without"]  # the first is that of hundreds of gets at once
    # four gets in place of one: where others use the processors, each waits for its turn there
    assert kept * course.stretch >= 0.5, f"of what the slow reader gets alone, {kept:.2f} are left to it"
