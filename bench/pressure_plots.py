"""Plots of courses.json: throughput and memory over time, and the shares of producers, sorted."""

import json
from itertools import pairwise
from pathlib import Path

from bench.plots import JAVA_COLOUR, OURS_COLOUR, figure
from bench.pressure import COURSES


def draw(folder: Path) -> None:
    """Draw what is in this folder. Raises ImportError without matplotlib."""
    courses = json.loads((folder / COURSES).read_text())
    with figure(folder / "pressure.svg", 8.0, 4.5, nrows=2, sharex=True) as (rates, memories):
        for course, colour in zip(courses, (OURS_COLOUR, JAVA_COLOUR), strict=False):
            name = f"{course['producers']:,} producers"
            points = list(zip(course["times"], course["acknowledged"], strict=True))[::10]  # a second each, about
            steps = [(now, (count - before) / (now - then)) for (then, before), (now, count) in pairwise(points)]
            rates.plot([time for time, _ in steps], [rate for _, rate in steps], color=colour, label=name)
            memories.plot(*zip(*course["memory"], strict=True), color=colour)
        rates.set(title="acknowledged per second, the disk slower than the producers", ylim=(0, None))
        memories.set(title="resident memory, MiB", xlabel="seconds", ylim=(0, None))
        rates.legend()
    with figure(folder / "shares.svg", 8.0, 2.5) as axes:
        course = courses[-1]
        axes.plot(course["shares"], color=OURS_COLOUR)
        axes.set(
            title=f"messages acknowledged to each of {course['producers']:,} equal producers, sorted",
            xlabel="producer", ylim=(0, None),
        )  # fmt: skip


if __name__ == "__main__":
    draw(Path("docs/bench"))
