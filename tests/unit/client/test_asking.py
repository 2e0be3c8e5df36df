"""What answers to stats mean."""

from metaq.client.asking import Position, parse_offsets, parse_stats


def test_stats_are_names_and_the_rest_of_their_lines() -> None:
    text = "STATS\r\npid 12\r\nversion 1.4.6.2\r\nempty\r\nt *Empty* x\r\nEND\r\n"
    assert parse_stats(text) == {"pid": "12", "version": "1.4.6.2", "empty": "", "t": "*Empty* x"}


def test_offsets_are_read_line_by_line_and_odd_ones_passed_over() -> None:
    text = (
        "STATS\r\na part 0 min_offset 5 max_offset 77\r\na part x min_offset 5 max_offset 77\r\n"
        "b part 1 min_offset 0 max_offset 0\r\nnonsense\r\nEND\r\n"
    )
    assert parse_offsets(text) == [Position("a", 0, 5, 77), Position("b", 1, 0, 0)]
