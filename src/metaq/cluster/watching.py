"""Values derived from the tree that stay fresh: read, wait until something changed, read again."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

from metaq.cluster.operations import Node, RegistryClosed
from metaq.cluster.ports import Changed, Registry
from metaq.errors import RegistryError

log = logging.getLogger(__name__)

T = TypeVar("T")

_PAUSE: Final = 0.1  # seconds before reading again what could not be read; doubles up to _LONGEST_PAUSE
_LONGEST_PAUSE: Final = 5.0


class Watch(Generic[T]):
    """Keeps one value fresh until closed.

    `read` gets the callable to pass on as `changed` to every read its value depends on. `tell` is called with the
    first value and after every change, on the loop; several changes may be told as one, and a value may be told again
    although it is equal: a node that was deleted and made anew is a change.
    """

    def __init__(
        self, name: str, read: Callable[[Changed], Awaitable[T]], tell: Callable[[T], None] | None = None
    ) -> None:
        self._name = name
        self._read = read
        self._tell = tell
        self._stale = asyncio.Event()
        self._first: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._current: list[T] = []
        self._task = asyncio.create_task(self._run(), name=f"watch {name}")

    async def value(self) -> T:
        """Return the latest value, waiting for the first one. Raises RegistryClosed if there will be none."""
        await asyncio.shield(self._first)
        return self._current[0]

    async def close(self) -> None:
        """Stop; nothing is told any more once this returns."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        pause = _PAUSE
        try:
            while True:
                self._stale.clear()
                try:
                    value = await self._read(self._stale.set)
                except RegistryClosed:
                    return
                except RegistryError as exc:
                    log.warning("%s: not read, trying again in %g s: %s", self._name, pause, exc)
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, _LONGEST_PAUSE)
                    continue
                pause = _PAUSE
                self._publish(value)
                await self._stale.wait()
        finally:
            if not self._first.done():
                self._first.set_exception(RegistryClosed())
                self._first.exception()  # nobody need have waited

    def _publish(self, value: T) -> None:
        self._current = [value]
        if not self._first.done():
            self._first.set_result(None)
        if self._tell is not None:
            try:
                self._tell(value)
            except Exception:
                log.exception("%s: a listener failed", self._name)


def watch_children(
    registry: Registry, path: str, tell: Callable[[list[str] | None], None] | None = None
) -> Watch[list[str] | None]:
    """Watch the names of a node's children; None while there is no such node."""
    return Watch(path, lambda changed: registry.children(path, changed), tell)


def watch_node(registry: Registry, path: str, tell: Callable[[Node | None], None] | None = None) -> Watch[Node | None]:
    """Watch a node coming, changing and going; None while it is missing."""
    return Watch(path, lambda changed: registry.get(path, changed), tell)
