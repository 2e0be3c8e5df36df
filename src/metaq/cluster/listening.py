"""Who wants to hear of a registry's state; the same for ZooKeeper and for the tree in memory."""

from collections.abc import Callable
from contextlib import suppress

from metaq.cluster.operations import State

Listener = Callable[[State], None]


class StateListeners:
    """Listeners in the order they came."""

    def __init__(self) -> None:
        self._listeners: list[Listener] = []

    def add(self, listener: Listener) -> Callable[[], None]:
        """Take one more; returns what ends that, any number of times."""
        self._listeners.append(listener)

        def end() -> None:
            with suppress(ValueError):
                self._listeners.remove(listener)

        return end

    def now(self) -> list[Listener]:
        """Return those there are."""
        return list(self._listeners)
