"""Cells of the tables: medians with their spread, ratios with their targets."""

from math import floor
from statistics import median

from bench.samples import Samples


def cell(samples: Samples, case: str, broker: str) -> str:
    """Return median and spread of one cell, or why it is empty."""
    values = samples.values(case, broker).values()
    if not values:
        return f"failed: {note}" if (note := samples.note(case, broker)) else "–"
    digits = 0 if max(values) >= 100 else 2
    middle, low, high = (f"{v:,.{digits}f}" for v in (median(values), min(values), max(values)))
    return middle if len(values) == 1 else f"{middle} ({low}–{high})"


def judged(ratio: float | None, target: float) -> str:
    """Return a ratio beside what it has to be; a miss stands out."""
    if ratio is None:
        return "–"
    shown = f"{floor(ratio * 100) / 100:.2f}"  # rounded down: 0.749 does not look like 0.75
    return shown if ratio >= target else f"**{shown}, misses {target}**"
