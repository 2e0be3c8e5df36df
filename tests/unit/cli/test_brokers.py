"""What `metaq brokers` makes of what brokers say of themselves."""

import pytest

from metaq.admin.topics import Broker
from metaq.cli.brokers import describe, lag, note

AWAY = {"pair_slave": "meta://10.0.0.2:8123", "pair_connected": "false"}
COPYING = {"slave_lag_bytes": "600", "slave_lag_seconds": "1.250", "slave_error": "the disk is full"}


@pytest.mark.parametrize(
    ("stats", "expected"),
    [
        ({}, ("-", "")),
        (AWAY, ("-", "its slave meta://10.0.0.2:8123 is away: it refuses puts")),
        (AWAY | {"pair_connected": "true"}, ("-", "")),
        (COPYING, ("600 bytes, 1.250 s", "the disk is full")),
        ({"slave_lag_bytes": "unknown", "slave_lag_seconds": "unknown"}, ("unknown", "")),
        (None, ("-", "it does not answer")),
    ],
)
def test_a_line_tells_the_lag_and_what_is_wrong(stats: dict[str, str] | None, expected: tuple[str, str]) -> None:
    broker = Broker(1, None, "meta://10.0.0.1:8123", stats, "" if stats is not None else "it does not answer")
    assert (lag(broker), note(broker), describe(broker)["note"]) == (*expected, expected[1])
