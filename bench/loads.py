"""The programs in C that put load on a broker: compiled once, run, their line of JSON read."""

import asyncio
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.cases import BODY_SIZE, Load

HERE: Final = Path(__file__).parent
BUILD: Final = HERE.parent / "build" / "bench"
PROGRAMS: Final = ("putload", "getload", "cread")
PATIENCE: Final = 120.0  # seconds for one program beyond the time it measures


class LoadFailed(Exception):
    """The load could not be put on the broker; the text says what it met."""


@dataclass(frozen=True, slots=True)
class Puts:
    """What one run of putload measured."""

    messages: int
    seconds: float
    rate: float  # messages per second
    p50_ms: float
    p99_ms: float
    errors: int
    error: str  # the first refusal


@dataclass(frozen=True, slots=True)
class Reads:
    """What one run of getload measured."""

    gets: int
    messages: int
    bytes: int
    seconds: float
    rate: float  # bytes per second


def compile_all() -> None:
    """Compile the programs whose source is newer than they are. Raises CalledProcessError."""
    BUILD.mkdir(parents=True, exist_ok=True)
    for name in PROGRAMS:
        source, program = HERE / f"{name}.c", BUILD / name
        if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
            subprocess.run(["gcc", "-O2", "-Wall", "-Wextra", "-o", program, source, "-lz"], check=True)


async def put(port: int, load: Load, partitions: int, seconds: float, warm: float) -> Puts:
    """Put for `warm` seconds uncounted, then for `seconds`. Raises LoadFailed, also if a put was refused."""
    words = [port, load.connections, load.in_flight, BODY_SIZE, seconds, warm, partitions, "test"]
    return await _puts(words, warm + seconds)


async def put_each(port: int, partitions: int, topic: str = "test", body_size: int = BODY_SIZE, times: int = 1) -> Puts:
    """Put so many messages into every partition, so that it exists. Raises LoadFailed."""
    words = [port, 1, 100, body_size, 0, 0, partitions, topic, partitions * times]
    return await _puts(words, 60)


async def get_all(port: int, topic: str, partitions: int, max_size: int) -> Reads:
    """Read partitions from start to end. Raises LoadFailed."""
    return Reads(**json.loads(await _run("getload", [port, topic, partitions, max_size], 60)))


async def _puts(words: list[object], seconds: float) -> Puts:
    puts = Puts(**json.loads(await _run("putload", words, seconds)))
    if puts.errors:
        raise LoadFailed(f"{puts.errors} of {puts.messages} puts refused, first with: {puts.error}")
    return puts


async def _run(program: str, words: list[object], seconds: float) -> bytes:
    process = await asyncio.create_subprocess_exec(
        BUILD / program, *map(str, words), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        async with asyncio.timeout(seconds + PATIENCE):
            out, errors = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise LoadFailed(f"{program} does not end") from None
    if process.returncode:
        raise LoadFailed(errors.decode().strip() or f"{program} ended with {process.returncode}")
    return out
