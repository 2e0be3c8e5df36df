"""docs/configuration.md is true: its keys, defaults, samples and messages."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest

from metaq.config import keys
from metaq.config.broker import parse
from metaq.config.model import BrokerConfig, TopicConfig
from metaq.config.reload import setting
from metaq.errors import ConfigError

TEXT: Final = (Path(__file__).parents[3] / "docs" / "configuration.md").read_text("utf-8")
SAMPLES: Final = re.findall(r"^```ini\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
(MESSAGES,) = (block.splitlines() for block in re.findall(r"^```text\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL))
DEFAULTS: Final = BrokerConfig(broker_id=0)


def table(section: str) -> dict[str, tuple[str, ...]]:
    """Return unit, default, reload and note by key of the table under a heading."""
    part = TEXT.split(f"### `{section}`\n")[1].split("\n#")[0]
    rows = re.findall(r"^\| `([^`]+)` \|(.*)\|(.*)\|(.*)\|(.*)\|$", part, re.MULTILINE)
    return {key: tuple(cell.strip() for cell in cells) for key, *cells in rows}


@pytest.mark.parametrize(
    ("section", "known"),
    [
        ("[system]", keys.SYSTEM),
        ("[zookeeper]", keys.ZOOKEEPER),
        ("[topic=NAME]", {**keys.TOPIC, "group.NAME": ""}),
        ("[pymetaq]", keys.PYMETAQ),
    ],
)
def test_every_key_and_no_other_is_documented(section: str, known: Mapping[str, str]) -> None:
    assert set(table(section)) == set(known)


def test_keys_set_fields_that_exist() -> None:
    for field in (*keys.SYSTEM.values(), *keys.ZOOKEEPER.values(), *keys.PYMETAQ.values()):
        setting(DEFAULTS, field)
    assert set(keys.TOPIC.values()) <= set(TopicConfig.__slots__)


@pytest.mark.parametrize(
    ("section", "known"), [("[system]", keys.SYSTEM), ("[zookeeper]", keys.ZOOKEEPER), ("[pymetaq]", keys.PYMETAQ)]
)
def test_defaults_are_documented_as_they_are(section: str, known: Mapping[str, str]) -> None:
    for key, (unit, default, reloaded, _) in table(section).items():
        value = setting(DEFAULTS, known[key])
        assert reloaded == "no"
        match value:
            case bool():
                assert default == str(value).lower(), key
            case int() | float() if key != "brokerId":
                assert default == f"{value * (1000 if unit == 'ms' else 1):.0f}", key
            case str() if key not in ("dataPath", "dataLogPath"):
                assert default.strip("`") == value, key


def test_defaults_in_words_are_true() -> None:
    system, ours = table("[system]"), table("[pymetaq]")
    text = b"[system]\nbrokerId=0\n[zookeeper]\nzk.zkEnable=false\n[topic=t]\n"
    config = parse(text, "/h/conf/server.ini", env={"HOME": "/h"}, is_dir=lambda path: path == "/h/provided")
    assert (system["dataPath"][1], config.data_path) == ("`~/meta`", "/h/meta")
    assert (system["dataLogPath"][1], config.data_log_path) == ("`dataPath`", "/h/meta")
    assert (system["deletePolicy"][1], config.defaults.delete_policy.age) == ("`delete,168`", 168 * 3600.0)
    assert (system["appClassPath"][1][:13], config.app_class_path) == ("`../provided`", "/h/provided")
    assert (ours["bindAddress"][1], config.bind_address) == ("all addresses", None)
    assert (ours["stopWait"][1], config.stop_wait) == ("`zk.zkSyncTimeMs`", None)
    assert (ours["slaveReadRoot"][1], config.slave_read_root) == ("`/read-slave<k>` and `zk.zkRoot`", None)
    assert (ours["metricsAddress"][1], config.metrics_address) == ("off", None)


def test_there_are_samples() -> None:
    assert len(SAMPLES) >= 2


@pytest.mark.parametrize("sample", SAMPLES)
def test_every_sample_is_read_without_a_warning(sample: str) -> None:
    assert parse(sample.encode(), is_dir=lambda path: False).warnings == ()


def message_of(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(text.encode(), "conf/server.ini")
    return str(caught.value)


@pytest.mark.parametrize("message", [message for message in MESSAGES if ":3:" in message])
def test_every_message_is_what_the_mistake_gives(message: str) -> None:
    line = message.removeprefix("conf/server.ini:3: ")
    # the mistake is the beginning of the line up to one of its colons
    mistakes = [line[: colon.start()] for colon in re.finditer(": ", line)]
    tail = "[zookeeper]\nzk.zkEnable=false\n[topic=t]\n"
    assert message in [message_of(f"[system]\nbrokerId=0\n{mistake}\n{tail}") for mistake in mistakes]


def test_the_message_of_a_missing_section_is_what_it_gives() -> None:
    assert message_of("[system]\nbrokerId=0\n[topic=t]\n") == MESSAGES[-1]
