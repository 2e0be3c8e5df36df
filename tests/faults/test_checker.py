"""The checker of all fault tests notices each thing that may not happen."""

from random import Random

import pytest

from metaq.model import TopicPartition
from metaq.record import pack
from tests.faults.checker import Ledger

TARGET = TopicPartition("test", 0)
OTHER = TopicPartition("test", 1)


def kept(count: int = 5) -> tuple[Ledger, list[bytes]]:
    """Return a ledger with messages that are all acknowledged, and their records."""
    ledger = Ledger(Random(0))
    records: list[bytes] = []
    for n in range(count):
        body = ledger.body(TARGET, 10 * n)
        ledger.acknowledge(TARGET, sum(map(len, records)), n + 1, body)
        records.append(pack(n + 1, 0, body))
    return ledger, records


def test_a_log_with_all_that_was_promised_passes_and_may_have_more_that_was_sent() -> None:
    ledger, records = kept()
    ledger.check(TARGET, b"".join(records))
    ledger.check(TARGET, b"".join(records) + pack(99, 0, ledger.body(TARGET, 5)))


@pytest.mark.parametrize("missing", range(5))
def test_a_missing_message_is_noticed(missing: int) -> None:
    ledger, records = kept()
    del records[missing]
    with pytest.raises(AssertionError, match=r"missing|has changed"):
        ledger.check(TARGET, b"".join(records))


def test_a_message_with_another_id_is_noticed() -> None:
    ledger, records = kept()
    body = next(iter(ledger.sent))
    with pytest.raises(AssertionError, match="has changed"):
        ledger.check(TARGET, pack(77, 0, body) + b"".join(records[1:]))


def test_messages_that_changed_places_are_noticed() -> None:
    ledger, records = kept()
    records[1], records[2] = records[2], records[1]
    with pytest.raises(AssertionError, match=r"missing|has changed"):
        ledger.check(TARGET, b"".join(records))


def test_a_message_that_is_there_twice_is_noticed() -> None:
    ledger, records = kept()
    with pytest.raises(AssertionError, match="there twice"):
        ledger.check(TARGET, b"".join([*records, records[0]]))


@pytest.mark.parametrize("target", [TARGET, OTHER])
def test_a_message_nobody_sent_there_is_noticed(target: TopicPartition) -> None:
    ledger, records = kept()
    strange = pack(9, 0, b"strange") if target == TARGET else pack(9, 0, ledger.body(OTHER, 5))
    with pytest.raises(AssertionError, match="was not sent to it"):
        ledger.check(TARGET, b"".join([*records, strange]))


def test_half_a_message_at_the_end_is_noticed() -> None:
    ledger, records = kept()
    with pytest.raises(AssertionError, match="7 bytes behind the last message"):
        ledger.check(TARGET, b"".join(records) + records[0][:7])


def test_what_was_read_once_must_stay_although_it_was_never_acknowledged() -> None:
    ledger, records = kept()
    extra = pack(9, 0, ledger.body(TARGET, 5))
    ledger.check(TARGET, b"".join([*records, extra]))
    with pytest.raises(AssertionError, match="has changed"):
        ledger.check(TARGET, b"".join(records))


def test_a_tail_may_be_lost_where_that_is_allowed_but_no_hole_may_be_there() -> None:
    ledger, records = kept()
    with pytest.raises(AssertionError, match=r"missing|has changed"):
        ledger.check(TARGET, b"".join(records[:2] + records[3:]), lost_tail=True)
    ledger, records = kept()
    ledger.check(TARGET, b"".join(records[:2]), lost_tail=True)
    ledger.check(TARGET, b"".join(records[:2]))


def test_an_offset_that_is_given_out_twice_is_noticed() -> None:
    ledger, _ = kept()
    with pytest.raises(AssertionError, match="given out twice"):
        ledger.acknowledge(TARGET, 0, 5, b"x")
