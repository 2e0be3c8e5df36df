"""What was measured, as it came; kept beside the table."""

import json
from collections import defaultdict
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Self


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement: `value` of `unit` that `broker` reached in `case`, in one round. None: it failed, see `note`."""

    case: str
    broker: str
    round: int
    value: float | None
    unit: str
    note: str = ""
    run: str = ""  # date and commit; "": those of the facts beside it


@dataclass(slots=True)
class Samples:
    """All measurements of one run of the benchmark."""

    facts: dict[str, str]  # machine and versions
    taken: list[Sample] = field(default_factory=list)

    def add(self, sample: Sample) -> None:
        self.taken.append(sample)

    @property
    def run(self) -> str:
        """Return date and commit of this run, "" if they are not known."""
        return ", ".join(self.facts[name] for name in ("Date", "metaq") if name in self.facts)

    def with_older(self, older: Self) -> Self:
        """Return these and, of an earlier run, the cases that were not measured now; each says of which run it is."""
        again = set(self.cases())
        kept = [replace(s, run=s.run or older.run) for s in older.taken if s.case not in again]
        return type(self)(self.facts, kept + [replace(s, run=s.run or self.run) for s in self.taken])

    def values(self, case: str, broker: str) -> dict[int, float]:
        """Return the values of one cell by round, failures left out."""
        cell = (s for s in self.taken if s.case == case and s.broker == broker)
        return {s.round: s.value for s in cell if s.value is not None}

    def note(self, case: str, broker: str) -> str:
        """Return why a cell is empty."""
        return next((s.note for s in self.taken if s.case == case and s.broker == broker and s.note), "")

    def ratio(self, case: str, broker: str, other: str) -> float | None:
        """Return the median over the rounds of broker/other: each round compares what ran one after the other."""
        mine, theirs = self.values(case, broker), self.values(case, other)
        both = [mine[r] / theirs[r] for r in mine.keys() & theirs.keys()]
        return median(both) if both else None

    def cases(self) -> list[str]:
        """Return the names of all cases, in the order they were first measured."""
        return list(dict.fromkeys(s.case for s in self.taken))

    def unit(self, case: str) -> str:
        return next(s.unit for s in self.taken if s.case == case)

    def write(self, path: Path) -> None:
        """Write all as JSON, one sample a line."""
        lines = ",\n".join(f"  {json.dumps(asdict(sample))}" for sample in self.taken)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'{{"facts": {json.dumps(self.facts, indent=1)},\n "samples": [\n{lines}\n ]}}\n')

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what `write` wrote."""
        content = json.loads(path.read_text())
        return cls(content["facts"], [Sample(**sample) for sample in content["samples"]])

    def brokers(self, case: str) -> list[str]:
        """Return whatever was measured in a case, in the order it first was."""
        return list(dict.fromkeys(s.broker for s in self.taken if s.case == case))

    def beside(self, case: str, broker: str, other: str) -> list[float]:
        """Return the values of one in the rounds in which the other was measured too."""
        mine, theirs = self.values(case, broker), self.values(case, other)
        return [value for round_, value in mine.items() if round_ in theirs]

    def by_broker(self, case: str) -> dict[str, list[float]]:
        """Return all values of a case, by broker."""
        cells: dict[str, list[float]] = defaultdict(list)
        for sample in self.taken:
            if sample.case == case and sample.value is not None:
                cells[sample.broker].append(sample.value)
        return dict(cells)
