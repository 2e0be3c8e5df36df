"""Which topics the sections of server.ini admit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaq.config import topics
from metaq.config.topics import LONGEST, TopicNames, unfit


@pytest.mark.parametrize(
    ("name", "topic"),
    [
        ("test", "test"),
        ("a*", "a"),
        ("a*", "abc"),
        ("*", "anything-at_all"),
        ("*b*", "abc"),
        ("a.b", "a.b"),
        ("a.b", "axb"),
        ("a(b|c)", "ac"),
        ("a(b|c)", "a(b|c)"),
        ("(y", "(y"),
        ("x[*", "x[abc"),
        ("a+", "a+"),
        ("主题", "主题"),
    ],
)
def test_a_section_admits(name: str, topic: str) -> None:
    assert TopicNames([name]).accepts(topic)


@pytest.mark.parametrize(
    ("name", "topic"),
    [
        ("test", "Test"),
        ("test", "test2"),
        ("test", "tes"),
        ("a*", "ba"),
        ("a.b", "ab"),
        ("a.b", "axbc"),
        ("*b", "abc"),
        ("x[*", "xabc"),
        ("(y", "y"),
        ("test", ""),
    ],
)
def test_a_section_does_not_admit(name: str, topic: str) -> None:
    assert not TopicNames([name]).accepts(topic)


@pytest.mark.parametrize(
    ("topic", "reason"),
    [
        ("", "a topic needs a name"),
        (".", "a topic of dots alone would be a folder's own name"),
        ("..", "a topic of dots alone would be a folder's own name"),
        ("a/b", "a topic must not contain /"),
        ("../x", "a topic must not contain /"),
        ("a\\b", "a topic must not contain \\"),
        ("a b", "a topic must not contain a blank"),
        ("a\0", "a topic must not contain the character U+0000"),
        ("a\r", "a topic must not contain the character U+000D"),
        ("a\n", "a topic must not contain the character U+000A"),
        ("a\x7f", "a topic must not contain the character U+007F"),
        ("a\ud800", "a topic must not contain the character U+D800"),
        ("a\ufffd", "a topic must not contain U+FFFD, which stands for bytes that are no UTF-8"),
        ("a" * 245, "a topic has at most 244 bytes"),
        ("é" * 123, "a topic has at most 244 bytes"),
    ],
)
def test_an_unfit_topic_never_passes_whatever_the_patterns_say(topic: str, reason: str) -> None:
    assert unfit(topic) == reason
    assert not TopicNames(["*", topic]).accepts(topic)


@pytest.mark.parametrize("topic", ["a", "a.b", "...a", "a-0", "*", "a" * LONGEST, "é" * 122, "主题"])
def test_other_topics_are_fit(topic: str) -> None:
    assert unfit(topic) is None


def test_answers_are_remembered_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topics, "REMEMBERED", 10)
    names = TopicNames(["a*"])
    for n in range(100):
        assert names.accepts(f"a{n}")
        assert not names.accepts(f"b{n}")
        assert len(names._known) <= 10


@given(st.lists(st.text(max_size=6), max_size=4), st.text(max_size=6))
def test_any_names_make_a_set_that_admits_their_fit_ones(names: list[str], topic: str) -> None:
    admitted = TopicNames(names)
    assert isinstance(admitted.accepts(topic), bool)
    assert all(admitted.accepts(name) for name in names if unfit(name) is None)
