"""The lines of the wire: verb → what follows it (protocol.md §1, §2, §6.1; reference: MetamorphosisWireFormatType).

A line is split at every single space; empty tokens at its end do not count. Where the original takes any word that
begins with `v` for `version` and with `q` for `quit`, so do we.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Final, NamedTuple

from metaq.errors import ProtocolError, Status
from metaq.model import TopicPartition
from metaq.protocol.commands import (
    Command,
    Get,
    Mget,
    Mput,
    Msync,
    Offset,
    Operation,
    Put,
    Quit,
    Result,
    Stats,
    Sync,
    Transaction,
    Value,
    Version,
    Want,
)
from metaq.protocol.parts import STAMP_SIZE
from metaq.txid import TransactionId, decimal, parse

NO_OPAQUE: Final = 2147483647  # what version and stats without an opaque are answered with
NO_CHECKSUM: Final = -1
MOST_WANTS: Final = 1024  # partitions of one mget
_PLAIN_WANT: Final = 160  # bytes of one line of it; the partition of a longer one is not remembered
_WAIT: Final = "wait"
_STAMPS: Final = "stamps"


class Rule(NamedTuple):
    """How the frame of one verb is read. `length`: index of the token that gives the body's size, None: no body."""

    length: int | None
    is_reply: bool
    build: Callable[[list[str], bytes], Command]


def split(line: bytes) -> list[str]:
    """Return the tokens of a line without its CRLF; bytes that are not UTF-8 become U+FFFD."""
    tokens = line.decode("utf-8", "replace").split(" ")
    while tokens and not tokens[-1]:
        tokens.pop()
    return tokens


def rule_for(tokens: list[str]) -> Rule:
    """Return the rule of the first token. Raises ProtocolError if there is none."""
    if not tokens:
        raise ProtocolError("blank line")
    verb = tokens[0]
    rule = RULES.get(verb)
    if rule is None:
        rule = RULES.get({"v": "version", "q": "quit"}.get(verb[:1], ""))
    if rule is None:
        raise ProtocolError(f"unknown command {verb[:40]!r}")
    return rule


def body_size(rule: Rule, tokens: list[str]) -> int:
    """Return how many bytes follow the line, 0 where the verb has no body. Raises ProtocolError."""
    if rule.length is None:
        return 0
    _want(tokens, rule.length + 1)
    size = _number(tokens, rule.length, 32)
    if size < 0:
        raise ProtocolError(f"{tokens[0]}: negative length {size}")
    return size


def _want(tokens: list[str], least: int) -> None:
    if len(tokens) < least:
        raise ProtocolError(f"{tokens[0][:40]}: {len(tokens)} tokens, at least {least} wanted")


def _wrong_count(tokens: list[str], wanted: str) -> ProtocolError:
    return ProtocolError(f"{tokens[0]}: {len(tokens)} tokens, {wanted} wanted")


def _number(tokens: list[str], index: int, bits: int) -> int:
    try:
        return decimal(tokens[index], bits)
    except ValueError as exc:
        raise ProtocolError(f"{tokens[0][:40]}: token {index}: {exc}") from exc


def _transaction_id(tokens: list[str], index: int) -> TransactionId:
    try:
        return parse(tokens[index])
    except ValueError as exc:
        raise ProtocolError(f"{tokens[0]}: token {index}: {exc}") from exc


def _put(tokens: list[str], body: bytes) -> Put:
    count = len(tokens)
    if not 6 <= count <= 8:
        raise _wrong_count(tokens, "6, 7 or 8")
    target = TopicPartition(tokens[1], _number(tokens, 2, 32))
    flag, opaque = _number(tokens, 4, 32), _number(tokens, count - 1, 32)
    if count == 6:
        return Put(target, body, flag, NO_CHECKSUM, opaque)
    if count == 8:
        return Put(target, body, flag, _number(tokens, 5, 32), opaque, _transaction_id(tokens, 6))
    # a number or a transaction id: the original looks at the first character only
    if tokens[5].startswith("-") or tokens[5][:1].isdecimal():
        return Put(target, body, flag, _number(tokens, 5, 32), opaque)
    return Put(target, body, flag, NO_CHECKSUM, opaque, _transaction_id(tokens, 5))


def _sync(tokens: list[str], body: bytes) -> Sync:
    if len(tokens) not in (7, 8):
        raise _wrong_count(tokens, "7 or 8")
    target = TopicPartition(tokens[1], _number(tokens, 2, 32))
    checksum = _number(tokens, 6, 32) if len(tokens) == 8 else NO_CHECKSUM
    return Sync(target, body, _number(tokens, 4, 32), _number(tokens, 5, 64), checksum, _number(tokens, -1, 32))


def _msync(tokens: list[str], body: bytes) -> Msync:
    if len(tokens) not in (7, 8):
        raise _wrong_count(tokens, "7 or 8")
    target = TopicPartition(tokens[1], _number(tokens, 2, 32))
    size = STAMP_SIZE * _number(tokens, 7, 32) if len(tokens) == 8 else 0
    length = _number(tokens, 3, 32)
    if not 0 <= size <= length:
        raise ProtocolError(f"msync: stamps of {size} bytes in a body of {length}")
    end = max(0, len(body) - size)  # the body is left out of one that is too large
    numbers = _number(tokens, 4, 64), _number(tokens, 5, 64), _number(tokens, 6, 32)
    return Msync(target, body[:end] if size else body, *numbers, body[end:] if size else b"")


def _get(tokens: list[str], _: bytes) -> Get:
    _want(tokens, 7)
    target = TopicPartition(tokens[1], _number(tokens, 3, 32))
    wait = _number(tokens, 8, 64) if len(tokens) > 8 and tokens[7] == _WAIT else 0
    return Get(target, tokens[2], _number(tokens, 4, 64), _number(tokens, 5, 32), _number(tokens, 6, 32), max(wait, 0))


def _mput(tokens: list[str], body: bytes) -> Mput:
    if len(tokens) != 9:
        raise _wrong_count(tokens, "9")
    target = TopicPartition(tokens[1], _number(tokens, 2, 32))
    stamp = _number(tokens, 5, 64), _number(tokens, 6, 32), _number(tokens, 7, 64)
    return Mput(target, body, _number(tokens, 4, 32), *stamp, _number(tokens, 8, 32))


def _mget(tokens: list[str], body: bytes) -> Mget:
    stamps = len(tokens) == 7 and tokens[6] == _STAMPS
    if len(tokens) != 6 + stamps:
        raise _wrong_count(tokens, f"6, or 7 with {_STAMPS!r} the last,")
    lines = body.split(b"\r\n")
    if lines.pop() or len(lines) > MOST_WANTS:
        raise ProtocolError(f"mget: not 0 to {MOST_WANTS} lines with an end each")
    wants = tuple(map(_want_of, lines))
    wait = max(_number(tokens, 3, 64), 0)
    return Mget(tokens[1], wants, _number(tokens, 2, 32), wait, _number(tokens, 5, 32), stamps)


@lru_cache(4096)
def _want_of(line: bytes) -> Want:
    parts = line.rsplit(b" ", 2)
    if len(parts) == 3 and len(line) <= _PLAIN_WANT:
        head, offset, size = parts
        if offset.isdigit() and len(offset) < 19 and size.isdigit() and len(size) < 10:
            return Want(_wanted_partition(head), int(offset), int(size))
    tokens = ["mget", *split(line)]
    if len(tokens) != 5:
        raise ProtocolError(f"mget: a line of {len(tokens) - 1} tokens, 4 wanted")
    return Want(TopicPartition(tokens[1], _number(tokens, 2, 32)), _number(tokens, 3, 64), _number(tokens, 4, 32))


@lru_cache(65536)
def _wanted_partition(head: bytes) -> TopicPartition:
    """Return the partition that `topic partition` names; the same ones are asked for again and again."""
    tokens = ["mget", *head.decode("utf-8", "replace").split(" ")]
    if len(tokens) != 3:
        raise ProtocolError(f"mget: a line of {len(tokens) + 1} tokens, 4 wanted")
    return TopicPartition(tokens[1], _number(tokens, 2, 32))


def _offset(tokens: list[str], _: bytes) -> Offset:
    _want(tokens, 6)
    target = TopicPartition(tokens[1], _number(tokens, 3, 32))
    return Offset(target, tokens[2], _number(tokens, 4, 64), _number(tokens, 5, 32))


def _stats(tokens: list[str], _: bytes) -> Stats:
    item = tokens[1] if len(tokens) > 1 else ""
    return Stats("" if item.isspace() else item, _number(tokens, 2, 32) if len(tokens) > 2 else NO_OPAQUE)


def _version(tokens: list[str], _: bytes) -> Version:
    return Version(_number(tokens, 1, 32) if len(tokens) > 1 else NO_OPAQUE, tuple(tokens[2:]))


def _quit(_tokens: list[str], _: bytes) -> Quit:
    return Quit()


def _transaction(tokens: list[str], _: bytes) -> Transaction:
    count = len(tokens)
    if not 5 <= count <= 7:
        raise _wrong_count(tokens, "5, 6 or 7")
    operation = Operation.__members__.get(tokens[3])
    if operation is None:
        raise ProtocolError(f"transaction: unknown operation {tokens[3][:40]!r}")
    timeout, qualifier = 0, None
    if count == 7:
        timeout, qualifier = _number(tokens, 4, 32), tokens[5]
    elif count == 6 and (not tokens[4] or tokens[4].isdecimal()):
        timeout = _number(tokens, 4, 32)  # also a qualifier that is all digits: nothing tells them apart
    elif count == 6:
        qualifier = tokens[4]
    return Transaction(
        _transaction_id(tokens, 1), tokens[2], operation, timeout, qualifier, _number(tokens, count - 1, 32)
    )


_STATUS: Final[Mapping[int, Status]] = MappingProxyType({int(status): status for status in Status})


def _result(tokens: list[str], body: bytes) -> Result:
    _want(tokens, 4)
    code = _number(tokens, 1, 32)
    return Result(_STATUS.get(code, code), body, _number(tokens, 3, 32))


def _value(tokens: list[str], body: bytes) -> Value:
    _want(tokens, 3)
    return Value(body, _number(tokens, 2, 32))


RULES: Final[Mapping[str, Rule]] = MappingProxyType(
    {
        "put": Rule(3, False, _put),
        "mput": Rule(3, False, _mput),
        "sync": Rule(3, False, _sync),
        "msync": Rule(3, False, _msync),
        "get": Rule(None, False, _get),
        "mget": Rule(4, False, _mget),
        "offset": Rule(None, False, _offset),
        "stats": Rule(None, False, _stats),
        "version": Rule(None, False, _version),
        "quit": Rule(None, False, _quit),
        "transaction": Rule(None, False, _transaction),
        "result": Rule(2, True, _result),
        "value": Rule(1, True, _value),
    }
)
