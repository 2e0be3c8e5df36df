"""What a table must say of the machine and the versions it was made with."""

import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from bench.servers import CLIENTS, version_of
from bench.systems import System
from metaq._version import __version__
from tests.interop import jvm

PACKAGES: Final = {"confluent_kafka": "confluent-kafka", "nats": "nats-py", "aio_pika": "aio-pika"}  # of Python modules


def gather(arguments: list[str], folder: Path) -> dict[str, str]:
    """Return the facts of this run, in words; `folder` is where the brokers keep their files."""
    processors = f"{os.cpu_count()} processors ({processor()})"
    words = f'make bench ARGS="{shlex.join(arguments)}"' if arguments else "make bench"
    return {
        "Command": f"`{words}`",
        "Date": time.strftime("%Y-%m-%d"),
        "Machine": f"{processors}, {memory()} GiB, {file_system(folder)}, {platform.release()}",
        "metaq": f"{__version__}, commit {commit()}",
        "Python": f"{platform.python_version()}, uvloop {importlib.metadata.version('uvloop')}",
        "Load of the machine before": f"{os.getloadavg()[0]:.2f} (1 minute)",
        "Java": f"MetaQ 1.4.6.2 on {jvm.java_version()}",
    }


def of_peers(there: Iterable[str], systems: Iterable[System], left_out: Mapping[str, str]) -> dict[str, str]:
    """Return the versions of other systems that take part, and which do not."""
    peers = [peer for peer in CLIENTS if peer.name in there]
    modules = {client.module for system in systems for client in system.those_there() if client.module}
    packages = {name for peer in peers for name in peer.packages} | {PACKAGES.get(name, name) for name in modules}
    versions = [f"{name} {importlib.metadata.version(name)}" for name in sorted(packages)]
    servers = {words for peer in peers if (words := peer.server_version())}
    servers |= {words for system in systems if (words := version_of(system.serve))}
    found = ", ".join([*sorted(servers), *versions])
    missing = "; ".join(f"{name}: {why}" for name, why in left_out.items())
    return ({"Peers": found} if found else {}) | ({"Left out": missing} if missing else {})


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def memory() -> int:
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30))


def file_system(folder: Path) -> str:
    done = subprocess.run(["stat", "-f", "-c", "%T", folder], capture_output=True, text=True, check=False)
    return done.stdout.strip() or sys.platform


def commit() -> str:
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"
