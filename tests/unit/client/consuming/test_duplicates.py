"""The filter of messages that come again."""

from hypothesis import given
from hypothesis import strategies as st

from metaq.client.consuming.duplicates import Duplicates

keys = st.lists(
    st.lists(st.tuples(st.just("t"), st.just("0-0"), st.integers(0, 40), st.just(7)), max_size=6), max_size=20
)


@given(keys, st.integers(1, 8))
def test_the_latest_are_known_and_no_more(added: list[list[tuple[str, str, int, int]]], size: int) -> None:
    known = Duplicates(size)
    order: dict[tuple[str, str, int, int], None] = {}
    for some in added:
        known.add(some)
        order.update(dict.fromkeys(some))
        latest = list(order)[-size:]
        assert [key for key in order if key in known] == latest
        order = dict.fromkeys(latest)


def test_one_id_in_two_places_is_two_messages() -> None:
    known = Duplicates(10)
    known.add([("t", "0-0", 0, 5)])
    assert ("t", "0-0", 0, 5) in known
    for other in [("u", "0-0", 0, 5), ("t", "1-0", 0, 5), ("t", "0-0", 20, 5), ("t", "0-0", 0, 6)]:
        assert other not in known
