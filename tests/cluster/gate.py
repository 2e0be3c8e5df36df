"""A way to a server that can be cut: connections end, new ones are refused, until it is opened again."""

import asyncio
from typing import Self


class Gate:
    """Passes connections to a port of its own on to `target`. The first `deaf` ones get no answer."""

    def __init__(self, target: str, *, deaf: int = 0) -> None:
        self.connections = 0
        self._host, _, self._port = target.partition(":")
        self._deaf = deaf
        self._is_open = True
        self._transports: set[asyncio.WriteTransport] = set()
        self._copies: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.cut()
        self._server.close()
        await asyncio.gather(*self._copies)

    @property
    def address(self) -> str:
        port: int = self._server.sockets[0].getsockname()[1]
        return f"127.0.0.1:{port}"

    def cut(self) -> None:
        """End all connections and refuse new ones."""
        self._is_open = False
        for transport in self._transports:
            transport.abort()
        self._transports.clear()

    def open(self) -> None:
        self._is_open = True

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._copies.add(task)
        task.add_done_callback(self._copies.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if not self._is_open:
            writer.transport.abort()
            return
        self._transports.add(writer.transport)
        if self.connections <= self._deaf:
            return
        inner_reader, inner_writer = await asyncio.open_connection(self._host, int(self._port))
        self._transports.add(inner_writer.transport)
        await asyncio.gather(_copy(reader, inner_writer), _copy(inner_reader, writer))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
    except ConnectionError:
        pass
    writer.transport.abort()
