"""A real MariaDB (Debian package `mariadb-server`) in a folder of its own, at a free port of 127.0.0.1."""

import getpass
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Final, Self

from sqlalchemy import NullPool, create_engine, text
from sqlalchemy.exc import OperationalError

from tests.interop.jvm import free_port

_SYSTEM_FOLDERS: Final = "/usr/sbin:/usr/bin"  # a server is not on the path of everybody
_START_TIME: Final = 30.0  # seconds
_STOP_TIME: Final = 10.0
_QUICK: Final = (
    "--innodb-buffer-pool-size=8M",
    "--innodb-log-file-size=4M",
    "--innodb-flush-log-at-trx-commit=0",
    "--innodb-flush-method=nosync",
)
_ALONE: Final = ("--bind-address=127.0.0.1", "--socket=")


def _program(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path=_SYSTEM_FOLDERS)


class MariaDB:
    """Nothing it holds survives a loss of power; it does survive `restart`, at the same URL."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._port = 0
        self._process: subprocess.Popen[bytes] | None = None

    @staticmethod
    def available() -> bool:
        """Return whether this machine can run one."""
        return _program("mariadbd") is not None and _program("mariadb-install-db") is not None

    def create(self, database: str) -> str:
        """Make an empty database and return its URL, as SQLAlchemy wants it."""
        self._execute(f"CREATE DATABASE `{database}`")
        return self._url(database)

    def start(self) -> Self:
        """Start it; return when it answers. Raises OSError with the end of its log if it does not."""
        self._port = self._port or free_port()
        data = self._directory / "data"
        common = ("--no-defaults", f"--datadir={data}", f"--user={getpass.getuser()}", *_QUICK)
        if not data.exists():
            self._install(common)
        command = [_program("mariadbd") or "mariadbd", *common, f"--port={self._port}", *_ALONE]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + _START_TIME
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise OSError(f"MariaDB did not start: {self._log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.01)
        return self

    def stop(self) -> None:
        """End its process and wait for the end; fine if there is none."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(_STOP_TIME)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    @property
    def _log(self) -> Path:
        return self._directory / "mariadb.log"

    def _install(self, common: tuple[str, ...]) -> None:
        """Make the files of an empty server, whose root needs no password."""
        program = _program("mariadb-install-db") or "mariadb-install-db"
        options = ("--skip-test-db", "--auth-root-authentication-method=normal", "--skip-name-resolve")
        environment = {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:{_SYSTEM_FOLDERS}"}
        with self._log.open("ab") as log:
            done = subprocess.run(
                [program, *common, *options], stdout=log, stderr=log, check=False, env=environment, timeout=_START_TIME
            )
        if done.returncode:
            raise OSError(f"MariaDB was not set up: {self._log.read_text(errors='replace')[-2000:]}")

    def _url(self, database: str) -> str:
        return f"mysql+pymysql://root@127.0.0.1:{self._port}/{database}"

    def _execute(self, statement: str) -> None:
        with create_engine(self._url(""), poolclass=NullPool).begin() as connection:
            connection.execute(text(statement))

    def _answers(self) -> bool:
        try:
            self._execute("SELECT 1")
        except OperationalError:
            return False
        return True
