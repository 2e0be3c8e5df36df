"""Changes of topics as edits of server.ini: only the topic's own lines become others."""

import difflib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaq.config.broker import parse
from metaq.config.editing import Action, TopicChange, check, edit, is_done
from metaq.config.model import DeletePolicy
from metaq.config.topics import unfit
from metaq.errors import ConfigError

SEED = Path(__file__).parents[2] / "data" / "seed"
HEAD = "[system]\nbrokerId=1\nnumPartitions=2\n[zookeeper]\nzk.zkEnable=false\n"
GBK = "; 主题：订单，三天\n".encode("gbk")


def create(topic: str, **settings: str) -> TopicChange:
    return TopicChange(Action.CREATE, topic, settings)


def alter(topic: str, **settings: str) -> TopicChange:
    return TopicChange(Action.ALTER, topic, settings)


def drop(topic: str) -> TopicChange:
    return TopicChange(Action.DROP, topic)


def after(text: str, change: TopicChange) -> str:
    """Return what follows HEAD when the change is made."""
    edited = edit((HEAD + text).encode(), "server.ini", change, env={"HOME": "/h"})
    assert edited.config.text == edited.data
    new = edited.data.decode()
    assert new.startswith(HEAD)
    return new.removeprefix(HEAD)


@pytest.mark.parametrize(
    ("before", "new"),
    [
        ("[topic=a]\n", "[topic=a]\n[topic=t]\nnumPartitions=8\n"),
        ("[topic=a]", "[topic=a]\n[topic=t]\nnumPartitions=8\n"),
        ("[topic=a]\nstat=true\n", "[topic=a]\nstat=true\n\n[topic=t]\nnumPartitions=8\n"),
        ("[topic=a]\n[pymetaq]\n", "[topic=a]\n[topic=t]\nnumPartitions=8\n\n[pymetaq]\n"),
        ("[topic=a]\n\n; ours\n[pymetaq]\n", "[topic=a]\n[topic=t]\nnumPartitions=8\n\n; ours\n[pymetaq]\n"),
        ("[topic=a]\n[pymetaq]\n[topic=b]\n", "[topic=a]\n[pymetaq]\n[topic=b]\n[topic=t]\nnumPartitions=8\n"),
    ],
)
def test_a_new_topic_stands_behind_the_other_topics(before: str, new: str) -> None:
    assert after(before, create("t", numPartitions="8")) == new


@pytest.mark.parametrize(
    ("before", "new"),
    [
        ("[topic=t]\n", "[topic=t]\nnumPartitions=8\n"),
        ("[topic=t]\nstat=true\n; more\n", "[topic=t]\nstat=true\nnumPartitions=8\n; more\n"),
        ("[topic=t]\n  numPartitions : 2\nstat=true\n", "[topic=t]\n  numPartitions : 8\nstat=true\n"),
        ("[topic=t]\nnumPartitions=\\\n  2\nstat=true\n", "[topic=t]\nnumPartitions=8\nstat=true\n"),
        ("[topic=t]\nnumPartitions=1\nnumPartitions=2\n", "[topic=t]\nnumPartitions=1\nnumPartitions=8\n"),
        (
            "[topic=t]\nnumPartitions=2\n[topic=a]\n[topic=t]\nstat=true\n",
            "[topic=t]\nnumPartitions=8\n[topic=a]\n[topic=t]\nstat=true\n",
        ),
    ],
)
def test_a_setting_is_written_where_it_stands_or_behind_the_others(before: str, new: str) -> None:
    assert after(before, alter("t", numPartitions="8")) == new


def test_a_setting_without_a_value_is_taken_out() -> None:
    before = "[topic=t]\nstat=true\ndeletePolicy=delete,\\\n  48\n; why\nstat=false\nnumPartitions=3\n"
    assert after(before, alter("t", stat="", deletePolicy="")) == "[topic=t]\n; why\nnumPartitions=3\n"


@pytest.mark.parametrize(
    ("before", "new"),
    [
        ("; all topics\n[topic=t]\n[topic=a]\n", "; all topics\n[topic=a]\n"),
        ("[topic=a]\n\n[topic=t]\n; days\nstat=true\n\n; ours\n[pymetaq]\n", "[topic=a]\n\n; ours\n[pymetaq]\n"),
        ("[topic=t]\nstat=true\n[topic=a]\n[topic=t]\nnumPartitions=3", "[topic=a]\n"),
        ("[topic=tt]\n[topic=t]\n", "[topic=tt]\n"),
    ],
)
def test_a_dropped_topic_leaves_nothing_and_others_comments_stay(before: str, new: str) -> None:
    assert after(before, drop("t")) == new


def test_bytes_that_are_no_utf_8_line_ends_and_a_mark_stay() -> None:
    before = b"\xef\xbb\xbf" + (HEAD.encode() + GBK + b"[topic=a]\n" + GBK).replace(b"\n", b"\r\n")
    created = edit(before, "server.ini", create("t", numPartitions="8")).data
    assert created == before.replace(b"[topic=a]\r\n", b"[topic=a]\r\n[topic=t]\r\nnumPartitions=8\r\n\r\n")
    altered = edit(created, "server.ini", alter("t", numPartitions="9")).data
    assert altered == created.replace(b"=8\r\n", b"=9\r\n")
    dropped = edit(altered, "server.ini", drop("t")).data
    assert dropped.replace(b"\r\n\r\n", b"\r\n") == before


def test_the_file_of_the_seed_gets_three_lines_and_nothing_else() -> None:
    before = (SEED / "server.ini").read_bytes()
    new = edit(before, "server.ini", create("orders", numPartitions="8", deletePolicy="delete,48")).data
    changes = difflib.ndiff(before.decode().splitlines(), new.decode().splitlines())
    assert [line for line in changes if line[0] != " "] == [
        "+ [topic=orders]",
        "+ numPartitions=8",
        "+ deletePolicy=delete,48",
    ]


@given(
    topic=st.text(max_size=20).filter(lambda name: unfit(name) is None and name != "a"),
    group=st.from_regex(r"[a-z\\;#\[\]]{1,8}", fullmatch=True),
    class_name=st.text(
        st.characters(codec="utf-8", exclude_categories=["Cc", "Zs", "Zl", "Zp"]), min_size=1, max_size=9
    ),
)
def test_whatever_is_written_is_read_back(topic: str, group: str, class_name: str) -> None:
    settings = {"numPartitions": "3", "deletePolicy": "archive,48", f"group.{group}": class_name}
    edited = edit((HEAD + "[topic=a]\n").encode(), "s", TopicChange(Action.CREATE, topic, settings), env={"HOME": "/h"})
    made = edited.config.topic(topic)
    assert edited.config.has_section(topic)
    assert (made.num_partitions, made.delete_policy) == (3, DeletePolicy(action="archive", age=48 * 3600.0))
    assert made.filters == ((group, class_name),)
    assert parse(edited.data, "s", env={"HOME": "/h"}) == edited.config
    assert is_done(edited.data, "s", TopicChange(Action.CREATE, topic, settings))
    if any(letter in topic for letter in ".*+?^$[](){}|"):
        return
    dropped = edit(edited.data, "s", drop(topic), env={"HOME": "/h"})
    assert [each.name for each in dropped.config.topics] == ["a"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (create("a b"), "topic 'a b': a topic must not contain a blank"),
        (create(""), "topic '': a topic needs a name"),
        (create("x" * 245), f"topic '{'x' * 80}…': a topic has at most 244 bytes"),
        (create("x", numPartitions="0"), "topic x: numPartitions=0: must be at least 1"),
        (create("x", deletePolicy="burn,1"), "topic x: deletePolicy=burn,1: "),
        (create("x", deletePolcy="delete,1"), "a topic has no key 'deletePolcy'; did you mean deletePolicy?"),
        (create("x", serverPort="1"), "a topic has no key 'serverPort'; "),
        (create("x", **{"group.a:b": "C"}), "a topic has no key 'group.a:b'; "),
        (create("x", **{";x": "C"}), "a topic has no key ';x'; "),
        (drop("x*"), "x* is a pattern of topics; "),
    ],
)
def test_what_fits_no_file_is_refused_without_one(change: TopicChange, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check(change)
    assert str(caught.value).startswith(reason)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (create("a"), "topic a exists already: conf/server.ini has its section"),
        (alter("x", stat="true"), "there is no topic x: conf/server.ini has no section [topic=x]"),
        (drop("x"), "there is no topic x: conf/server.ini has no section [topic=x]"),
        (alter("a", numPartitions="3"), "topic a has 4 partitions and cannot have 3: they can only become more, "),
        (alter("a", numPartitions=""), "topic a has 4 partitions and cannot have 2: they can only become more, "),
        (drop("log1"), "topic log1 cannot be dropped: another section of conf/server.ini is a pattern that admits it"),
    ],
)
def test_what_does_not_fit_the_file_is_refused(change: TopicChange, reason: str) -> None:
    text = f"{HEAD}[topic=a]\nnumPartitions=4\n[topic=log*]\n[topic=log1]\n"
    with pytest.raises(ConfigError) as caught:
        edit(text.encode(), "conf/server.ini", change)
    assert str(caught.value).startswith(reason)


def test_the_last_topic_cannot_be_dropped() -> None:
    with pytest.raises(ConfigError, match="at least one topic must be named"):
        after("[topic=t]\n", drop("t"))


def test_a_file_that_is_wrong_already_is_not_touched() -> None:
    with pytest.raises(ConfigError, match=r"server.ini:7: nonsense: "):
        after("[topic=a]\nnonsense\n", create("t"))


@pytest.mark.parametrize(
    ("change", "made"),
    [
        (create("a", numPartitions="4"), True),
        (create("a", numPartitions="5"), False),
        (alter("a", stat=""), True),
        (alter("a", numPartitions=""), False),
        (create("x"), False),
        (drop("a"), False),
        (drop("x"), True),
    ],
)
def test_the_file_tells_whether_a_change_was_made(change: TopicChange, made: bool) -> None:
    assert is_done(f"{HEAD}[topic=a]\nnumPartitions=4\n".encode(), "server.ini", change) is made
