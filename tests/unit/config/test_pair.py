"""samsa_master.properties is read as the original reads it, and errors name file, key and what would be right."""

import pytest

from metaq.config.pair import SamsaConfig, parse
from metaq.errors import ConfigError


def test_the_file_that_the_original_ships_is_read() -> None:
    shipped = (
        b"#slave\nslave=localhost:8124\ncallbackThreadCount=10\nrecoverOffset=false\nsendToSlaveTimeoutInMills=2000\n"
    )
    assert parse(shipped) == SamsaConfig(slave_host="localhost", slave_port=8124, path="samsa_master.properties")


def test_every_key_has_its_place() -> None:
    config = parse(
        b"slave=[::1]:1\nsendToSlaveTimeoutInMills=50\nslaveContinuousFailureThreshold=7\n"
        b"checkSlaveIntervalInMills=20\nrecoverOffset=TRUE\nnotifyCommand=/bin/page 'the team'\n"
    )
    assert (config.slave_host, config.slave_port) == ("::1", 1)
    assert (config.send_timeout, config.check_interval, config.failure_threshold) == (0.05, 0.02, 7)
    assert config.recover_offset
    assert config.notify_command == ("/bin/page", "the team")


def test_a_name_that_is_no_key_is_passed_over_with_a_warning() -> None:
    (warning,) = parse(b"slave=a:1\nslavee=b:2\n").warnings
    assert "slavee" in warning
    assert "did you mean slave?" in warning


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "slave must be set: HOST:PORT"),
        (b"slave=nowhere", "slave=nowhere: no HOST:PORT"),
        (b"slave=a:70000", "slave=a:70000: no HOST:PORT"),
        (b"slave=a:1\ncheckSlaveIntervalInMills=0", "checkSlaveIntervalInMills=0: must be between 1 and"),
        (b"slave=a:1\nsendToSlaveTimeoutInMills=soon", "sendToSlaveTimeoutInMills=soon: is no number"),
        (b"slave=a:1\nnotifyCommand='open", "notifyCommand: No closing quotation"),
    ],
)
def test_what_cannot_be_used_is_named_with_what_would_be_right(text: bytes, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse(text)
    assert said in str(refused.value)
    assert str(refused.value).startswith("samsa_master.properties")
