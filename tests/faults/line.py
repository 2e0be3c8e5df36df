"""A long line to another city: `python -m tests.faults.line HERE THERE PORT DELAY LOSS [CONGESTION]`.

Whoever connects to PORT of the address THERE reaches HERE, but each packet takes DELAY seconds and the part LOSS of
them never arrives. That is a TUN device: both are addresses of this machine, and a packet turns round in this process,
its addresses swapped, so that its checksums are right as they are. CONGESTION: how senders find their pace that do not
choose, as net.ipv4.tcp_available_congestion_control names it. Where no such device can be made, or there is no bbr to
choose, THERE is a port that passes on bytes, each DELAY seconds late, which stand still for as long as it takes to
repeat a packet where one would be lost.

Says `ready HOST PORT`, then what it is; `cut` on standard input takes the line away, `mend` gives it back, and each is
answered by `done`; at the end of that it ends, and the device is gone.
"""

import asyncio
import contextlib
import fcntl
import os
import random
import select
import struct
import subprocess
import sys
import time
from collections import deque
from typing import Final

TUN: Final = "/dev/net/tun"
MTU: Final = 1500
_TUNSETIFF: Final = 0x400454CA
_IFF_TUN: Final = 0x0001
_IFF_NO_PI: Final = 0x1000
_LARGEST: Final = 1 << 16
_AT_A_TIME: Final = 64  # packets that are taken before those that are due go on
_ADDRESSES: Final = 12  # where those of a packet of IPv4 begin
_WINDOW: Final = 8 << 20  # bytes on their way through a port
_PIECE: Final = 16 << 10


# -- packets


def open_tun(here: str, there: str, congestion: str) -> int:
    """Return the descriptor of a new device that packets to `there` leave by. Raises OSError or CalledProcessError."""
    name = f"line{os.getpid() % 10_000_000}"
    tun = os.open(TUN, os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tun, _TUNSETIFF, struct.pack("16sH", name.encode(), _IFF_TUN | _IFF_NO_PI))
    pace = ("congctl", congestion) if congestion else ()
    for words in (
        ("link", "set", name, "mtu", str(MTU), "txqueuelen", "10000", "up"),
        ("address", "add", f"{here}/32", "dev", name),
        ("route", "add", f"{there}/32", "dev", name, "src", here, *pace),
    ):
        subprocess.run(("ip", *words), check=True, capture_output=True, timeout=10)
    return tun


def check_pace() -> None:
    """Raise OSError if the system has no bbr: at this loss the others are slow over any line of packets."""
    with open("/proc/sys/net/ipv4/tcp_available_congestion_control") as file:
        if "bbr" not in file.read().split():
            raise OSError("the system has no bbr")


def relay(tun: int, delay: float, loss: float) -> None:
    """Carry packets until the end of the standard input."""
    waiting: deque[tuple[float, bytes]] = deque()
    is_cut = False
    poll = select.poll()
    poll.register(tun, select.POLLIN)
    poll.register(0, select.POLLIN)
    chance = random.Random(1)
    while True:
        pause = max(0.0, (waiting[0][0] - time.monotonic()) * 1000) if waiting else None
        for fd, _ in poll.poll(pause):
            if fd == 0:
                words = os.read(0, 100).split()
                if not words:
                    return
                is_cut = words[-1] == b"cut"
                os.write(1, b"done\n")
                continue
            due = time.monotonic() + delay
            for packet in packets(tun):
                if not is_cut and chance.random() >= loss:
                    waiting.append((due, packet))
        now = time.monotonic()
        while waiting and waiting[0][0] <= now:
            packet = waiting.popleft()[1]
            at = _ADDRESSES
            os.write(tun, packet[:at] + packet[at + 4 : at + 8] + packet[at : at + 4] + packet[at + 8 :])


def packets(tun: int) -> list[bytes]:
    """Return some of those that wait, of IPv4: the system says words of its own to every new device."""
    found = []
    with contextlib.suppress(BlockingIOError):
        for _ in range(_AT_A_TIME):
            packet = os.read(tun, _LARGEST)
            if packet[0] >> 4 == 4:
                found.append(packet)
    return found


# -- bytes


class Port:
    """Passes on what comes, late and with stalls."""

    def __init__(self, target: tuple[str, int], delay: float, loss: float) -> None:
        self._target = target
        self._delay = delay
        self._loss = loss
        self._chance = random.Random(1)
        self._whole = asyncio.Event()
        self._whole.set()

    async def serve(self, host: str) -> None:
        server = await asyncio.start_server(self._accept, host, 0, limit=_WINDOW)
        print("ready", *server.sockets[0].getsockname(), "port", flush=True)
        loop = asyncio.get_running_loop()
        while words := await loop.run_in_executor(None, sys.stdin.readline):
            if words.strip() == "cut":
                self._whole.clear()
            else:
                self._whole.set()
            print("done", flush=True)
        server.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._whole.wait()
        with contextlib.suppress(OSError):
            there, back = await asyncio.open_connection(*self._target, limit=_WINDOW)
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._carry(reader, back))
                    group.create_task(self._carry(there, writer))
            finally:
                back.close()
                writer.close()

    async def _carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_WINDOW // _PIECE)
        async with asyncio.TaskGroup() as group:
            sending = group.create_task(self._send(queue, sink))
            loop, earliest = asyncio.get_running_loop(), 0.0
            while data := await source.read(_PIECE):
                stays = any(self._chance.random() < self._loss for _ in range(0, len(data), MTU))
                earliest = max(earliest, loop.time() + self._delay * (3 if stays else 1))
                await queue.put((earliest, data))
            sending.cancel()
            sink.close()

    async def _send(self, queue: asyncio.Queue[tuple[float, bytes]], sink: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due, data = await queue.get()
            if (pause := due - loop.time()) > 0:
                await asyncio.sleep(pause)
            await self._whole.wait()
            sink.write(data)
            await sink.drain()


def main(here: str, there: str, port: str, delay: str, loss: str, congestion: str = "") -> None:
    try:
        check_pace()
        tun = open_tun(here, there, congestion)
    except (OSError, subprocess.SubprocessError) as exc:
        print("no line of packets:", exc, file=sys.stderr)
        asyncio.run(Port(("127.0.0.1", int(port)), float(delay), float(loss)).serve("127.0.0.1"))
    else:
        print("ready", there, port, "packets", flush=True)
        relay(tun, float(delay), float(loss))


if __name__ == "__main__":
    main(*sys.argv[1:])
