"""How much of the memory for unread replies one reply may take."""

from metaq.net.room import FLOOR, Room

MIB = 1 << 20


class Nobody:
    """A member that is never in the way."""

    held = False

    def stalled(self, room: Room) -> None:
        raise AssertionError("dropped")


async def test_a_share_is_as_much_as_anybody_asks_for_until_memory_is_scarce() -> None:
    room = Room(256 * MIB, 30.0)
    assert room.share() == room.most
    room.take(Nobody(), 96 * MIB)
    assert room.share() == room.most
    room.take(Nobody(), 64)
    assert MIB // 2 < room.share() < MIB


async def test_400_who_take_a_share_each_and_give_nothing_back_leave_a_reserve_for_thousands() -> None:
    room = Room(256 * MIB, 30.0)
    shares = []
    for _ in range(400):
        shares.append(room.share())
        room.take(Nobody(), min(MIB, shares[-1]))
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] == FLOOR
    assert room.used < 165 * MIB
    for _ in range(5000):
        assert room.share() == FLOOR
        room.take(Nobody(), FLOOR)
    assert not room.scarce


async def test_shares_grow_again_when_memory_is_given_back() -> None:
    room = Room(256 * MIB, 30.0)
    members = [Nobody() for _ in range(200)]
    for member in members:
        room.take(member, MIB)
    assert room.share() == FLOOR
    for member in members:
        room.give(member)
    assert room.share() == room.most
