"""One connection, as the registry's machine knows it."""

from metaq.registry.access import Access
from metaq.registry.sessions import Live


class Client:
    """A connection: who it is, and what is to be sent to it.

    `outputs` are packets in the order in which they leave. Once `closing`, nothing more is done for it, and it is
    closed when they have left; `dropped`: they need not leave.
    """

    __slots__ = ("access", "address", "closing", "dropped", "outputs", "session")

    def __init__(self, address: str) -> None:
        """Take the address that the connection comes from, without its port."""
        self.address = address
        self.access = Access(address)
        self.session: Live[Client] | None = None
        self.outputs: list[bytes] = []
        self.closing = False
        self.dropped = False

    def __str__(self) -> str:
        return self.address if self.session is None else f"{self.address} (session {self.session.id:#x})"
