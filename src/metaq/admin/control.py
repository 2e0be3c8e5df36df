"""The control socket: how the commands of one machine reach the broker that runs on it.

A Unix socket of mode 0600: whoever may open it may control the broker, nobody else; the port has no verbs for that.
Requests and replies are JSON objects, one a line, answered one after the other on each connection:

    {"command": "status"}                                            → {"ok": true, "state": "serving", …}
    {"command": "reload"}                                            → {"ok": true, "added": […], …}
    {"command": "stats", "item": "topics"}                           → {"ok": true, "text": "STATS\\r\\n…"}
    {"command": "slave-status"}                                      → {"ok": true, "state": "current", …}
    {"command": "promote", "force": false, "wait": 60, "rest": [DIR]} → {"ok": true, "broker_id": 1, "lost": ""}
    {"command": "close-partitions", "topic": T, "start": 0, "end": 3} → {"ok": true}
    {"command": "open-partitions", "topic": T}                       → {"ok": true}
    {"command": "change-topic", "action": "create", "topic": T, "settings": {KEY: TEXT}} → {"ok": true, …}
    {"command": "stop"}                                              → {"ok": true}, once the broker has stopped
    anything else, or what failed                                    → {"ok": false, "error": "one sentence"}

Replaces the JMX operations of MetaConfig and MetaMorphosisBroker in the original.
"""

import asyncio
import json
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from typing import Final, Protocol

from metaq.admin.wire import Values, short_address
from metaq.broker.stats_text import PIECE
from metaq.cluster.topic_nodes import read_change
from metaq.config.editing import TopicChange
from metaq.errors import MetaqError

LONGEST_LINE: Final = 64 << 10  # bytes of a request
_LAST_WORDS: Final = 5.0  # seconds that replies have to leave when the broker is done
_BACKLOG: Final = 16
_LONGEST_WAIT: Final = 86400.0  # seconds


class Operations(Protocol):
    """What can be done to a broker by hand. Raises MetaqError, OSError or ValueError; the text reaches the user."""

    def status(self) -> Values: ...
    async def stats(self, item: str) -> str: ...
    async def slave_status(self) -> Values: ...
    async def promote(self, *, force: bool, wait: float, rest: Sequence[str]) -> Values: ...
    async def reload(self) -> Values: ...
    def close_partitions(self, topic: str, first: int, last: int) -> None: ...
    def open_partitions(self, topic: str) -> None: ...
    async def change_topic(self, change: TopicChange) -> Values: ...
    async def stop(self) -> None:
        """Stop the broker; return when it has, and raise what kept it from stopping in order."""


class ControlServer:
    """Serves the control socket at `path`. The caller must be the only broker of that place: an older socket goes."""

    def __init__(self, path: str, operations: Operations) -> None:
        self._path = path
        self._operations = operations
        self._clients: dict[asyncio.Task[None], bool] = {}  # → a request is being carried out
        self._server: asyncio.Server | None = None
        self._closing = False
        self._held = ExitStack()

    async def open(self) -> None:
        """Listen. OSError if that is impossible here."""
        listening = bind(self._held.enter_context(short_address(self._path)))
        self._server = await asyncio.start_unix_server(
            self._serve, sock=listening, limit=LONGEST_LINE, backlog=_BACKLOG
        )

    async def close(self) -> None:
        """Let the replies under way leave, for at most five seconds; then hang up and remove the socket."""
        self._closing = True
        if self._server is not None:
            self._server.close()
        busy = [task for task, working in self._clients.items() if working]
        if busy:
            await asyncio.wait(busy, timeout=_LAST_WORDS)
        rest = list(self._clients)
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        with suppress(FileNotFoundError):
            os.unlink(self._path)
        self._held.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._clients[task] = False
        try:
            with suppress(OSError, asyncio.CancelledError):
                await self._converse(task, reader, writer)
        finally:
            del self._clients[task]
            writer.close()

    async def _converse(
        self, task: asyncio.Task[None], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while not self._closing:
            try:
                line = await reader.readuntil(b"\n")
            except asyncio.IncompleteReadError:
                return
            except asyncio.LimitOverrunError:
                writer.write(_line(_failure(f"a request has at most {LONGEST_LINE} bytes")))
                await writer.drain()
                return  # where the next line begins is not known
            self._clients[task] = True
            for piece in _pieces(await self.answer(line)):
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)  # a drain need not wait
            self._clients[task] = False

    async def answer(self, line: bytes) -> Values:
        """Carry out one request; whatever it holds, return the reply."""
        try:
            request: object = json.loads(line)
        except (ValueError, RecursionError):
            return _failure("a request is one line of JSON")
        if not isinstance(request, dict):
            return _failure("a request is a JSON object")
        try:
            return {"ok": True, **await self._carry_out(request)}
        except (MetaqError, OSError, ValueError) as exc:
            return _failure(str(exc) or type(exc).__name__)

    async def _carry_out(self, request: Values) -> Values:
        operations = self._operations
        match request.get("command"):
            case "status":
                return operations.status()
            case "stats":
                return {"text": await operations.stats(_text(request, "item", ""))}
            case "slave-status":
                return await operations.slave_status()
            case "promote":
                force, wait = request.get("force") is True, _seconds(request, "wait")
                return await operations.promote(force=force, wait=wait, rest=_texts(request, "rest"))
            case "reload":
                return await operations.reload()
            case "close-partitions":
                operations.close_partitions(_text(request, "topic"), _number(request, "start"), _number(request, "end"))
            case "open-partitions":
                operations.open_partitions(_text(request, "topic"))
            case "change-topic":
                return await operations.change_topic(read_change(request))
            case "stop":
                await operations.stop()
            case other:
                raise ValueError(f"no such command: {other!r}")
        return {}


def bind(address: str) -> socket.socket:
    """Return a socket bound to `address` that no other user can ever have opened; what stood there is replaced."""
    with suppress(FileNotFoundError):
        os.unlink(address)
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    umask = os.umask(0o177)  # the mode is right from the first moment, not after a chmod
    try:
        bound.bind(address)
    except OSError:
        bound.close()
        raise
    finally:
        os.umask(umask)
    return bound


def _failure(text: str) -> Values:
    return {"ok": False, "error": text}


def _line(reply: Values) -> bytes:
    return json.dumps(reply).encode() + b"\n"


def _pieces(reply: Values) -> Iterator[bytes]:
    """Yield what `_line` returns, long lists some at a time: of 50,000 partitions they take 0.2 s."""
    long = {key: value for key, value in reply.items() if isinstance(value, list) and len(value) > PIECE}
    head = json.dumps({key: value for key, value in reply.items() if key not in long}).encode()
    yield head[:-1]  # all but the brace; a reply has "ok" in it
    for key, value in long.items():
        yield b", %b: [" % json.dumps(key).encode()
        for first in range(0, len(value), PIECE):
            comma = b", " if first else b""
            yield comma + json.dumps(value[first : first + PIECE]).encode()[1:-1]
        yield b"]"
    yield b"}\n"


def _text(request: Values, key: str, default: str | None = None) -> str:
    value = request.get(key, default)
    if not isinstance(value, str):
        raise ValueError(f"{key} must be a text")
    return value


def _texts(request: Values, key: str) -> list[str]:
    values = request.get(key, [])
    if not (isinstance(values, list) and all(isinstance(value, str) for value in values)):
        raise ValueError(f"{key} must be a list of texts")
    return values


def _seconds(request: Values, key: str) -> float:
    value = request.get(key, 0)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= _LONGEST_WAIT:
        raise ValueError(f"{key} must be a number of seconds, {_LONGEST_WAIT:g} at most")
    return value


def _number(request: Values, key: str) -> int:
    value = request.get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{key} must be a whole number")
    return value
