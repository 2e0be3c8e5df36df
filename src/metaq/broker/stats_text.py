"""The texts that answer `stats`, exactly as 1.4.6.2 writes them (reference: StatsManager, MetaStatLog; protocol.md §4).

    STATS CRLF  { key [ SP value … ] CRLF }  END CRLF

All are bodies of a 200 reply. `stats config` is no text: the broker sends the bytes of the file. What goes over all
partitions is a generator, which yields now and then for others to have their turn of the loop: 50,000 take 0.1 s.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Final, Generic, NamedTuple, Protocol, TypeAlias, TypeVar

from metaq._version import REFERENCE_VERSION
from metaq.broker.stats import Commands, Figure, Figures, Statistics
from metaq.config.model import BrokerConfig

T = TypeVar("T")

Pieces: TypeAlias = Generator[None, None, T]  # returns its result in the end

PIECE: Final = 1500  # partitions looked at in one go, in some 3 ms
SHORT: Final = frozenset(["help", "realtime", "reset"])  # items whose answers do not grow with the partitions
_HELP: Final = (
    "*EMPTY* Returns broker info.",
    "help Returns help menu.",
    "topics Returns topics statistics detail info.",
    "offsets Returns partitions detail info.",
    "realtime Returns realtime statistics detail info.",
    "config Returns broker's config file content.",
)


class PartitionState(Protocol):
    """What the log says of one partition that exists on disk or in memory."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def min_offset(self) -> int: ...  # where the first segment starts
    @property
    def end(self) -> int: ...  # where readers must wait
    @property
    def messages(self) -> int: ...  # stored since the start, and before it as far as recovery counted them
    @property
    def bytes(self) -> int: ...  # in all segments


class BrokerState(NamedTuple):
    """What only the running process knows of itself."""

    pid: int
    port: int  # the one that is bound
    uptime: float  # seconds
    connections: int
    threads: int
    slave: bool = False  # an asynchronous slave
    version: str = REFERENCE_VERSION
    copying: Sequence[str] = ()  # of one of a pair: the lines that come after all others


class Source(Protocol):
    """Where the figures come from that are not counted by Statistics; implemented by the broker."""

    @property
    def config(self) -> BrokerConfig: ...
    def state(self) -> BrokerState: ...
    def slave_summary(self) -> Pieces[list[str]]:
        """Make the lines that an asynchronous slave has after all others; of others none."""

    def slave_lines(self) -> Pieces[list[str]] | None:
        """Make the answer to "slave"; None: this is no such slave, and "slave" a topic like any other."""

    def partitions(self, topic: str | None = None) -> Iterable[PartitionState]:
        """Return the partitions of one topic (none: it has no store), or of all; in any order."""


def answer(item: str, statistics: Statistics, source: Source) -> bytes:
    """Return the body that answers `stats <item>`; "reset" also resets. Not for "config", which is no text."""
    return at_once(answer_in_pieces(item, statistics, source))


class Whole(Generic[T]):
    """Makes an answer, a piece in each step of an iteration; then `value` is what came of it."""

    value: T

    def __init__(self, pieces: Pieces[T]) -> None:
        self._pieces = pieces

    def __iter__(self) -> Iterator[None]:
        self.value = yield from self._pieces


def at_once(pieces: Pieces[T]) -> T:
    """Make all of it now; return it."""
    whole = Whole(pieces)
    for _ in whole:
        pass
    return whole.value


def answer_in_pieces(item: str, statistics: Statistics, source: Source) -> Pieces[bytes]:
    """Make what `answer` returns. Partitions are as they are when it comes to them."""
    match item:
        case "topics":
            lines = yield from topics_lines(source.config, source.partitions())
        case "offsets":
            lines = yield from offsets_lines(source.partitions())
        case "realtime":
            lines = realtime_lines(statistics.total(), statistics.seconds())
        case "help":
            lines = list(_HELP)
        case "reset":
            statistics.reset()
            lines = ["reset ok"]
        case "slave" if (told := source.slave_lines()) is not None:
            lines = yield from told
        case blank if not blank.strip():
            lines = yield from summary_lines(source.config, source.state(), statistics.commands(), source.partitions())
            lines += yield from source.slave_summary()
        case topic:
            lines = yield from topic_lines(topic, source.config, source.partitions(topic))
            lines += topic_realtime_lines(topic, statistics.of(topic), statistics.total(), statistics.seconds())
    return "\r\n".join(["STATS", *lines, "END", ""]).encode()


def summary_lines(
    config: BrokerConfig, state: BrokerState, commands: Commands, partitions: Iterable[PartitionState]
) -> Pieces[list[str]]:
    """Make the lines about the broker as a whole."""
    messages = 0
    names = {topic.name for topic in config.topics}
    for number, partition in enumerate(partitions, 1):
        if not number % PIECE:
            yield
        messages += partition.messages
        names.add(partition.topic)
    return [
        f"pid {state.pid}",
        f"broker_id {config.broker_id}",
        f"port {state.port}",
        f"uptime {int(state.uptime)}",
        f"version {state.version}",
        f"slave {_bool(state.slave)}",
        f"curr_connections {state.connections}",
        f"threads {state.threads}",
        f"cmd_put {commands.put}",
        f"cmd_get {commands.get}",
        f"cmd_offset {commands.offset}",
        f"tx_begin {commands.tx_begin}",
        f"tx_xa_begin {commands.tx_xa_begin}",
        f"tx_commit {commands.tx_commit}",
        f"tx_rollback {commands.tx_rollback}",
        f"get_miss {commands.get_miss}",
        f"put_failed {commands.put_failed}",
        f"total_messages {messages}",
        f"topics {len(names)}",
        f"config_checksum {config.checksum}",
        *state.copying,
    ]


def topics_lines(config: BrokerConfig, partitions: Iterable[PartitionState]) -> Pieces[list[str]]:
    """Make a line per topic with partitions, then one per section without; both sorted by name."""
    sums: dict[str, tuple[int, int, int]] = {}  # partitions, messages, bytes
    for number, partition in enumerate(partitions, 1):
        if not number % PIECE:
            yield
        count, messages, size = sums.get(partition.topic, (0, 0, 0))
        sums[partition.topic] = (count + 1, messages + partition.messages, size + partition.bytes)
    sections = {topic.name: topic for topic in config.topics}
    lines = []
    for number, (name, (count, messages, size)) in enumerate(sorted(sums.items()), 1):
        if not number % PIECE:
            yield
        topic = sections.get(name, config.defaults)
        lines.append(
            f"{name} partitions {count} message_count {messages} message_bytes {size}"
            f" accept_publish {_bool(topic.accept_publish)} accept_subscribe {_bool(topic.accept_subscribe)}"
        )
    return lines + [f"{name} *Empty*" for name in sorted(sections.keys() - sums.keys())]


def offsets_lines(partitions: Iterable[PartitionState]) -> Pieces[list[str]]:
    """Make a line per partition, sorted by topic and number; tools split them into exactly seven fields."""
    topics: dict[str, list[tuple[int, str]]] = {}  # sorted for themselves: all at once would take long
    for number, p in enumerate(partitions, 1):
        if not number % PIECE:
            yield
        line = f"{p.topic} part {p.partition} min_offset {p.min_offset} max_offset {p.end}"
        topics.setdefault(p.topic, []).append((p.partition, line))
    lines: list[str] = []
    for number, topic in enumerate(sorted(topics), 1):
        if not number % PIECE:
            yield
        lines += [line for _, line in sorted(topics[topic])]
    return lines


def realtime_lines(total: Figures, seconds: int) -> list[str]:
    """Return a line per kind of real-time figure, over all topics."""
    return _figure_lines("realtime_", total, lambda kind: "null", seconds)


def topic_lines(topic: str, config: BrokerConfig, partitions: Iterable[PartitionState]) -> Pieces[list[str]]:
    """Make the lines about what is stored of one topic, known or not."""
    states: list[PartitionState] = []
    for number, state in enumerate(partitions, 1):
        if not number % PIECE:
            yield
        states.append(state)
    code = 0 if states else 2 if config.has_section(topic) else 1
    return [
        topic,
        f"resultCode {code}",
        f"partitions {len(states)}",
        f"message_count {sum(state.messages for state in states)}",
        f"bytes {sum(state.bytes for state in states)}",
    ]


def topic_realtime_lines(topic: str, own: Figures, total: Figures, seconds: int) -> list[str]:
    """Return a line per kind of real-time figure of one topic; a kind that only other topics have is told apart."""
    others = dict(zip(Figures._fields, total, strict=True))
    return _figure_lines(
        "topic_realtime_", own, lambda kind: "null" if others[kind] is None else f"Invalid keyTwo:{topic}", seconds
    )


def counter(figure: Figure, seconds: int) -> str:
    """Return the text of one real-time figure, `seconds` after the last reset."""
    per_count = _quotient(figure.value, figure.count)
    per_second = _quotient(figure.count, seconds)
    return (
        f"Count={figure.count},Value={figure.value},Value/Count={per_count},"
        f"Count/Duration={per_second},Duration={seconds}"
    )


def _figure_lines(prefix: str, figures: Figures, absent: Callable[[str], str], seconds: int) -> list[str]:
    rows = zip(Figures._fields, figures, strict=True)
    return [
        f"{prefix}{kind} {counter(figure, seconds) if figure is not None else absent(kind)}" for kind, figure in rows
    ]


def _quotient(dividend: int, divisor: int) -> str:
    """Return at most two decimals, ties to even, no trailing zeros; "invalid" where it would divide by zero."""
    if divisor == 0:
        return "invalid"
    return f"{dividend / divisor:.2f}".rstrip("0").rstrip(".")


def _bool(flag: bool) -> str:
    return "true" if flag else "false"
