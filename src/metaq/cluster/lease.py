"""How long our session certainly lives: what to go by while ZooKeeper is silent."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from metaq.cluster.operations import RegistryClosed, State
from metaq.cluster.ports import Registry
from metaq.errors import RegistryError

log = logging.getLogger(__name__)

_SHARE: Final = 2 / 3  # of the session's time-out that we count on after the last answer
_ASK: Final = 1 / 6  # of the time-out between two questions
_GRACE: Final = 1.0  # seconds


class Lease:
    """A session that answered a question asked at t lives until t + its time-out; of that we count on two thirds.

    Whether there is a connection does not matter: it may be dead without anybody having said so. `lapsed` is called
    when the time is over without another answer, `renewed` when the session turns out to live after all, and at the
    first answer in each session. While the loop was held up nobody could ask: then there is a second to do so.
    """

    def __init__(self, registry: Registry, path: str, lapsed: Callable[[], None], renewed: Callable[[], None]) -> None:
        self._registry = registry
        self._path = path
        self._lapsed = lapsed
        self._renewed = renewed
        self._session = 0  # that is sure to live
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._connected = asyncio.Event()
        self._stop_listening = registry.on_state(self._hear_state)
        self._task = asyncio.create_task(self._ask(), name="lease on a ZooKeeper session")

    @property
    def sure(self) -> bool:
        """Return whether the present session certainly lives."""
        return self._session == self._registry.session != 0

    async def close(self) -> None:
        """Ask no more; nothing is called any more once this returns."""
        self._stop_listening()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._stop_timer()

    async def _ask(self) -> None:
        while True:
            self._connected.clear()
            asked, session = self._loop.time(), self._registry.session
            timeout = self._registry.session_timeout
            try:
                await self._registry.exists(self._path)
            except RegistryClosed:
                return
            except RegistryError as exc:
                log.debug("a question about the session was not answered: %s", exc)
            else:
                if session and session == self._registry.session:
                    self._renew(session, asked + timeout * _SHARE)
            with suppress(TimeoutError):
                async with asyncio.timeout_at(asked + timeout * _ASK):
                    await self._connected.wait()

    def _renew(self, session: int, due: float) -> None:
        self._stop_timer()
        if due <= self._loop.time():
            return  # an answer so late says nothing; the next question follows at once
        self._timer = self._loop.call_at(due, self._lapse, due)
        if not self.sure:
            self._session = session
            self._renewed()

    def _lapse(self, due: float) -> None:
        now = self._loop.time()
        if now > due + _GRACE / 2:
            self._timer = self._loop.call_at(now + _GRACE, self._lapse, now + _GRACE)
            return
        if self.sure:  # else whoever listens to the registry knows already
            self._session = 0
            self._lapsed()

    def _hear_state(self, state: State) -> None:
        if state is State.CONNECTED:
            self._connected.set()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
