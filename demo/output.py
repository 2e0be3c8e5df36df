"""What the demo prints: one line a step, and how far a step is."""

import sys
import time


def say(label: str, text: str) -> None:
    """Print one line: what, and what of it."""
    print(f"  {label:<10} {text}", flush=True)


class Progress:
    """How far a step is: a line that moves on a terminal, one line every fifth in a pipe."""

    def __init__(self, label: str, total: int) -> None:
        self.began = time.monotonic()
        self._label = label
        self._total = total
        self._moves = sys.stdout.isatty()
        self._next = 0

    def at(self, done: int) -> None:
        """Show how much is done, if it is time to."""
        if done < self._next:
            return
        self._next = done + max(self._total // (200 if self._moves else 5), 1)
        share, rate = done / max(self._total, 1), done / max(time.monotonic() - self.began, 1e-9)
        text = f"{share:4.0%}  {done:>9,} lines  {rate:>9,.0f}/s"
        if self._moves:
            print(f"\r  {self._label:<10} [{'#' * int(30 * share):<30}] {text}", end="", flush=True)
        elif done:
            say(self._label, text)

    def end(self) -> float:
        """Make room for the next line; return the seconds that went by."""
        if self._moves:
            print("\r\x1b[K", end="", flush=True)
        return time.monotonic() - self.began
