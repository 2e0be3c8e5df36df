"""Lines of a file, a pipe or a terminal, each as soon as it is there, without holding up an event loop."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from concurrent.futures import CancelledError
from contextlib import suppress
from typing import Final

from metaq.errors import MetaqError

LONGEST: Final = 64 << 20  # bytes; far above what any broker takes, far below what memory holds
_BLOCK: Final = 1 << 18
_AHEAD: Final = 4  # blocks read before anybody wants them


async def read_lines(descriptor: int) -> AsyncIterator[list[bytes]]:
    """Yield lines as they come, without line feeds; the last one may lack it. Raises OSError, MetaqError."""
    blocks: asyncio.Queue[bytes | OSError] = asyncio.Queue(_AHEAD)
    loop = asyncio.get_running_loop()
    # A daemon: a read from a terminal cannot be called off, and must not keep the process from ending. It has a
    # descriptor of its own: one that was closed may have become somebody else's when the thread reads once more.
    mine = os.dup(descriptor)
    threading.Thread(target=_read, args=(mine, blocks, loop), name="metaq-lines", daemon=True).start()
    rest = b""
    while True:
        block = await blocks.get()
        if isinstance(block, OSError):
            raise block
        if not block:
            break
        *lines, rest = (rest + block).split(b"\n")
        if len(rest) > LONGEST:
            raise MetaqError(f"a line of more than {LONGEST} bytes")
        if lines:
            yield lines
    if rest:
        yield [rest]


def _read(descriptor: int, blocks: "asyncio.Queue[bytes | OSError]", loop: asyncio.AbstractEventLoop) -> None:
    """Pass on block after block; an empty one is the end. Closes the descriptor."""
    try:
        with suppress(RuntimeError, CancelledError):  # the loop has ended: nobody wants them any more
            while True:
                try:
                    block: bytes | OSError = os.read(descriptor, _BLOCK)
                except OSError as exc:
                    block = exc
                _put(blocks, block, loop)
                if not block or isinstance(block, OSError):
                    return
    finally:
        os.close(descriptor)


def _put(blocks: "asyncio.Queue[bytes | OSError]", block: bytes | OSError, loop: asyncio.AbstractEventLoop) -> None:
    putting = blocks.put(block)
    try:
        asyncio.run_coroutine_threadsafe(putting, loop).result()
    except RuntimeError:
        putting.close()
        raise
