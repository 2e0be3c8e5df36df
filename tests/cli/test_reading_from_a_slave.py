"""Every sample of docs/reading-from-a-slave.md, on a master and a slave of ours."""

import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

import metaq
from metaq.cli.main import run
from metaq.client.background import LoopThread
from metaq.testing import Registry
from tests.cli.test_docs import fits, shown
from tests.copies import Pair, Still
from tests.docs import samples

PAGE = "reading-from-a-slave.md"


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    """Both have three messages."""
    thread = LoopThread()
    with Registry(tmp_path / "registry") as registry:
        made = thread.make(lambda: Pair(tmp_path, registry.address, Still))
        try:
            thread.call(made.start())
            with metaq.connect(made.url) as mq:
                mq.producer("test").send_many([b"one", b"two", b"last"])
            thread.call(made.copy())
            yield made
        finally:
            thread.call(made.end())
            thread.close()


def test_every_sample_of_the_page_does_what_is_shown(pair: Pair, capsys: pytest.CaptureFixture[str]) -> None:
    def here(text: str) -> str:
        text = text.replace("192.168.51.33:2181", pair.hosts)
        return text.replace("192.168.70.157:8123", f"127.0.0.1:{pair.slave.port}")

    names: dict[str, object] = {"metaq": metaq}
    before = pair.gets(pair.master)
    for block in sorted([*samples(PAGE, "console"), *samples(PAGE)], key=lambda sample: sample.line):
        if not block.text.startswith("$ "):
            block._replace(text=here(block.text)).run(names)
            assert capsys.readouterr().out
            if "slave:2" in block.text:
                assert pair.gets(pair.master) == before
            continue
        for command, expected in shown(block):
            status = run(shlex.split(here(command))[1:])
            out, err = capsys.readouterr()
            assert status == 0, f"{block}: $ {command}\n{err}"
            assert fits(out + err, expected), f"{block}: $ {command}\n{out}{err}"


def test_the_line_for_java_names_the_root_that_there_is(pair: Pair, capsys: pytest.CaptureFixture[str]) -> None:
    (sample,) = samples(PAGE, "java")
    assert '"192.168.51.33:2181/read-slave2"' in sample.text
    assert run(["brokers", "--url", f"zk://{pair.hosts}/read-slave2/meta"]) == 0
    row = capsys.readouterr().out.splitlines()[1].split()
    assert row[:3] == ["1", "master", f"meta://127.0.0.1:{pair.slave.port}"]
