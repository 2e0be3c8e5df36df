"""Bytes → commands, for broker and client alike. Owns no socket, clock or task (protocol.md §1)."""

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from metaq.errors import ProtocolError
from metaq.protocol import plain
from metaq.protocol.commands import Command, Mput, Msync, Oversized, Put, Quit, Sync
from metaq.protocol.grammar import Rule, body_size, rule_for, split
from metaq.protocol.parts import STAMP_SIZE
from metaq.record import HEADER_SIZE


@dataclass(frozen=True, slots=True)
class Limits:
    """What a peer may make us keep, in bytes. The original has none of these limits."""

    line: int = 64 << 10  # without its CRLF; above it the connection is of no use
    body: int = 8 << 20  # of put and sync; a larger one is skipped and reported as Oversized
    batch: int = 8 << 20  # of mput and msync, all their records together, and of mget
    record: int | None = None  # the largest record (header and body) that can be stored; None: `body` alone decides
    reply: int = 256 << 20  # of result and value; above it the connection is of no use

    @property
    def largest(self) -> int:
        """The largest body of put and sync that is decoded."""
        return self.body if self.record is None else min(self.body, self.record - HEADER_SIZE)


class _State(Enum):
    START = auto()  # between frames
    LINE = auto()  # _kept is a line of _held bytes, its CRLF not among them yet
    BODY = auto()  # _kept is a body that lacks _missing bytes; its line is in _rule and _tokens
    SKIP = auto()  # _missing bytes of a body nobody wants are still to come
    END = auto()  # after quit or an error: nothing that follows counts


_BATCHES: Final = frozenset({"mput", "mget", "msync"})
_SMALL_PIECE: Final = 4096  # bytes; pieces below this are collected in one buffer
_SMALL_BODY: Final = 16 << 10  # bytes that every connection may keep of something unfinished, uncounted

_START = _State.START
_new = tuple.__new__  # half the price of calling the class, once for every message


class Decoder:
    """Turns received bytes into commands.

    Every byte is looked at a bounded number of times, however the stream is cut, and no more is kept than the limits
    allow. After malformed input `error` says what was wrong: drop the connection once the replies are flushed.
    `body_size` is the most that is going to be kept of what is not whole yet; 0 if that is little, or nothing is.
    """

    __slots__ = (
        "_held", "_kept", "_largest", "_limits", "_missing", "_most_plain", "_plain", "_rule", "_state", "_tokens",
        "body_size", "error",
    )  # fmt: skip

    def __init__(self, limits: Limits = Limits()) -> None:
        self.error: ProtocolError | None = None
        self.body_size = 0
        self._limits = limits
        self._largest = limits.largest
        self._plain = min(limits.line + 1, plain.LONGEST)
        self._most_plain = limits.batch, limits.reply
        self._state = _State.START
        self._kept: list[bytes | bytearray] = []
        self._held = 0
        self._missing = 0
        self._rule: Rule | None = None
        self._tokens: list[str] = []

    def feed(self, data: bytes) -> list[Command]:
        """Return the commands that are whole now, in order, and keep the rest for the next call.

        Sets `error` instead of raising; the commands before the bad bytes are still returned. After an error, and
        after Quit, whatever comes is ignored.
        """
        commands: list[Command] = []
        try:
            if self._state is not _START:
                data = self._resume(data, commands)
            position, size = 0, len(data)
            find, append, targets, numbers = data.find, commands.append, plain.targets, plain.numbers
            while (end := find(b"\n", position)) >= 0:
                # `put topic partition length flag checksum opaque` with nothing unusual in it; all else: _frame
                parts = data[position : end - 1].rsplit(b" ", 4)
                target = targets.get(parts[0])
                if target is not None:
                    _, length, flag, check, mark = parts
                    body = end + 1
                    next_ = body + numbers.get(length, size)  # an unknown length: beyond the end
                    flags = numbers.get(flag)
                    # int() alone would be laxer than Java: blanks, underscores
                    if (
                        next_ <= size
                        and flags is not None
                        and check.isdigit()
                        and mark.removeprefix(b"-").isdigit()
                        and data[end - 1] == 13
                        and end - position <= self._plain
                        and next_ - body <= self._largest
                        and (checksum := int(check)) <= 2147483647
                        and -2147483648 <= (opaque := int(mark)) <= 2147483647
                    ):
                        append(_new(Put, (target, data[body:next_], flags, checksum, opaque, None)))
                        position = next_
                        continue
                position = self._no_put(data, position, end, parts, commands)
            if position < size:
                self._hold_line(data, position)
        except ProtocolError as exc:
            self.error = exc
            self._end()
        return commands

    def _no_put(self, data: bytes, position: int, end: int, parts: list[bytes], commands: list[Command]) -> int:
        """Decode any frame at `position`; its line ends at `end`, `parts` are its tokens; return where to go on."""
        if data[end - 1] == 13 and end - position <= self._plain:
            found = plain.decode(parts, data, end + 1, self._most_plain)
            if found is not None:
                commands.append(found[0])
                return found[1]
        return self._frame(data, position, commands)

    def _frame(self, data: bytes, position: int, commands: list[Command]) -> int:
        """Decode any frame at `position`, or keep what is there of it; return where to go on."""
        longest = position + self._limits.line + 2
        end = data.find(b"\r\n", position, longest)
        if end < 0:
            return self._hold_line(data, position)
        line = data[position:end]
        tokens = split(line)
        rule = rule_for(tokens)
        size = body_size(rule, tokens)
        start = end + 2
        if size > (most := self._most(rule, tokens[0])):
            commands.append(_oversized(rule, tokens, size, most))
            return self._expect(_State.SKIP, data, start, size)
        if start + size > len(data):
            self._rule, self._tokens, self._kept = rule, tokens, [data[start:]]
            self.body_size = size if size > _SMALL_BODY else 0
            return self._expect(_State.BODY, data, start, size)
        command = rule.build(tokens, data[start : start + size])
        commands.append(command)
        plain.remember(tokens, command)
        if isinstance(command, Quit):
            self._end()
            return len(data)
        return start + size

    def _most(self, rule: Rule, verb: str) -> int:
        if verb in _BATCHES:
            return self._limits.batch + (STAMP_SIZE if verb == "msync" else 0)  # the largest batch has one, too
        return self._limits.reply if rule.is_reply else self._largest

    def _expect(self, state: _State, data: bytes, start: int, size: int) -> int:
        """Wait for what `data` lacks of the `size` bytes from `start` on; return where to go on in `data`."""
        self._missing = start + size - len(data)
        if self._missing <= 0:
            return start + size
        self._state = state
        return len(data)

    def _hold_line(self, data: bytes, position: int) -> int:
        """Keep a line whose CRLF is not here yet. Raises ProtocolError if it is too long already."""
        self._state = _State.LINE
        self._held = len(data) - position
        self._check_held(data)
        self._kept = [data[position:]]
        return len(data)

    def _check_held(self, data: bytes) -> None:
        self.body_size = self._limits.line if self._held > _SMALL_BODY else 0
        if self._held - data.endswith(b"\r") > self._limits.line:
            raise ProtocolError(f"line of more than {self._limits.line} bytes")

    def _resume(self, data: bytes, commands: list[Command]) -> bytes:
        """Go on with what the last call left unfinished; return the bytes from the next frame on."""
        match self._state:
            case _State.LINE:
                return self._more_line(data)
            case _State.BODY:
                return self._more_body(data, commands)
            case _State.SKIP:
                rest = data[self._missing :]
                self._missing -= len(data) - len(rest)
                if not self._missing:
                    self._state = _State.START
                return rest
            case _:
                return b""

    def _more_line(self, data: bytes) -> bytes:
        if not data:
            return b""
        ends = b"\r\n" in data or (data[0] == 10 and self._kept[-1].endswith(b"\r"))
        if not ends:
            self._held += len(data)
            self._check_held(data)
            self._keep(data)
            return b""
        self._state = _State.START
        self.body_size = 0
        self._kept.append(data)
        line, self._kept = b"".join(self._kept), []
        return line

    def _more_body(self, data: bytes, commands: list[Command]) -> bytes:
        if len(data) < self._missing:
            self._missing -= len(data)
            self._keep(data)
            return b""
        assert self._rule is not None
        self._kept.append(data[: self._missing])
        body, self._kept = b"".join(self._kept), []
        self._state = _State.START
        self.body_size = 0
        commands.append(self._rule.build(self._tokens, body))
        return data[self._missing :]

    def _keep(self, data: bytes) -> None:
        """Keep a piece; small ones go into one buffer, or they would take many times their size."""
        last = self._kept[-1]
        if len(data) >= _SMALL_PIECE:
            self._kept.append(data)
        elif isinstance(last, bytearray):
            last += data
        else:
            self._kept.append(bytearray(data))

    def _end(self) -> None:
        self._state = _State.END
        self._kept = []
        self.body_size = 0


def _oversized(rule: Rule, tokens: list[str], size: int, limit: int) -> Oversized:
    """Return what stands for a put, mput, sync or msync that is too large. Raises ProtocolError for replies."""
    command = rule.build(tokens, b"")
    if isinstance(command, Put | Mput | Sync | Msync):
        return Oversized(command.target, size, command.opaque, limit if isinstance(command, Mput | Msync) else 0)
    raise ProtocolError(f"{tokens[0]}: body of {size} bytes is over the limit")
