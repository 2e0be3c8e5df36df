"""The lines of `slave-status` that 1.4.6.2 does not have."""

from typing import Final

from metaq.cli.slave_status import lines_of_ours

CURRENT: Final[dict[str, object]] = {
    "master": "meta://10.0.0.5:8123",
    "state": "current",
    "lag": {"bytes": 600, "messages": 6, "seconds": 1.25},
    "error": None,
    "config_error": None,
    "gone": [],
}


def test_the_lag_is_told_as_far_as_it_is_known() -> None:
    def lag(**values: object) -> str:
        return list(lines_of_ours(CURRENT | {"lag": values}))[2]

    assert list(lines_of_ours(CURRENT)) == [
        "Master:meta://10.0.0.5:8123",
        "State:current",
        "Lag:600 bytes, about 6 messages, 1.25 s",
    ]
    assert lag(bytes=600, messages=None, seconds=1.25) == "Lag:600 bytes, 1.25 s"
    assert lag(bytes=None, messages=None, seconds=None) == "Lag:unknown"


def test_topics_that_the_master_has_not_are_named() -> None:
    assert list(lines_of_ours(CURRENT | {"gone": ["orders", "old"]}))[3:] == [
        "Not at the master:orders, old: what is here stays, and is copied no further"
    ]


def test_an_error_of_the_configuration_is_said_beside_another_and_once() -> None:
    errors = {"error": "oct29-0: the disk is full", "config_error": "kept aside"}
    assert list(lines_of_ours(CURRENT | errors))[3:] == ["Error:oct29-0: the disk is full", "Configuration:kept aside"]
    assert list(lines_of_ours(CURRENT | {**errors, "error": "kept aside"}))[3:] == ["Error:kept aside"]
