from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaq.broker import stats
from metaq.broker.stats import Figure, Figures, Statistics
from metaq.broker.stats_text import BrokerState, Pieces, answer, counter, realtime_lines
from metaq.config.model import BrokerConfig, TopicConfig


@dataclass
class HandClock:
    now: float = 5000.0

    def time(self) -> float:
        return 1.7e9 + self.now

    def monotonic(self) -> float:
        return self.now


class Partition(NamedTuple):
    topic: str
    partition: int
    min_offset: int
    end: int
    messages: int
    bytes: int


STATE: Final = BrokerState(pid=25944, port=8123, uptime=3.99, connections=1, threads=25)


@dataclass
class Broker:
    """What the texts ask of a broker, as fixed values."""

    topics: tuple[TopicConfig, ...] = ()
    stored: list[Partition] = field(default_factory=list)
    now: BrokerState = STATE
    copying: list[str] = field(default_factory=list)  # of a slave, by partition

    @property
    def config(self) -> BrokerConfig:
        return BrokerConfig(broker_id=0, topics=self.topics, checksum=4059861083)

    def state(self) -> BrokerState:
        return self.now

    def slave_summary(self) -> Pieces[list[str]]:
        yield
        return self.copying[:1]

    def slave_lines(self) -> Pieces[list[str]] | None:
        return self.slave_all() if self.copying else None

    def slave_all(self) -> Pieces[list[str]]:
        yield
        return self.copying

    def partitions(self, topic: str | None = None) -> Iterable[Partition]:
        return [p for p in self.stored if topic is None or p.topic == topic]


def section(name: str, *, publish: bool = True, subscribe: bool = True) -> TopicConfig:
    return TopicConfig(name=name, accept_publish=publish, accept_subscribe=subscribe)


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def statistics(clock: HandClock) -> Statistics:
    return Statistics(clock, lambda topic: True)


def lines(item: str, statistics: Statistics, broker: Broker | None = None) -> list[str]:
    """Return the lines between STATS and END."""
    text = answer(item, statistics, broker or Broker()).decode()
    assert text.startswith("STATS\r\n")
    assert text.endswith("END\r\n")
    return text.split("\r\n")[1:-2]


def reply(body: bytes, opaque: int) -> bytes:
    return b"result 200 %d %d\r\n%b" % (len(body), opaque, body)


# The reply vectors RS1-RS8 of the reference protocol.


def test_help_lists_six_items_as_the_original_does(statistics: Statistics) -> None:
    assert reply(answer("help", statistics, Broker()), 17) == (
        b"result 200 252 17\r\nSTATS\r\n*EMPTY* Returns broker info.\r\nhelp Returns help menu.\r\n"
        b"topics Returns topics statistics detail info.\r\noffsets Returns partitions detail info.\r\n"
        b"realtime Returns realtime statistics detail info.\r\nconfig Returns broker's config file content.\r\nEND\r\n"
    )


def test_realtime_is_null_while_nothing_was_counted(statistics: Statistics) -> None:
    assert reply(answer("realtime", statistics, Broker()), 17) == (
        b"result 200 150 17\r\nSTATS\r\nrealtime_put null\r\nrealtime_get null\r\nrealtime_offset null\r\n"
        b"realtime_get_miss null\r\nrealtime_put_failed null\r\nrealtime_message_size null\r\nEND\r\n"
    )


def test_reset_says_so(statistics: Statistics) -> None:
    assert reply(answer("reset", statistics, Broker()), 17) == b"result 200 22 17\r\nSTATS\r\nreset ok\r\nEND\r\n"


def test_offsets_has_a_line_per_partition(statistics: Statistics) -> None:
    broker = Broker(stored=[Partition("meta-test", 0, 0, 1760, 8, 1760)])
    assert reply(answer("offsets", statistics, broker), 17) == (
        b"result 200 59 17\r\nSTATS\r\nmeta-test part 0 min_offset 0 max_offset 1760\r\nEND\r\n"
    )


def test_topics_tells_stored_topics_from_empty_ones(statistics: Statistics) -> None:
    broker = Broker((section("idle"), section("meta-test")), [Partition("meta-test", 0, 0, 1760, 8, 1760)])
    assert reply(answer("topics", statistics, broker), 17) == (
        b"result 200 127 17\r\nSTATS\r\nmeta-test partitions 1 message_count 8 message_bytes 1760 "
        b"accept_publish true accept_subscribe true\r\nidle *Empty*\r\nEND\r\n"
    )


def test_an_unknown_topic_is_answered_with_result_code_one(statistics: Statistics) -> None:
    assert reply(answer("1", statistics, Broker()), 2147483647) == (
        b"result 200 243 2147483647\r\nSTATS\r\n1\r\nresultCode 1\r\npartitions 0\r\nmessage_count 0\r\nbytes 0\r\n"
        b"topic_realtime_put null\r\ntopic_realtime_get null\r\ntopic_realtime_offset null\r\n"
        b"topic_realtime_get_miss null\r\ntopic_realtime_put_failed null\r\ntopic_realtime_message_size null\r\n"
        b"END\r\n"
    )


def test_realtime_figures_are_written_as_the_original_writes_them() -> None:
    none = Figure(0, 0)
    zero = "Count=0,Value=0,Value/Count=invalid,Count/Duration=0,Duration=10"
    assert realtime_lines(Figures(Figure(22, 22), none, none, none, none, none), 10) == [
        "realtime_put Count=22,Value=22,Value/Count=1,Count/Duration=2.2,Duration=10",
        f"realtime_get {zero}",
        f"realtime_offset {zero}",
        f"realtime_get_miss {zero}",
        f"realtime_put_failed {zero}",
        f"realtime_message_size {zero}",
    ]


def test_the_summary_has_its_twenty_lines_in_order(statistics: Statistics) -> None:
    broker = Broker((section("a"), section("b"), section("c*")))
    assert reply(answer("", statistics, broker), 2147483647) == (
        b"result 200 292 2147483647\r\nSTATS\r\npid 25944\r\nbroker_id 0\r\n"
        b"port 8123\r\nuptime 3\r\nversion 1.4.6.2\r\n"
        b"slave false\r\ncurr_connections 1\r\nthreads 25\r\ncmd_put 0\r\ncmd_get 0\r\ncmd_offset 0\r\ntx_begin 0\r\n"
        b"tx_xa_begin 0\r\ntx_commit 0\r\ntx_rollback 0\r\n"
        b"get_miss 0\r\nput_failed 0\r\ntotal_messages 0\r\ntopics 3\r\n"
        b"config_checksum 4059861083\r\nEND\r\n"
    )


# Rules of single lines.


@pytest.mark.parametrize("item", ["", " ", "\t\n"])
def test_a_blank_item_asks_for_the_summary(statistics: Statistics, item: str) -> None:
    assert lines(item, statistics)[0] == "pid 25944"


def test_the_summary_counts_each_command_under_its_own_key(statistics: Statistics) -> None:
    tally = statistics.tally("test")
    tally.puts, tally.copied, tally.gets, tally.offsets, tally.misses, tally.put_failures = 10, 1, 12, 13, 14, 15
    statistics.tx_begin, statistics.tx_xa_begin, statistics.tx_commit, statistics.tx_rollback = 16, 17, 18, 19
    assert lines("", statistics)[8:17] == [
        "cmd_put 11",
        "cmd_get 12",
        "cmd_offset 13",
        "tx_begin 16",
        "tx_xa_begin 17",
        "tx_commit 18",
        "tx_rollback 19",
        "get_miss 14",
        "put_failed 15",
    ]


def test_the_summary_adds_up_messages_and_counts_topics_stored_or_configured(statistics: Statistics) -> None:
    stored = [Partition("a", 0, 0, 9, 4, 9), Partition("a", 1, 0, 9, 5, 9), Partition("w1", 0, 0, 9, 6, 9)]
    summary = lines("", statistics, Broker((section("a"), section("w*")), stored))
    assert summary[17:19] == ["total_messages 15", "topics 3"]  # a, w1, and the section w* that has no store


def test_the_summary_of_a_slave_says_so(statistics: Statistics) -> None:
    state = BrokerState(pid=1, port=2, uptime=61.0, connections=3, threads=4, slave=True)
    assert lines("", statistics, Broker(now=state))[2:8] == [
        "port 2",
        "uptime 61",
        "version 1.4.6.2",
        "slave true",
        "curr_connections 3",
        "threads 4",
    ]


def test_topics_adds_up_the_partitions_that_exist_and_sorts_by_name(statistics: Statistics) -> None:
    stored = [Partition("b", 7, 0, 9, 4, 90), Partition("a", 0, 0, 9, 5, 9), Partition("b", 0, 0, 9, 6, 10)]
    topics = lines("topics", statistics, Broker((section("z"), section("wild*"), section("a")), stored))
    flags = "accept_publish true accept_subscribe true"
    assert topics == [
        f"a partitions 1 message_count 5 message_bytes 9 {flags}",
        f"b partitions 2 message_count 10 message_bytes 100 {flags}",
        "wild* *Empty*",
        "z *Empty*",
    ]


def test_topics_shows_what_a_section_accepts_and_the_defaults_for_others(statistics: Statistics) -> None:
    stored = [Partition("closed", 0, 0, 9, 1, 9), Partition("w1", 0, 0, 9, 1, 9)]
    topics = (section("closed", publish=False), section("w*", subscribe=False))
    shown = lines("topics", statistics, Broker(topics, stored))
    assert shown[0].endswith(" accept_publish false accept_subscribe true")
    assert shown[1].endswith(" accept_publish true accept_subscribe true")  # a wildcard only admits names


def test_offsets_are_sorted_by_topic_and_number_in_seven_fields(statistics: Statistics) -> None:
    stored = [Partition("t", 10, 5, 6, 0, 0), Partition("t", 9, 0, 1, 0, 0), Partition("s", 11, 2, 3, 0, 0)]
    offsets = lines("offsets", statistics, Broker(stored=stored))
    assert [line.split(" ") for line in offsets] == [
        ["s", "part", "11", "min_offset", "2", "max_offset", "3"],
        ["t", "part", "9", "min_offset", "0", "max_offset", "1"],
        ["t", "part", "10", "min_offset", "5", "max_offset", "6"],
    ]


def test_a_stored_topic_shows_its_sums(statistics: Statistics) -> None:
    stored = [Partition("a", 0, 0, 9, 5, 9), Partition("a", 1, 0, 9, 6, 10), Partition("b", 0, 0, 9, 9, 9)]
    assert lines("a", statistics, Broker(stored=stored))[:5] == [
        "a",
        "resultCode 0",
        "partitions 2",
        "message_count 11",
        "bytes 19",
    ]


@pytest.mark.parametrize(("topic", "code"), [("idle", 2), ("w*", 2), ("w1", 1)])
def test_a_section_without_store_has_code_two_but_a_name_it_would_match_is_unknown(
    statistics: Statistics, topic: str, code: int
) -> None:
    assert lines(topic, statistics, Broker((section("idle"), section("w*"))))[:2] == [topic, f"resultCode {code}"]


def test_a_topic_without_a_figure_that_others_have_is_told_apart(statistics: Statistics, clock: HandClock) -> None:
    statistics.tally("a").puts += 2
    statistics.tally("b").gets += 1
    clock.now += 4
    assert lines("b", statistics)[5:] == [
        "topic_realtime_put Invalid keyTwo:b",
        "topic_realtime_get Count=1,Value=1,Value/Count=1,Count/Duration=0.25,Duration=4",
        "topic_realtime_offset null",
        "topic_realtime_get_miss null",
        "topic_realtime_put_failed null",
        "topic_realtime_message_size Invalid keyTwo:b",
    ]


def test_names_that_are_not_ascii_are_sent_as_utf_8(statistics: Statistics) -> None:
    assert answer("主题", statistics, Broker()).startswith("STATS\r\n主题\r\nresultCode 1\r\n".encode())


@pytest.mark.parametrize(
    ("figure", "seconds", "text"),
    [
        (Figure(0, 0), 0, "Count=0,Value=0,Value/Count=invalid,Count/Duration=invalid,Duration=0"),
        (Figure(0, 0), 7, "Count=0,Value=0,Value/Count=invalid,Count/Duration=0,Duration=7"),
        (Figure(50, 4342), 0, "Count=50,Value=4342,Value/Count=86.84,Count/Duration=invalid,Duration=0"),
        (Figure(9, 9), 50, "Count=9,Value=9,Value/Count=1,Count/Duration=0.18,Duration=50"),
        (Figure(8, 1), 8, "Count=8,Value=1,Value/Count=0.12,Count/Duration=1,Duration=8"),  # 0.125, tie to even
        (Figure(8, 3), 16, "Count=8,Value=3,Value/Count=0.38,Count/Duration=0.5,Duration=16"),  # 0.375, tie to even
        (Figure(1, 10**12), 1, "Count=1,Value=1000000000000,Value/Count=1000000000000,Count/Duration=1,Duration=1"),
        (Figure(1000, 1), 1000, "Count=1000,Value=1,Value/Count=0,Count/Duration=1,Duration=1000"),
    ],
)
def test_a_figure_has_two_decimals_at_most_rounded_half_even(figure: Figure, seconds: int, text: str) -> None:
    assert counter(figure, seconds) == text


@given(st.integers(1, 10**7), st.integers(0, 10**9))
def test_quotients_are_the_nearest_of_two_decimals_without_trailing_zeros(count: int, value: int) -> None:
    text = counter(Figure(count, value), 1).split(",")[2].removeprefix("Value/Count=")
    assert abs(Fraction(text) - Fraction(value, count)) <= Fraction(1, 200) + Fraction(1, 10**6)
    assert not (text.endswith("0") and "." in text)
    assert not text.endswith(".")


# Counting.


def test_puts_count_messages_and_bytes(statistics: Statistics, clock: HandClock) -> None:
    tally = statistics.tally("test")
    tally.puts += 20
    tally.bytes += 2000
    clock.now += 10
    assert statistics.total().put == Figure(20, 20)
    assert statistics.of("test").message_size == Figure(20, 2000)


def test_copied_messages_count_as_puts_since_the_start_but_not_in_real_time(statistics: Statistics) -> None:
    tally = statistics.tally("test")
    tally.copied += 3
    tally.bytes += 30
    assert statistics.commands().put == 3
    assert statistics.total().put is None
    assert statistics.total().message_size == Figure(3, 30)


def test_topics_without_stat_count_commands_only(clock: HandClock) -> None:
    statistics = Statistics(clock, lambda topic: topic == "on")
    statistics.tally("off").puts += 5
    statistics.tally("on").puts += 2
    assert statistics.commands().put == 7
    assert statistics.total().put == Figure(2, 2)
    assert statistics.of("off").put is None


def test_a_reset_leaves_zeros_where_something_was_counted_and_commands_alone(
    statistics: Statistics, clock: HandClock
) -> None:
    statistics.tally("test").gets += 4
    clock.now += 100
    statistics.reset()
    clock.now += 10
    assert statistics.total().get == Figure(0, 0)
    assert statistics.total().put is None
    assert statistics.commands().get == 4
    assert statistics.seconds() == 10


def test_figures_start_again_every_half_hour_though_nobody_looks(statistics: Statistics, clock: HandClock) -> None:
    statistics.tally("test").gets += 4
    clock.now += 3 * stats.RESET_INTERVAL + 5.5
    assert statistics.seconds() == 5
    assert statistics.total().get == Figure(0, 0)


def test_the_half_hour_counts_from_the_start_whatever_was_reset_in_between(
    statistics: Statistics, clock: HandClock
) -> None:
    clock.now += stats.RESET_INTERVAL - 10
    statistics.reset()
    statistics.tally("test").gets += 1
    clock.now += 9
    assert (statistics.seconds(), statistics.total().get) == (9, Figure(1, 1))
    clock.now += 1
    assert (statistics.seconds(), statistics.total().get) == (0, Figure(0, 0))


def test_a_tick_in_time_keeps_what_is_counted_after_the_half_hour(statistics: Statistics, clock: HandClock) -> None:
    clock.now += stats.RESET_INTERVAL
    statistics.tick()
    statistics.tally("test").gets += 1
    assert statistics.total().get == Figure(1, 1)


def test_a_reload_that_turns_stat_off_drops_figures_and_keeps_commands(clock: HandClock) -> None:
    statistics = Statistics(clock, lambda topic: True)
    statistics.tally("a").puts += 5
    statistics.tally("b").puts += 1
    statistics.choose(lambda topic: topic == "b")
    statistics.tally("a").puts += 1
    assert statistics.of("a").put is None
    assert statistics.total().put == Figure(1, 1)
    assert statistics.commands().put == 7


def test_a_reload_that_turns_stat_on_starts_at_zero(clock: HandClock) -> None:
    statistics = Statistics(clock, lambda topic: False)
    statistics.tally("a").puts += 5
    statistics.choose(lambda topic: True)
    assert statistics.of("a").put is None
    statistics.tally("a").puts += 1
    assert statistics.of("a").put == Figure(1, 1)
    assert statistics.commands().put == 6


def test_names_without_end_share_one_tally_instead_of_memory(clock: HandClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stats, "MAX_TOPICS", 3)
    statistics = Statistics(clock, lambda topic: True)
    for number in range(100):
        statistics.tally(f"t{number}").gets += 1
    assert statistics.total().get == Figure(100, 100)
    assert [statistics.of(f"t{number}").get for number in (0, 2, 3)] == [Figure(1, 1), Figure(1, 1), None]
    assert len({id(statistics.tally(f"t{number}")) for number in range(100)}) == 4


steps = st.lists(
    st.tuples(st.sampled_from(["put", "get", "reset", "wait", "choose"]), st.sampled_from("abc"), st.integers(0, 2000)),
    max_size=30,
)


@given(steps)
def test_figures_of_topics_add_up_to_the_total_and_commands_never_fall(history: list[tuple[str, str, int]]) -> None:
    clock = HandClock()
    statistics = Statistics(clock, lambda topic: topic != "c")
    puts = gets = 0
    chosen: Callable[[str], bool]
    for verb, topic, number in history:
        if verb == "put":
            statistics.tally(topic).puts += number
            puts += number
        elif verb == "get":
            statistics.tally(topic).gets += number
            gets += number
        elif verb == "reset":
            statistics.reset()
        elif verb == "wait":
            clock.now += number
        else:
            chosen = "ab".__contains__ if number % 2 else "bc".__contains__
            statistics.choose(chosen)
        assert (statistics.commands().put, statistics.commands().get) == (puts, gets)
        own = [figure.count for t in "abc" if (figure := statistics.of(t).put) is not None]
        total = statistics.total().put
        assert (total.count if total is not None else 0) == sum(own)
        assert all(0 <= count <= puts for count in own)


def test_a_slave_says_how_far_it_is_behind_all_else_and_by_partition_on_request(statistics: Statistics) -> None:
    broker = Broker(now=STATE._replace(slave=True), copying=["slave_id 2", "test part 0"])
    summary = lines("", statistics, broker)
    assert "slave true" in summary
    assert summary[-1] == "slave_id 2"
    assert lines("slave", statistics, broker) == ["slave_id 2", "test part 0"]


def test_elsewhere_slave_is_a_topic_like_any_other(statistics: Statistics) -> None:
    assert lines("slave", statistics)[:2] == ["slave", "resultCode 1"]
