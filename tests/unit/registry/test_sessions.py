"""How long sessions last."""

import time

import pytest

from metaq.registry.options import RegistryOptions
from metaq.registry.sessions import Sessions
from metaq.registry.state import Session

TICK = 1000
SECRET = bytes(range(16))


def sessions(known: dict[int, Session] | None = None, now: int = 0) -> Sessions[str]:
    return Sessions({} if known is None else known, TICK, now)


def over(made: Sessions[str], now: int) -> list[int]:
    ended = made.expired(now)
    for live in ended:
        made.end(live)
    return [live.id for live in ended]


@pytest.mark.parametrize(
    ("wanted", "given"), [(-5, 2000), (0, 2000), (2001, 2001), (20_000, 20_000), (1 << 30, 20_000)]
)
def test_a_session_lasts_two_to_twenty_ticks(wanted: int, given: int) -> None:
    assert RegistryOptions().negotiate(wanted) == given


def test_the_limits_may_be_set() -> None:
    options = RegistryOptions(tick=200, shortest_session=500, longest_session=60_000)
    assert [options.negotiate(wanted) for wanted in (1, 501, 70_000)] == [500, 501, 60_000]


def test_a_session_is_over_in_the_tick_after_its_time_out_and_lives_on_when_its_client_is_heard() -> None:
    made = sessions()
    quiet = made.begin(1, 2500, "me", 100)
    heard = made.begin(2, 2500, "you", 100)
    assert [over(made, now) for now in (999, 1999, 2700)] == [[], [], []]
    made.touch(heard, 2700)
    assert over(made, 3000) == [quiet.id]
    assert len(made) == 1
    assert [over(made, now) for now in (4000, 5000, 5999)] == [[], [], []]
    assert over(made, 6000) == [heard.id]
    assert len(made) == 0


def test_sessions_end_in_the_order_in_which_they_were_due() -> None:
    made = sessions()
    for id, timeout in ((1, 3000), (2, 1000), (3, 3000), (4, 2000)):
        made.begin(id, timeout, None, 0)
    assert over(made, 1500) == []
    assert over(made, 3500) == [2, 4]
    assert over(made, 4000) == [1, 3]


def test_time_in_which_nobody_looked_does_not_count() -> None:
    made = sessions()
    made.begin(1, 4000, "me", 0)
    assert over(made, 1000) == []
    assert over(made, 61_000) == []  # the process was stopped for a minute
    assert [over(made, now) for now in (62_000, 63_000)] == [[], []]
    assert over(made, 64_000) == [1]


def test_after_a_restart_all_have_their_whole_time_out_to_come_back() -> None:
    made = sessions({7: Session(3000, SECRET)}, 50_000)
    assert made.find(7, SECRET) is not None
    assert [over(made, now) for now in (51_000, 52_000, 53_000)] == [[], [], []]
    assert over(made, 54_000) == [7]
    assert made.find(7, SECRET) is None


def test_a_session_is_found_by_its_password_only() -> None:
    known: dict[int, Session] = {}
    made = sessions(known)
    live = made.begin(7, 3000, "me", 0)
    assert made.find(7, SECRET) is None  # nobody remembers it
    known[7] = Session(3000, SECRET)
    assert made.find(7, SECRET) is live
    for password in (b"", bytes(16), SECRET[:-1], SECRET + b"\0"):
        assert made.find(7, password) is None
    assert made.find(8, SECRET) is None


def test_ids_are_new_whatever_the_clock_says() -> None:
    made = sessions()
    ids = [made.new_id(1_700_000_000_000) for _ in range(3)]
    assert ids == [ids[0], ids[0] + 1, ids[0] + 2]
    assert 0 < ids[0] < 1 << 56
    again = sessions({ids[2]: Session(3000, SECRET)})
    assert again.new_id(1_600_000_000_000) == ids[2] + 1  # the clock went back
    assert sessions().new_id(0) == 1


def test_ten_thousand_sessions_cost_little() -> None:
    made = sessions()
    lives = [made.begin(number, 20_000, None, number // 11) for number in range(1, 10_001)]
    began = time.process_time()
    for now in range(1000, 20_000, 1000):
        for live in lives[:: len(lives) // 1000]:
            made.touch(live, now)
        assert not made.expired(now)
    assert time.process_time() - began < 1.0
    assert [len(over(made, now)) for now in (20_000, 21_000, 22_000)] == [0, 9000, 0]
