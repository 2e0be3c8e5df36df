"""A slave's server.ini takes over the topics of its master's."""

from pathlib import Path
from typing import Final

import pytest

from metaq.config.broker import parse
from metaq.config.taking import read_theirs, same_topics, take_topics
from metaq.errors import ConfigError

SEED: Final = (Path(__file__).parents[2] / "data" / "seed" / "server.ini").read_bytes()
OURS: Final = b"""\
[system]
brokerId=1
numPartitions=16
hostName=127.0.52.23
[zookeeper]
zk.zkConnect=127.0.0.1:2181

; ours
[topic=old]
[topic=test]
dataPath=/here
numPartitions=2

[pymetaq]
bindAddress=127.0.52.23
"""


def theirs(topics: str, system: str = "numPartitions=16") -> bytes:
    return f"[system]\nbrokerId=1\n{system}\n[zookeeper]\nzk.zkConnect=x:1\n{topics}".encode()


def test_sections_of_topics_are_the_masters_and_all_else_is_our_own() -> None:
    merged = take_topics(OURS, theirs("; theirs\n[topic=test]\n; inside\nstat=true\n\n[topic=new]\n"), "f")
    assert merged == OURS.replace(
        b"; ours\n[topic=old]\n[topic=test]\ndataPath=/here\nnumPartitions=2\n\n",
        b"; theirs\n[topic=test]\ndataPath=/here\n; inside\nstat=true\n\n[topic=new]\n",
    )


def test_the_file_of_the_deployment_is_taken_as_it_is() -> None:
    assert take_topics(SEED, SEED, "f") == SEED
    grown = SEED.rstrip() + b"\n[topic=new]\nnumPartitions=4\n"
    assert take_topics(SEED, grown, "f") == grown


def test_bytes_of_any_encoding_and_line_ends_are_kept() -> None:
    comment = "; 主题".encode("gbk")
    master = theirs("").replace(b"\n", b"\r\n") + comment + b"\r\n[topic=a]\r\n" + comment + b"\r\nstat = true"
    merged = take_topics(OURS, master, "f")
    assert comment + b"\r\n[topic=a]\r\n" + comment + b"\r\nstat = true\r\n[pymetaq]" in merged


def test_a_section_says_what_it_got_from_the_masters_system_section() -> None:
    merged = take_topics(
        OURS, theirs("[topic=a]\n[topic=b]\nnumPartitions=3\n", "numPartitions=9\nacceptPublish=false"), "f"
    )
    read = parse(merged, "f")
    assert [(t.name, t.num_partitions, t.accept_publish) for t in read.topics] == [("a", 9, False), ("b", 3, False)]
    assert merged.count(b"numPartitions=9") == 1


def test_where_messages_lie_is_not_taken_from_another_machine() -> None:
    merged = take_topics(OURS, theirs("[topic=test]\ndataPath=/there\n[topic=a]\ndataPath=/there\nstat=true\n"), "f")
    assert b"/there" not in merged
    assert parse(merged, "f").topic("test").data_path == "/here"


def test_a_section_that_comes_twice_and_lines_that_are_joined_are_taken_whole() -> None:
    topics = "[topic=a]\nstat=\\\ntrue\n[topic=b]\n[topic=a]\nnumPartitions=\\\n;5\n".replace(";5", "5")
    merged = take_topics(OURS, theirs(topics), "f")
    assert topics.encode() in merged
    assert parse(merged, "f").topic("a").num_partitions == 5


def test_a_file_that_lacks_its_last_line_end_or_has_a_mark_is_no_obstacle() -> None:
    merged = take_topics(b"\xef\xbb\xbf" + OURS, b"\xef\xbb\xbf" + theirs("[topic=a]"), "f")
    assert b"[topic=a]\n[pymetaq]\n" in merged
    assert [t.name for t in parse(merged, "f").topics] == ["a"]


def test_thousands_of_topics_are_taken() -> None:
    names = [f"t{n}" for n in range(2000)]
    merged = take_topics(OURS, theirs("".join(f"[topic={name}]\n" for name in names), "numPartitions=3"), "f")
    assert [t.name for t in parse(merged, "f").topics] == names


@pytest.mark.parametrize("text", ["", "[system]\n", "[topic=a\n", "[topic=a]\nnoSuch=1\n"])
def test_a_file_that_cannot_be_used_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"the master's server\.ini"):
        take_topics(OURS, text.encode() if text in ("", "[system]\n") else theirs(text), "f")


def test_topics_are_compared_whatever_their_order() -> None:
    one, other = (read_theirs(theirs(text)) for text in ("[topic=a]\n[topic=b]\n", "; c\n[topic=b]\n[topic=a]\n"))
    assert same_topics(one, other)
    assert not same_topics(one, read_theirs(theirs("[topic=a]\n[topic=b]\nstat=true\n")))
