"""A slave's server.ini after its master's was read."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from metaq.app import real_world
from metaq.config.broker import load
from metaq.config.model import BrokerConfig
from metaq.config.slave import Sync
from metaq.errors import ConfigError
from metaq.replication.syncing import Syncing

OURS: Final = b"[system]\nbrokerId=1\nhostName=ours\n[zookeeper]\nzk.zkConnect=x:1\n[topic=test]\n[pymetaq]\n"
THEIRS: Final = OURS.replace(b"ours", b"theirs").replace(b"[pymetaq]", "; 主题\n[topic=new]".encode("gbk"))

METRICS: Final = b"\n[pymetaq]\nmetricsAddress=10.0.0.7:9125\n"


@dataclass
class FakeBroker:
    config: BrokerConfig
    reloads: list[bytes] = field(default_factory=list)

    async def reload(self) -> None:
        self.reloads.append(Path(self.config.path).read_bytes())


@pytest.fixture
def broker(tmp_path: Path) -> FakeBroker:
    path = tmp_path / "server.ini"
    path.write_bytes(OURS)
    path.chmod(0o640)
    return FakeBroker(load(str(path)))


def files(broker: FakeBroker) -> dict[str, bytes]:
    folder = Path(broker.config.path).parent
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


async def test_topics_are_written_once_and_loaded(broker: FakeBroker) -> None:
    syncing = Syncing(Sync.TOPICS, broker, real_world())
    assert await syncing.take(THEIRS)
    wanted = OURS.replace(b"[pymetaq]", "; 主题\n[topic=new]\n[pymetaq]".encode("gbk"))
    assert broker.reloads == [wanted]
    assert files(broker) == {"server.ini": wanted}
    assert Path(broker.config.path).stat().st_mode & 0o777 == 0o640
    assert not await syncing.take(THEIRS)
    assert len(broker.reloads) == 1


async def test_the_whole_file_keeps_its_bytes_and_what_becomes_the_masters_is_told(
    broker: FakeBroker, caplog: pytest.LogCaptureFixture
) -> None:
    assert await Syncing(Sync.ALL, broker, real_world()).take(THEIRS + METRICS)
    assert files(broker) == {"server.ini": THEIRS + METRICS}
    assert "hostName is the master's from the next start on: theirs, not ours" in caplog.text
    assert "metricsAddress is the master's from the next start on: 10.0.0.7:9125, not None" in caplog.text


@pytest.mark.parametrize("what", Sync)
async def test_comments_and_what_is_no_topic_change_nothing(broker: FakeBroker, what: Sync) -> None:
    same = OURS.replace(b"ours", b"theirs").replace(b"[topic=test]", b"; another\n[topic=test]\n")
    assert not await Syncing(what, broker, real_world()).take(same)
    assert (files(broker), broker.reloads) == ({"server.ini": OURS}, [])


@pytest.mark.parametrize("what", Sync)
async def test_what_nobody_can_read_is_kept_aside_and_ours_stays(broker: FakeBroker, what: Sync) -> None:
    with pytest.raises(ConfigError, match=r"stays as it is, what the master sent is in .*server\.ini\.from-master"):
        await Syncing(what, broker, real_world()).take(THEIRS + b"\n[topic=half")
    assert files(broker) == {"server.ini": OURS, "server.ini.from-master": THEIRS + b"\n[topic=half"}
    assert broker.reloads == []


async def test_a_file_of_ours_that_is_wrong_is_not_touched(broker: FakeBroker) -> None:
    Path(broker.config.path).write_bytes(b"nonsense")
    with pytest.raises(ConfigError, match=r"server\.ini:1: nonsense"):
        await Syncing(Sync.TOPICS, broker, real_world()).take(THEIRS)
    assert files(broker)["server.ini"] == b"nonsense"


async def test_in_a_folder_that_cannot_be_written_ours_stays(broker: FakeBroker) -> None:
    Path(broker.config.path + ".new").mkdir()
    with pytest.raises(OSError, match=r"server\.ini\.new"):
        await Syncing(Sync.TOPICS, broker, real_world()).take(THEIRS)
    assert files(broker) == {"server.ini": OURS}
