"""Starting a broker in the background and ending it: processes, signals, and knowing whose they are."""

import os
import select
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from metaq.cli.control import ControlClient, Unreachable
from metaq.cli.home import Home, running
from metaq.errors import MetaqError

READY: Final = "ready "
FAILED: Final = "failed "
_LAST_LINES: Final = 5
_AT_ONCE: Final = 5.0  # seconds a broker has to end after it was told to end at once


class StartFailed(MetaqError):
    """The broker did not come to serve; the text says why."""


class StopFailed(MetaqError):
    """The broker did not stop, or not in order; the text says which."""


@dataclass(frozen=True, slots=True)
class Started:
    """A broker that serves in the background."""

    pid: int
    addresses: str


def command_line(home: Home) -> list[str]:
    """Return the command that runs the broker of a home. -P: no module is taken from the current directory."""
    return [sys.executable, "-P", "-m", "metaq", "server", "run", "-f", str(home.ini), "--home", str(home.path)]


def start(home: Home, options: Sequence[str] = ()) -> Started:
    """Run the broker of a home detached from this terminal; return when it serves. Raises StartFailed.

    The broker says on a pipe of its own that it serves, or why it does not; when it ends, the pipe does.
    """
    home.logs.mkdir(parents=True, exist_ok=True)
    with open(home.log, "ab") as log:
        before = log.tell()
        told, tells = os.pipe()
        try:
            process = subprocess.Popen(
                [*command_line(home), "--ready-fd", str(tells), *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(tells,),
                start_new_session=True,
            )
        finally:
            os.close(tells)
    with open(told, encoding="utf-8", errors="replace") as pipe:
        word = pipe.readline().rstrip("\n")
    if word.startswith(READY):
        process.returncode = 0  # it goes on without us; nobody waits for it here
        return Started(process.pid, word.removeprefix(READY))
    status = process.wait()
    reason = word.removeprefix(FAILED) or f"it ended with status {status}; {_last_words(home, before)}"
    raise StartFailed(f"the broker did not start: {reason}")


def _last_words(home: Home, position: int) -> str:
    """Return the last lines that a broker wrote into its log, from `position` on."""
    with open(home.log, "rb") as log:
        log.seek(position)
        lines = deque(log, _LAST_LINES)
    text = " | ".join(line.decode("utf-8", "replace").strip() for line in lines)
    return f"the last lines of {home.log}: {text}" if text else f"{home.log} has nothing from it"


class Running:
    """The process of the broker that runs from a home, known to be this one and no later owner of its number."""

    def __init__(self, home: Home, pid: int) -> None:
        """Take hold of process `pid`. ProcessLookupError if it has ended."""
        self.pid = pid
        self._descriptor = os.pidfd_open(pid)
        if running(home) != pid:  # asked after taking hold: the number cannot have changed hands in between
            self.close()
            raise ProcessLookupError(pid)

    def send(self, number: signal.Signals) -> None:
        """Send a signal; nothing happens if the process has ended."""
        if not self.ended(0.0):
            signal.pidfd_send_signal(self._descriptor, number)

    def ended(self, within: float) -> bool:
        """Wait at most `within` seconds; return whether the process has ended."""
        return bool(select.select([self._descriptor], [], [], within)[0])

    def close(self) -> None:
        os.close(self._descriptor)


def hold(home: Home) -> Running | None:
    """Return the process of the broker that runs from a home; None: none does."""
    pid = running(home)
    try:
        return None if pid is None else Running(home, pid)
    except ProcessLookupError:
        return None


def stop(home: Home, process: Running, timeout: float, report: Callable[[str], None]) -> None:
    """Stop a broker: ask, else SIGTERM; after `timeout` seconds SIGTERM again, then SIGKILL.

    Raises StopFailed if it did not stop in order: what it stored is safe all the same. `report` is told of every step.
    """
    problem = _ask_to_stop(home, process, timeout, report)
    rounds = 1
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.ended(_AT_ONCE):
            break
        rounds += 1
        report(f"Stopping meta broker {rounds} times ({number.name})")
        problem = f"the broker was ended by {number.name}, not in order"
        process.send(number)
    if not process.ended(_AT_ONCE):
        raise StopFailed(f"process {process.pid} cannot be ended")
    if problem:
        raise StopFailed(problem)


def _ask_to_stop(home: Home, process: Running, timeout: float, report: Callable[[str], None]) -> str:
    """Ask a broker to stop and wait for its word; return what kept it from stopping in order, else ""."""
    report("Stopping meta broker 1 times")
    try:
        client = ControlClient(home.socket)
    except Unreachable as exc:
        report(f"{exc}; sending SIGTERM")
        process.send(signal.SIGTERM)
        process.ended(timeout)
        return ""
    with client:
        try:
            client.ask("stop", within=timeout)
        except MetaqError as exc:
            return str(exc)
    return ""
