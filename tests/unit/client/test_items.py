"""Messages as they wait in the spool of a producer."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaq.client.producing.items import Item, pack_item, unpack_item
from metaq.errors import CorruptSpool
from metaq.model import BrokerPartition

numbers = st.integers(0, (1 << 31) - 1)
partitions = st.none() | st.builds(BrokerPartition, numbers, numbers)
items = st.builds(Item, st.binary(), st.none() | st.text(), partitions)


@given(items)
def test_a_message_is_unpacked_as_it_was_packed(item: Item) -> None:
    packed = pack_item(item)
    assert unpack_item(packed) == item
    assert len(packed) <= item.size <= len(packed) + 4


@given(st.binary(max_size=40))
def test_other_bytes_are_a_message_or_an_error(data: bytes) -> None:
    with suppress(CorruptSpool):
        assert pack_item(unpack_item(data))


def test_bytes_that_are_too_few_are_an_error() -> None:
    for data in (b"", bytes(11), pack_item(Item(b"", "attribute", None))[:-1]):
        with pytest.raises(CorruptSpool, match="no message that was kept"):
            unpack_item(data)
