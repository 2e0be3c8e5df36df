"""Runs the command that tells people."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

log_ = logging.getLogger(__name__)

_MOST: Final = 30.0  # seconds


async def run_command(command: Sequence[str], timeout: float = _MOST) -> None:
    """Run it to its end, without a shell; killed after `timeout` seconds. What goes wrong is logged."""
    try:
        process = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.DEVNULL)
    except OSError as exc:
        log_.error("notifyCommand: %s cannot be run: %s", command[0], exc)
        return
    try:
        async with asyncio.timeout(timeout):
            status = await process.wait()
    except TimeoutError:
        log_.error("notifyCommand: %s is killed, it runs longer than %g s", command[0], timeout)
    else:
        if status:
            log_.error("notifyCommand: %s ended with %d", command[0], status)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
