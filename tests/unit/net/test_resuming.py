"""Who goes on when its peer has read: in order, and few in one turn of the loop."""

import asyncio
from collections.abc import Callable
from functools import partial

from metaq.net.resuming import AT_ONCE, Resuming

MIB = 1 << 20


def sends(resuming: Resuming, seen: list[int], number: int) -> Callable[[], None]:
    """Return what is sent 1 MiB when it goes on."""

    def go_on() -> None:
        seen.append(number)
        resuming.sent += MIB

    return go_on


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_those_who_go_on_are_sent_so_much_in_a_turn_and_others_come_in_between() -> None:
    resuming, seen = Resuming(), list[int]()
    for number in range(10):
        resuming.add(sends(resuming, seen, number))
    assert not seen
    each = []
    for _ in range(4):
        await turns(1)
        each.append(len(seen))
    assert AT_ONCE == 4 * MIB and each == [4, 8, 10, 10]
    assert seen == list(range(10))


async def test_those_who_are_sent_nothing_go_on_in_one_turn() -> None:
    resuming, seen = Resuming(), list[int]()
    for number in range(1000):
        resuming.add(partial(seen.append, number))
    await turns(1)
    assert seen == list(range(1000))


async def test_who_comes_to_the_line_while_it_moves_has_a_turn_of_its_own_at_its_end() -> None:
    resuming, seen = Resuming(), list[int]()
    again = sends(resuming, seen, 0)

    def once() -> None:
        resuming.add(again)
        resuming.add(sends(resuming, seen, 2))
        seen.append(1)

    resuming.add(once)
    await turns(2)
    assert seen == [1, 0, 2]
    resuming.add(again)
    await turns(1)
    assert seen == [1, 0, 2, 0]


async def test_one_that_fails_does_not_keep_those_behind_it() -> None:
    resuming, seen = Resuming(), list[int]()
    failures: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(str(context["exception"])))

    def fail() -> None:
        raise RuntimeError("broken")

    resuming.add(fail)
    resuming.add(sends(resuming, seen, 1))
    await turns(2)
    assert seen == [1] and failures == ["broken"]
