"""The commands' end of the control socket."""

import json
import socket
from pathlib import Path
from typing import Final, Self

from metaq.admin.wire import Values, short_address
from metaq.errors import MetaqError

_PATIENCE: Final = 30.0  # seconds for an answer, where no other time is given
_PIECE: Final = 1 << 16


class Unreachable(MetaqError):
    """The broker does not answer at its control socket."""


class Refusal(MetaqError):
    """The broker did not do it; the text says why."""


class ControlClient:
    """One connection to a running broker. Blocks; a context manager."""

    def __init__(self, path: Path) -> None:
        """Connect. Raises Unreachable."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(_PATIENCE)
        try:
            with short_address(str(path)) as address:
                self._socket.connect(address)
        except OSError as exc:
            self._socket.close()
            raise Unreachable(f"the broker's control socket {path} cannot be reached: {exc.strerror or exc}") from exc

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def ask(self, command: str, values: Values | None = None, *, within: float = _PATIENCE) -> dict[str, object]:
        """Return the reply, without "ok". `within`: seconds to wait. Raises Refusal or Unreachable."""
        self._socket.settimeout(within)
        try:
            self._socket.sendall(json.dumps({"command": command, **(values or {})}).encode() + b"\n")
            reply: object = json.loads(self._line())
        except TimeoutError as exc:
            raise Unreachable(f"the broker did not answer `{command}` within {within:g} s") from exc
        except (OSError, ValueError) as exc:
            raise Unreachable(f"the broker hung up before it answered `{command}`") from exc
        if not isinstance(reply, dict):
            raise Unreachable(f"the broker answered `{command}` with something else than an object")
        if reply.pop("ok", False) is not True:
            raise Refusal(str(reply.get("error", "refused")))
        return reply

    def _line(self) -> bytes:
        parts: list[bytes] = []
        while not (parts and parts[-1].endswith(b"\n")):
            part = self._socket.recv(_PIECE)
            if not part:
                raise ConnectionError("end of stream")
            parts.append(part)
        return b"".join(parts)


def ask(path: Path, command: str, values: Values | None = None) -> dict[str, object]:
    """Ask one thing on a connection of its own. Raises Refusal or Unreachable."""
    with ControlClient(path) as client:
        return client.ask(command, values)
