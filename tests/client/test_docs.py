"""Every sample of docs/client.md, docs/consuming.md and docs/coming-from-….md runs, against our own broker."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import metaq
from metaq.client.background import LoopThread
from tests.docs import Sample, samples
from tests.embedding import Serving, configured, settings

SAMPLES = [
    *samples("client.md"),
    *samples("coming-from-java.md"),
    *samples("coming-from-kafka-python.md"),
]
CONSUMING = samples("consuming.md")


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a broker in a thread of its own."""
    folder = tmp_path_factory.mktemp("broker")
    config = configured(folder, settings(folder, topics="[topic=orders]\nnumPartitions=2\n"))
    thread = LoopThread()

    async def start() -> Serving:
        return await Serving(config).start()

    broker = thread.call(start())
    yield broker.port
    thread.call(broker.end())
    thread.close()


@pytest.mark.parametrize("sample", SAMPLES, ids=str)
def test_a_sample_of_the_client_document_runs(sample: Sample, port: int, tmp_path: Path) -> None:
    threads = threading.active_count()
    text = sample.text.replace("127.0.0.1:8123", f"127.0.0.1:{port}").replace("/var/spool/app", str(tmp_path))
    sample._replace(text=text).run({"metaq": metaq})
    assert threading.active_count() == threads


@pytest.fixture(scope="module")
def names() -> dict[str, object]:
    """What earlier samples of a document have made, for later ones."""
    return {"metaq": metaq}


@pytest.mark.parametrize("sample", CONSUMING, ids=str)
def test_a_sample_of_the_document_on_consuming_runs(
    sample: Sample, port: int, names: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    names.setdefault("threading", threading)
    sample._replace(text=sample.text.replace("127.0.0.1:8123", f"127.0.0.1:{port}")).run(names)
