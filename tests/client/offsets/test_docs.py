"""Every sample of docs/offsets.md runs, against our own broker."""

import threading
from pathlib import Path

import pytest

import metaq
from metaq.client.offsets.file import decode, encode
from tests.client.test_docs import port
from tests.docs import Sample, samples

SAMPLES = samples("offsets.md")


@pytest.mark.parametrize("sample", SAMPLES, ids=str)
def test_a_sample_of_the_document_on_offsets_runs(
    sample: Sample, port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with metaq.connect(f"metaq://127.0.0.1:{port}") as mq:
        mq.producer("orders").send(b"for those that only read")
    threads = threading.active_count()
    names: dict[str, object] = {"metaq": metaq}
    sample._replace(text=sample.text.replace("127.0.0.1:8123", f"127.0.0.1:{port}")).run(names)
    assert threading.active_count() == threads
    for engine in (value for value in names.values() if hasattr(value, "dispose")):
        engine.dispose()


def test_the_file_of_the_document_is_what_a_store_writes() -> None:
    (sample,) = samples("offsets.md", "json")
    assert encode(decode(sample.text.encode())) == sample.text.strip().encode()


__all__ = ["port"]
