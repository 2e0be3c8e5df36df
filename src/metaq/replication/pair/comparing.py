"""What is to be done so that the slave has what the master has, seen from both ends; pure."""

from enum import Enum
from typing import NamedTuple


class Ends(NamedTuple):
    """The first offset of a log, and the one behind its last record."""

    start: int
    end: int


class Act(Enum):
    """What to do with a partition."""

    NOTHING = "both end there"
    PUSH = "the master has more"
    PULL = "the slave has more"
    RESET = "the slave's log ends before the master's begins"
    REFUSE = "their logs do not meet"


class Decision(NamedTuple):
    """`at`: where both logs must be the same up to, and from where on one of them is copied."""

    act: Act
    at: int


def decide(ours: Ends | None, theirs: Ends | None, *, ours_too: bool) -> Decision:
    """Return what makes two logs one; None: there is none.

    `ours_too`: the slave is a broker of ours, so its log may begin where we say. One of 1.4.6.2 begins at 0.
    """
    if theirs is None:
        if ours is None:
            return Decision(Act.NOTHING, 0)
        if ours.start and not ours_too:
            return Decision(Act.REFUSE, ours.start)
        return Decision(Act.PUSH if ours.end > ours.start else Act.NOTHING, ours.start)
    if ours is None:
        return Decision(Act.PULL if theirs.end > theirs.start else Act.NOTHING, theirs.start)
    if theirs.end < ours.start:
        return Decision(Act.RESET if ours_too else Act.REFUSE, ours.start)
    if ours.end < theirs.start:
        return Decision(Act.REFUSE, theirs.start)
    if theirs.end == ours.end:
        return Decision(Act.NOTHING, ours.end)
    return Decision(Act.PUSH if theirs.end < ours.end else Act.PULL, min(ours.end, theirs.end))
