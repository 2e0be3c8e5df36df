"""Trying many seeds of one random test, or the one that failed last."""

import os
from collections.abc import Callable


def try_seeds(bad_days: Callable[[int], object], first: int, count: int) -> None:
    """Live through the bad days of these seeds, or of METAQ_SEED alone; an error names its seed."""
    for seed in [int(os.environ["METAQ_SEED"])] if "METAQ_SEED" in os.environ else range(first, first + count):
        try:
            bad_days(seed)
        except BaseException as exc:
            exc.add_note(f"METAQ_SEED={seed}")
            raise
