"""What is done with a partition, told from both ends."""

import pytest

from metaq.replication.pair.comparing import Act, Decision, Ends, decide

CASES = [
    # ours, theirs, what with a slave of ours, what with one of 1.4.6.2
    (None, None, Decision(Act.NOTHING, 0), None),
    (Ends(0, 0), None, Decision(Act.NOTHING, 0), None),
    (Ends(0, 90), None, Decision(Act.PUSH, 0), None),
    (Ends(50, 90), None, Decision(Act.PUSH, 50), Decision(Act.REFUSE, 50)),
    (None, Ends(30, 90), Decision(Act.PULL, 30), None),
    (None, Ends(30, 30), Decision(Act.NOTHING, 30), None),
    (Ends(0, 90), Ends(0, 90), Decision(Act.NOTHING, 90), None),
    (Ends(0, 90), Ends(30, 60), Decision(Act.PUSH, 60), None),
    (Ends(60, 90), Ends(0, 60), Decision(Act.PUSH, 60), None),
    (Ends(0, 60), Ends(0, 90), Decision(Act.PULL, 60), None),
    (Ends(61, 90), Ends(0, 60), Decision(Act.RESET, 61), Decision(Act.REFUSE, 61)),
    (Ends(0, 60), Ends(61, 90), Decision(Act.REFUSE, 61), None),
]


@pytest.mark.parametrize(("ours", "theirs", "of_ours", "of_java"), CASES)
def test_two_ends_tell_what_is_to_be_done(
    ours: Ends | None, theirs: Ends | None, of_ours: Decision, of_java: Decision | None
) -> None:
    assert decide(ours, theirs, ours_too=True) == of_ours
    assert decide(ours, theirs, ours_too=False) == (of_java or of_ours)
