"""What is under way between the loop and kazoo's threads."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from metaq.cluster.ports import Changed


@dataclass(frozen=True, slots=True)
class Trigger:
    """A watch as kazoo keeps it: in a set, so that equal ones count once."""

    post: Callable[[Changed], None]
    changed: Changed

    def __call__(self, event: object) -> None:
        self.post(self.changed)


class Request:
    """One request of kazoo's; it holds a slot until kazoo is done with it, even if nobody waits any more."""

    def __init__(self, slots: asyncio.Semaphore) -> None:
        self.future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self._slots = slots
        self._done = False

    def finish(self, value: object, error: BaseException | None) -> None:
        """Give the slot back and the answer to whoever waits; only the first call counts."""
        if self._done:
            return
        self._done = True
        self._slots.release()
        if self.future.done():
            return
        if error is None:
            self.future.set_result(value)
        else:
            self.future.set_exception(error)
