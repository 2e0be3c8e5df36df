"""A group of many members: how long until all have their share, on our registry and on ZooKeeper."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.loads import LoadFailed
from bench.processes import ServerFailed
from bench.registries import registry
from bench.samples import Sample, Samples

PATIENCE: Final = 300.0  # seconds


@dataclass(frozen=True, slots=True)
class Group:
    """`members` of one process over the partitions of one topic, of which some leave at once."""

    members: int
    leaving: int
    partitions: int

    @property
    def joined(self) -> str:
        return f"rebalance/{self.members} join, {self.partitions:,} partitions"

    @property
    def left(self) -> str:
        return f"rebalance/{self.leaving} of {self.members} leave"


async def measure_rebalancing(
    samples: Samples, round_: int, names: Sequence[str], folder: Path, group: Group, say: Callable[[str], None]
) -> None:
    for name in names:
        say(f"round {round_ + 1}: a group of {group.members} on {name}")
        try:
            async with registry(name, folder / f"rebalance-{name}") as (_, port):
                seconds = await rebalance(port, group)
            for case, key in ((group.joined, "joined"), (group.left, "left")):
                say(f"  {case}: {seconds[key]:.2f} s")
                samples.add(Sample(case, name, round_, seconds[key], "s"))
        except (LoadFailed, ServerFailed) as exc:
            for case in (group.joined, group.left):
                samples.add(Sample(case, name, round_, None, "s", " ".join(str(exc).split())[-160:]))


async def rebalance(port: int, group: Group) -> dict[str, float]:
    """Run `bench.rebalance_load`; return its seconds. Raises LoadFailed."""
    numbers = (group.members, group.leaving, group.partitions)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.rebalance_load", f"127.0.0.1:{port}", *map(str, numbers),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=Path(__file__).parent.parent,
    )  # fmt: skip
    try:
        async with asyncio.timeout(PATIENCE):
            out, errors = await process.communicate()
    except TimeoutError:
        raise LoadFailed("the group is not settled") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise LoadFailed(f"the group: {errors.decode('utf-8', 'replace')[-300:]}")
    found: dict[str, float] = json.loads(out)
    return found
