"""Plots of the samples beside the page: SVG, the same for the same samples, readable on light and dark."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any, Final

from bench.cases import JAVA, OURS
from bench.producing import GROUP
from bench.samples import Samples

OURS_COLOUR: Final = "#e4572e"
JAVA_COLOUR: Final = "#8d6cab"
COLOURS: Final = {  # the same in every plot, by the first word of the name
    "confluent-kafka": "#c45ab3", "aiokafka": "#c99700", "nats-py": "#7f8c8d", "redis-py": "#17a2b8",
    "rstream": "#a0522d", "aio-pika": "#3aa17e", "RocketMQ": "#3d8bd4",
}  # fmt: skip
INK: Final = "#808080"  # of text and lines: a grey that shows on white and on black
STYLE: Final = {
    "svg.hashsalt": "metaq",
    "svg.fonttype": "none",
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "axes.titlecolor": INK,
    "axes.titlesize": 10,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": INK,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
COMPARED: Final = {  # of the plot `produce`: what each of its parts shows
    "P1": "P1: one in flight",
    "P2/16": "P2: 50 waiting",
    "P3/100 B": "P3: pipelined, 100 B",
    "P3/1 KB": "P3: pipelined, 1 KB",
    "P6/16": "P6: 50 waiting, synced",
    "P6/1024": "P6: synced, 1,024 partitions",
}
CONSUMED: Final = {"consume/100 B": "100 B", "consume/1 KB": "1 KB"}


def colour(name: str) -> str:
    """Return the colour of a client, whatever way it is used."""
    first = name.partition(" ")[0]
    return {OURS: OURS_COLOUR, JAVA: JAVA_COLOUR}.get(first) or COLOURS.get(first, INK)


def label(name: str) -> str:
    return "Java 1.4.6.2" if name == JAVA else name


@contextmanager
def figure(path: Path, width: float, height: float, **grid: Any) -> Iterator[Any]:
    """Yield the axes of a new figure; write it when the block ends. Raises ImportError without matplotlib."""
    import matplotlib as mpl  # noqa: PLC0415 - the rest of the benchmark runs without it

    mpl.use("svg")
    from matplotlib import pyplot  # noqa: PLC0415

    with mpl.rc_context(STYLE):
        drawn, axes = pyplot.subplots(figsize=(width, height), layout="constrained", **grid)
        try:
            yield axes
            drawn.savefig(path, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        finally:
            pyplot.close(drawn)


def medians(samples: Samples, case: str) -> dict[str, float]:
    return {name: median(values) for name, values in samples.by_broker(case).items()}


def bars(axes: Any, title: str, found: dict[str, float], shown: Callable[[float], str]) -> None:
    """Draw one bar for each client, the longest at the top."""
    ordered = sorted(found, key=lambda name: found[name])
    drawn = axes.barh([label(n) for n in ordered], [found[n] for n in ordered], color=[colour(n) for n in ordered])
    axes.bar_label(drawn, [shown(found[n]) for n in ordered], padding=3, fontsize=8, color=INK)
    axes.set_title(title, loc="left")
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    axes.margins(x=0.32)


def plainly(value: float, _position: int) -> str:
    """Return a power of ten without an exponent, for an axis."""
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"


def per_second(value: float) -> str:
    return f"{value / 1e6:.2f} M/s" if value >= 1e6 else f"{value / 1e3:.3g} k/s" if value >= 1e3 else f"{value:.0f}/s"


def draw_compared(samples: Samples, path: Path, compared: dict[str, str], columns: int) -> None:
    """Draw bars of some cases beside each other."""
    found = {title: medians(samples, case) for case, title in compared.items() if medians(samples, case)}
    if not found:
        return
    rows = -(-len(found) // columns)
    height = rows * (0.6 + 0.24 * max(len(each) for each in found.values()))
    with figure(path, 4.2 * columns, height, nrows=rows, ncols=columns, squeeze=False) as axes:
        for place, each in enumerate(axes.flat):
            if place < len(found):
                title = list(found)[place]
                bars(each, title, found[title], per_second)
            else:
                each.set_visible(False)


def draw_latency(samples: Samples, path: Path) -> None:
    """Draw p50 and p99 of each client on a scale of powers: one in flight, and from end to end."""
    parts = {f"{GROUP}P1": "P1: one in flight until its answer", f"{GROUP}P5": "P5: end to end at 1,000/s"}
    there = {case: title for case, title in parts.items() if medians(samples, f"{case} p50")}
    if not there:
        return
    with figure(path, 8.4, 3.2, ncols=len(there), squeeze=False) as axes:
        for each, (case, title) in zip(axes.flat, there.items(), strict=True):
            low, high = medians(samples, f"{case} p50"), medians(samples, f"{case} p99")
            ordered = sorted((name for name in low if name in high), key=lambda name: -low[name])
            for row, name in enumerate(ordered):
                tint = colour(name)
                each.plot([low[name], high[name]], [row, row], color=tint, linewidth=2)
                each.plot(low[name], row, "o", color=tint)
                each.plot(high[name], row, "|", color=tint, markersize=10, markeredgewidth=2)
            each.set_yticks(range(len(ordered)), [label(name) for name in ordered])
            each.set_xscale("log")
            each.xaxis.set_major_formatter(plainly)
            each.set_xlabel("ms: dot p50, line to p99")
            each.set_title(title, loc="left")
            each.grid(axis="x")


def draw_partitions(samples: Samples, path: Path) -> None:
    """Draw rates over the number of partitions: synced, and not."""
    kinds = {"P6": "P6: synced, 50 waiting", "P2": "P2: not synced, 50 waiting"}
    lines = {kind: by_count(samples, kind) for kind in kinds}
    lines = {kind: found for kind, found in lines.items() if found}
    if not lines:
        return
    with figure(path, 9.6, 3.6, ncols=len(lines), squeeze=False) as axes:
        for each, (kind, found) in zip(axes.flat, lines.items(), strict=True):
            for name, points in found.items():
                width = 2.4 if name.startswith(OURS) else 1.4
                each.plot(
                    *zip(*points, strict=True),
                    "o-",
                    color=colour(name),
                    label=label(name),
                    linewidth=width,
                    markersize=4,
                )
            counts = sorted({count for points in found.values() for count, _ in points})
            each.set_xscale("log")
            each.set_yscale("log")
            each.set_xticks(counts, [f"{count:,}" for count in counts])
            each.yaxis.set_major_formatter(plainly)
            each.minorticks_off()
            each.set_xlabel("partitions")
            each.set_ylabel("messages per second")
            each.set_title(kinds[kind], loc="left")
            each.grid()
        all_lines = {line.get_label(): line for each in axes.flat for line in each.get_lines()}
        axes.flat[0].figure.legend(all_lines.values(), all_lines.keys(), loc="outside right upper")


def by_count(samples: Samples, kind: str) -> dict[str, list[tuple[int, float]]]:
    """Return by client the rates over partitions, of those with two or more."""
    found: dict[str, list[tuple[int, float]]] = {}
    for case in samples.cases():
        if case.startswith(f"{GROUP}{kind}/"):
            for name, rate in medians(samples, case).items():
                found.setdefault(name, []).append((int(case.rpartition("/")[2]), rate))
    return {name: sorted(points) for name, points in found.items() if len(points) > 1}


def draw(folder: Path) -> None:
    """Draw whatever there are samples of into this folder. Raises ImportError without matplotlib."""
    for name in ("peers", "clients"):
        place = folder / f"{name}.json"
        if not place.exists():
            continue
        samples = Samples.read(place)
        if name == "peers":
            draw_compared(
                samples, folder / "produce.svg", {f"{GROUP}{case}": title for case, title in COMPARED.items()}, 2
            )
            draw_latency(samples, folder / "latency.svg")
            draw_partitions(samples, folder / "partitions.svg")
        else:
            draw_compared(samples, folder / "consume.svg", CONSUMED, 2)


if __name__ == "__main__":
    draw(Path("docs/bench"))
