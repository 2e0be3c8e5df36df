"""A home: the folder a broker is run from, laid out as that of 1.4.6.2, and who runs there at present.

    bin/metaServer.sh  bin/env.sh  conf/server.ini  conf/*.properties  provided/  logs/metaServer.log
    logs/.run.pid       the process id of the broker, which holds a lock on this file as long as it lives
    logs/.control.sock  its control socket

The lock is what says that a broker runs. A file without it is left over from one that was killed, even if another
process has got its number since.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from metaq.errors import ConfigError, MetaqError

_TRIES: Final = 10
_BETWEEN: Final = 0.02  # seconds; somebody who only looks holds the lock for an instant
_JAVA: Final = b"metamorphosis"


class AlreadyRunning(MetaqError):
    """A broker runs from this home."""


@dataclass(frozen=True, slots=True)
class Home:
    """Where everything of one home lies."""

    path: Path

    @property
    def ini(self) -> Path:
        return self.path / "conf" / "server.ini"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def log(self) -> Path:
        return self.logs / "metaServer.log"

    @property
    def pid_file(self) -> Path:
        return self.logs / ".run.pid"

    @property
    def socket(self) -> Path:
        return self.logs / ".control.sock"


def looks_like_home(path: Path) -> bool:
    """Return whether a folder is laid out as a home."""
    return (path / "bin" / "metaServer.sh").is_file() and (path / "conf").is_dir()


def find_home(given: str | None) -> Home:
    """Return the home that `--home` or METAQ_HOME names, else the current directory. Raises ConfigError."""
    path = Path(given or ".").absolute()
    if given and not (path / "conf").is_dir():
        raise ConfigError(f"{path} is no home: it has no folder conf; `metaq server init {given}` makes one")
    if not given and not looks_like_home(path):
        raise ConfigError(f"{path} is no home; name one with --home DIR or METAQ_HOME, or go to it")
    return Home(path)


def home_of_ini(ini: str) -> Home | None:
    """Return the home in whose conf/ a server.ini lies; None: it lies elsewhere."""
    folder = Path(ini).absolute().parent
    return Home(folder.parent) if folder.name == "conf" and looks_like_home(folder.parent) else None


def running(home: Home) -> int | None:
    """Return the process id of the broker that runs from a home; None: none does."""
    try:
        fd = os.open(home.pid_file, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return None
    except BlockingIOError:
        return _number_in(fd)
    finally:
        os.close(fd)


@contextmanager
def claim(home: Home) -> Iterator[None]:
    """Be the broker of a home: lock its pid file, write our number, remove the file at the end. Takes 0.2 s at most.

    Raises AlreadyRunning.
    """
    home.logs.mkdir(parents=True, exist_ok=True)
    fd = _lock(home)
    try:
        java = _java_process(_number_in(fd))
        if java is not None:
            raise AlreadyRunning(f"a Java broker runs from {home.path}, process {java}; stop it first")
        os.ftruncate(fd, 0)
        os.pwrite(fd, b"%d\n" % os.getpid(), 0)
        try:
            yield
        finally:
            with suppress(FileNotFoundError):
                os.unlink(home.pid_file)
    finally:
        os.close(fd)


def _lock(home: Home) -> int:
    for _ in range(_TRIES):
        fd = os.open(home.pid_file, os.O_RDWR | os.O_CREAT, 0o644)
        with suppress(BlockingIOError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is(home.pid_file, fd):
                return fd
        os.close(fd)
        time.sleep(_BETWEEN)
    raise AlreadyRunning(f"a broker runs from {home.path} already, process {running(home)}")


def _is(path: Path, fd: int) -> bool:
    """Return whether `fd` is still the file at `path`: the broker that stopped meanwhile has removed its own."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(fd))
    except FileNotFoundError:
        return False


def _number_in(fd: int) -> int | None:
    text = os.pread(fd, 32, 0).strip()
    return int(text) if text.isdigit() else None


def _java_process(pid: int | None) -> int | None:
    """Return `pid` if it is a broker of 1.4.6.2, whose script only writes the number and locks nothing."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return None
    return pid if _JAVA in command else None
