"""Plots of courses.json and deaf.json: throughput and memory over time, and the shares of producers, sorted."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

from bench import deaf
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


def draw_deaf(folder: Path) -> None:
    """Draw deaf.json that is in this folder: a column for each number of readers. Raises ImportError, see above."""
    courses = json.loads((folder / deaf.COURSES).read_text())
    with figure(
        folder / "deaf.svg", 9.6, 5.4, nrows=3, ncols=len(courses), sharex="col", sharey="row", squeeze=False
    ) as axes:
        for column, course in enumerate(courses):
            puts, reader, memory = (axes[row][column] for row in range(3))
            puts.plot(*steps(course["times"], course["acknowledged"], 1), color=OURS_COLOUR)
            reader.plot(*steps(course["times"], course["read"], 1 << 20), color=OURS_COLOUR)
            memory.plot(*zip(*course["memory"], strict=True), color=OURS_COLOUR)
            for each in (puts, reader, memory):
                shade(each, course["phases"])
            puts.set_title(f"{course['readers']:,} deaf readers", loc="left")
            memory.set_xlabel("seconds")
        for row, words in enumerate(("puts per second", "a slow reader, MiB/s", "resident memory, MiB")):
            axes[row][0].set_ylabel(words)
            axes[row][0].set_ylim(0, None)  # of both columns, when both are drawn
        axes[0][0].legend(loc="lower left")


def steps(times: list[float], counts: list[int], scale: int) -> tuple[list[float], list[float]]:
    """Return how much a count grew per second, by time."""
    points = list(zip(times, counts, strict=True))[::3]  # a third of a second each, about
    return times[3 : 3 * len(points) : 3], [(n - b) / (now - then) / scale for (then, b), (now, n) in pairwise(points)]


def shade(axes: Any, phases: list[dict[str, Any]]) -> None:
    """Shade when readers are deaf, and less when they read again."""
    shades = {deaf.DEAF: (0.3, "deaf"), deaf.AGAIN: (0.12, "read again")}
    for number, phase in enumerate(phase for phase in phases if phase["kind"] in shades):
        alpha, words = shades[phase["kind"]]
        label = words if number < len(shades) else None
        axes.axvspan(phase["start"], phase["end"], color=JAVA_COLOUR, alpha=alpha, linewidth=0, label=label)


if __name__ == "__main__":
    draw(Path("docs/bench"))
    draw_deaf(Path("docs/bench"))
