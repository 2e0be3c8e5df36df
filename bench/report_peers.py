"""The tables of producing beside other systems."""

from collections.abc import Iterator
from statistics import median
from typing import Final

from bench.cases import JAVA, OURS
from bench.producing import GROUP
from bench.report_cells import cell
from bench.samples import Samples

PRODUCING: Final = """\
### Producing, latency, start and memory

One process that produces, 100 bytes unless stated, every message acknowledged, 16 partitions unless stated; the
partitions take turns. **P1** one producer, one message in flight. **P2** 50 coroutines (in Java: threads), each waits
for its answer. **P3** as fast as the client takes messages: its batches, its callbacks. **P5** from just before the
sending in one process until another process has the message, at 1,000 messages per second. **P6** as P2, and an
answer means that the message is on disk: `unflushThreshold=0`, `log.flush.interval.messages=1`, `SYNC_FLUSH`,
`sync_interval: always`, `appendfsync always`, quorum queues. **P2/128**, **P6/128** and so on: so many partitions
(topics, streams, keys or queues where a system has no partitions). **P8** from the start of the process until it
answers, and its resident memory with all its processes. Clients are used in the fastest way that was found
(`bench/peers/`); asyncio is uvloop. Bold: the best of a row.

| Case | {names} |
|---|{rule}"""


def names_of(samples: Samples) -> list[str]:
    """Return the columns, ours first."""
    found = dict.fromkeys(s.broker for s in samples.taken if s.case.startswith(GROUP))
    return sorted(found, key=lambda name: not name.startswith(OURS))


def label(name: str) -> str:
    return "Java 1.4.6.2" if name == JAVA else name


def head(samples: Samples) -> str:
    names = names_of(samples)
    return PRODUCING.format(names=" | ".join(map(label, names)), rule="---|" * len(names))


def rows(samples: Samples) -> Iterator[str]:
    names = names_of(samples)
    cases = sorted((c for c in samples.cases() if c.startswith(GROUP)), key=order)
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
