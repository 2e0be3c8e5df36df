"""Reading a backlog: the bare loop in C, ours and Java serve the same 1 GiB."""

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from bench import loads
from bench.brokers import bare_reader, running
from bench.cases import Setting
from bench.loads import LoadFailed, Reads
from bench.processes import ServerFailed
from bench.report import BARE, READ_CASE
from bench.samples import Sample, Samples
from metaq import record

BODY: Final = bytes(range(97, 122)) * 40  # 1,000 bytes
MESSAGES: Final = 1 << 20  # with their heads a little less than one segment of 1 GiB
BLOCK: Final = 1 << 10  # messages written at once
MAX_SIZE: Final = 1 << 20
PARTITION: Final = Path("data/read-0/00000000000000000000.meta")
SETTING: Final = Setting(synced=False, partitions=16)


async def measure_reading(samples: Samples, round_: int, names: Iterable[str], folder: Path, zk: str) -> None:
    """Read the backlog from each server, the bare loop first."""
    backlog = folder / "backlog"
    if not backlog.exists():
        write_backlog(backlog)
    async with bare_reader(backlog) as port:
        add(samples, BARE, round_, await loads.get_all(port, "read", 1, MAX_SIZE), MESSAGES)
    for name in names:
        home = folder / f"{name}-read"
        (home / PARTITION).parent.mkdir(parents=True)
        shutil.copyfile(backlog, home / PARTITION)
        try:
            async with running(name, home, SETTING, zk) as broker:
                await loads.put_each(broker.port, 1, "read")  # 1.4.6.2 may load a partition only when it is put to
                add(samples, name, round_, await loads.get_all(broker.port, "read", 1, MAX_SIZE), MESSAGES + 1)
        except (LoadFailed, ServerFailed) as exc:
            samples.add(Sample(READ_CASE, name, round_, None, "MB/s", str(exc)[-160:]))
        finally:
            shutil.rmtree(home, ignore_errors=True)


def write_backlog(path: Path) -> None:
    with path.open("wb") as file:
        for first in range(1, MESSAGES, BLOCK):
            file.write(b"".join(record.pack(number, 0, BODY) for number in range(first, first + BLOCK)))


def add(samples: Samples, server: str, round_: int, reads: Reads, expected: int) -> None:
    """Note a rate. Raises LoadFailed if not all messages came."""
    if reads.messages != expected:
        raise LoadFailed(f"{reads.messages} messages came, not {expected}")
    samples.add(Sample(READ_CASE, server, round_, reads.rate / 1e6, "MB/s", f"{reads.gets} gets"))
