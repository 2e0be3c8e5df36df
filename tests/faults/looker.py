"""Looks at a broker from a process of its own: `python -m tests.faults.looker PORT PID`, until its input ends.

Asks for the version every 10 ms, over one connection, and reads the resident memory. Prints one line of JSON: `times`,
seconds that each answer took; `memory`, pairs of seconds since the beginning and MiB; `stretch`, how many times longer
the broker's loop took than it would have with a processor of its own.
"""

import json
import select
import socket
import sys
import time
from pathlib import Path


def resident(pid: int) -> float:
    """Return the resident memory of a process in MiB; 0 if it has ended."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


def scheduled(pid: int) -> tuple[int, int]:
    """Return for how many ns the main thread has run, and waited for a processor; zeros where nobody counts that."""
    try:
        run, waited, _ = map(int, Path(f"/proc/{pid}/schedstat").read_text().split())
    except (OSError, ValueError):
        return 0, 0
    return run, waited


def stretch(pid: int, since: tuple[int, int] = (0, 0)) -> float:
    """Return how many times longer it took since then than with a processor of its own; `since`: as `scheduled`."""
    run, waited = (now - then for now, then in zip(scheduled(pid), since, strict=True))
    return (run + waited) / run if run else 1.0


def look(port: int, pid: int) -> dict[str, object]:
    """Look until standard input ends."""
    times: list[float] = []
    memory: list[tuple[float, float]] = []
    began = time.monotonic()
    before = scheduled(pid)
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.settimeout(60)
        print("looking", flush=True)
        while not select.select([sys.stdin], [], [], 0.01)[0]:
            start = time.monotonic()
            connection.sendall(b"version 1\r\n")
            if not connection.recv(1000):
                raise SystemExit("the broker has closed the connection")
            end = time.monotonic()
            times.append(end - start)
            memory.append((end - began, resident(pid)))
    return {"times": times, "memory": memory, "stretch": stretch(pid, before)}


if __name__ == "__main__":
    print(json.dumps(look(int(sys.argv[1]), int(sys.argv[2]))))
