"""The tables of producing beside other systems."""

from collections.abc import Iterator
from statistics import median
from typing import Final

from bench.cases import JAVA, OURS
from bench.producing import GROUP
from bench.report_cells import cell
from bench.samples import Samples

PRODUCING: Final = """\
### Producing and latency

One process that produces, 100 bytes unless stated, every message acknowledged, 16 partitions unless stated; the
partitions take turns, by runs of messages where a client batches: ours chooses itself, Kafka's are told to after 50 in
P2 and 1,000 in P3, which is faster for them than a turn for each. **P1** one producer, one message in flight. **P2** 50
coroutines (in Java: threads), each waits for its answer. **P3** as fast as the client takes messages: its batches, its
callbacks. **P5** from just before the sending in one process until another process has the message, at 1,000 messages
per second; of 1.4.6.2, which shows messages only when they are flushed, with `unflushThreshold=0` and a look every
10 ms. **P6** as P2, and an answer means that the message is on disk: `unflushThreshold=0`,
`log.flush.interval.messages=1`, `SYNC_FLUSH`, `sync_interval: always`, `appendfsync always`, quorum queues. **P2/128**,
**P6/128** and so on: so many partitions (topics, streams, keys or queues where a system has no partitions). Clients are
used in the fastest way that was found (`bench/peers/`); asyncio is uvloop. Bold: the best of a row.

| Case | {names} |
|---|{rule}"""
STARTING: Final = """\
### Start and memory beside other systems

**P8**: from the start of the process in an empty folder until it answers, and the resident memory of all its processes
after the workloads on so many partitions.

| Case | {names} |
|---|{rule}"""


def names_of(samples: Samples, start: bool = False) -> list[str]:
    """Return the columns, ours first: clients, or the servers of `start`."""
    found = dict.fromkeys(s.broker for s in samples.taken if s.case.startswith(GROUP) and is_start(s.case) is start)
    return sorted(found, key=lambda name: not name.startswith(OURS))


def is_start(case: str) -> bool:
    return case.startswith(f"{GROUP}P8")


def label(name: str) -> str:
    return "Java 1.4.6.2" if name == JAVA else name


def head(samples: Samples) -> str:
    return _with_columns(PRODUCING, names_of(samples))


def start_head(samples: Samples) -> str:
    return _with_columns(STARTING, names_of(samples, start=True))


def _with_columns(text: str, names: list[str]) -> str:
    return text.format(names=" | ".join(map(label, names)), rule="---|" * len(names))


def rows(samples: Samples, start: bool = False) -> Iterator[str]:
    names = names_of(samples, start)
    cases = sorted((c for c in samples.cases() if c.startswith(GROUP) and is_start(c) is start), key=order)
    for case in cases:
        unit = samples.unit(case)
        found = {name: median(values) for name in names if (values := samples.values(case, name).values())}
        best = (max if unit == "messages/s" else min)(found, key=lambda name: found[name], default="")
        cells = (bold(cell(samples, case, name), name == best and len(found) > 1) for name in names)
        yield f"| {case.removeprefix(GROUP)}, {unit} | {' | '.join(cells)} |"


def bold(text: str, stands_out: bool) -> str:
    return f"**{text}**" if stands_out else text


def order(case: str) -> tuple[str, int, str]:
    """Sort P2/16 before P2/128."""
    kind, _, rest = case.removeprefix(GROUP).partition("/")
    digits = "".join(filter(str.isdigit, rest)) if "B" not in rest else ""
    return kind, int(digits or 0), rest
