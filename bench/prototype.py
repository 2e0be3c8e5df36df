"""The pace: one batch from socket to socket, one journal for all partitions, in its barest form. A yardstick, no base.

prototype.py PORT sync|nosync, in a folder with an empty data/. Takes `put` only, checks little and recovers nothing.
"""

import asyncio
import os
import struct
import sys
import threading
from collections.abc import Callable
from typing import Final, Protocol, runtime_checkable
from zlib import crc32

import uvloop

PACK: Final = struct.Struct(">IIQI").pack
OPEN_FILES: Final = 900
FILES_PER_TURN: Final = 64  # of the background writer


class Partition:
    __slots__ = ("end", "fd", "name", "tail")

    def __init__(self, name: tuple[bytes, int]) -> None:
        self.name = name
        self.fd = -1
        self.end = 0
        self.tail: list[bytes] = []


class Journal:
    """All that comes while the last round is being written goes out as one write, and one fdatasync if asked."""

    def __init__(self, loop: asyncio.AbstractEventLoop, sync: bool) -> None:
        self.loop = loop
        self.sync = sync
        self.fd = os.open("data/journal", os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_APPEND)
        self.chunks: list[bytes] = []
        self.waiting: list[Callable[[], None]] = []
        self.busy = False
        self.scheduled = False
        self.handover = threading.Condition()
        self.job: tuple[list[bytes], list[Callable[[], None]]] | None = None
        if sync:
            threading.Thread(target=self.run, daemon=True).start()

    def add(self, chunks: list[bytes], done: Callable[[], None]) -> None:
        self.chunks += chunks
        self.waiting.append(done)
        if self.sync:
            if not self.busy:
                self.start()
        elif not self.scheduled:
            self.scheduled = True
            self.loop.call_soon(self.flush)

    def take(self) -> tuple[list[bytes], list[Callable[[], None]]]:
        job = self.chunks, self.waiting
        self.chunks, self.waiting = [], []
        return job

    def flush(self) -> None:
        self.scheduled = False
        chunks, waiting = self.take()
        os.write(self.fd, b"".join(chunks))
        for done in waiting:
            done()

    def start(self) -> None:
        self.busy = True
        with self.handover:
            self.job = self.take()
            self.handover.notify()

    def run(self) -> None:
        while True:
            with self.handover:
                while self.job is None:
                    self.handover.wait()
                (chunks, waiting), self.job = self.job, None
            os.write(self.fd, b"".join(chunks))
            os.fdatasync(self.fd)
            self.loop.call_soon_threadsafe(self.finish, waiting)

    def finish(self, waiting: list[Callable[[], None]]) -> None:
        self.busy = False
        if self.chunks:
            self.start()
        for done in waiting:
            done()


class Log:
    """Partitions, and the background writer that moves their tails into their files."""

    def __init__(self, loop: asyncio.AbstractEventLoop, journal: Journal) -> None:
        self.loop = loop
        self.journal = journal
        self.partitions: dict[tuple[bytes, int], Partition] = {}
        self.dirty: set[Partition] = set()
        self.opened: list[Partition] = []
        self.message_id = 1 << 60
        loop.call_later(0.02, self.write_back)

    def write_back(self) -> None:
        for _ in range(min(FILES_PER_TURN, len(self.dirty))):
            partition = self.dirty.pop()
            if partition.fd < 0:
                self.open(partition)
            os.write(partition.fd, b"".join(partition.tail))
            partition.tail = []
        self.loop.call_later(0.002 if self.dirty else 0.02, self.write_back)

    def open(self, partition: Partition) -> None:
        if len(self.opened) > OPEN_FILES:
            oldest = self.opened.pop(0)
            os.close(oldest.fd)
            oldest.fd = -1
        partition.fd = os.open(f"data/{partition.name[1]}.meta", os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o644)
        self.opened.append(partition)


@runtime_checkable
class Writer(Protocol):
    """The part of a transport that is used; those of uvloop are no asyncio.WriteTransport."""

    def write(self, data: bytes) -> None: ...


class Connection(asyncio.Protocol):
    transport: Writer

    def __init__(self, log: Log) -> None:
        self.log = log
        self.rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, Writer)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if self.rest:
            data = self.rest + data
        log = self.log
        position = 0
        size = len(data)
        replies: list[bytes] = []
        records: list[bytes] = []
        find = data.find
        message_id = log.message_id
        while True:
            line_end = find(b"\r\n", position)
            if line_end < 0:
                break
            words = data[position:line_end].split(b" ")
            length = int(words[3])
            start = line_end + 2
            end = start + length
            if end > size:
                break
            body = data[start:end]
            crc = crc32(body) & 0x7FFFFFFF
            if crc != int(words[5]):
                print("wrong checksum")
            number = int(words[2])
            partition = log.partitions.get((words[1], number))
            if partition is None:
                partition = log.partitions[(words[1], number)] = Partition((words[1], number))
            message_id += 1
            record = PACK(length, crc, message_id, int(words[4])) + body
            partition.tail.append(record)
            records.append(record)
            receipt = b"%d %d %d" % (message_id, number, partition.end)
            partition.end += 20 + length
            log.dirty.add(partition)
            replies.append(b"result 200 %d %b\r\n%b" % (len(receipt), words[6], receipt))
            position = end
        log.message_id = message_id
        self.rest = data[position:]
        if replies:
            reply = b"".join(replies)
            write = self.transport.write
            log.journal.add(records, lambda: write(reply))


async def main() -> None:
    loop = asyncio.get_running_loop()
    log = Log(loop, Journal(loop, sys.argv[2] == "sync"))
    server = await loop.create_server(lambda: Connection(log), "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
