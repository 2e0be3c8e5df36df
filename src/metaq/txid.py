"""Transaction ids and how they are written on the wire and in the journal (protocol.md §6.2).

TX:<session>:<sequence>                          a local transaction, known to one connection
XID:<format id>:<gtrid hex>:<bqual hex>:<qualifier>   an XA transaction, known to the broker
null                                             no transaction; RECOVER sends it
"""

import re
from binascii import hexlify, unhexlify
from dataclasses import dataclass
from typing import Final, TypeAlias

_DECIMAL: Final = re.compile(r"[+-]?\d+")
_LONGEST: Final = 20  # characters of the longest int64 with its sign


def decimal(text: str, bits: int) -> int:
    """Return the number a token stands for, read as Java's parseInt (bits 32) and parseLong (bits 64) do.

    One sign, leading zeros and the decimal digits of any script are fine. Raises ValueError.
    """
    if not (text.isascii() and text.removeprefix("-").isdigit()) and not _is_decimal(text):
        raise ValueError(f"{text[:40]!r} is no number")
    value = int(text) if len(text) <= _LONGEST else _long_decimal(text)
    if -2147483648 <= value <= 2147483647 or (bits == 64 and -(1 << 63) <= value < 1 << 63):
        return value
    raise ValueError(f"{text[:40]!r} does not fit into {bits} bits")


def _is_decimal(text: str) -> bool:
    """Say whether Java reads a number here; it looks at 16 bits at a time, so digits beyond U+FFFF are none."""
    return _DECIMAL.fullmatch(text) is not None and max(text) <= "\uffff"


def _long_decimal(text: str) -> int:
    """Read a number that may have thousands of leading zeros, which int() would refuse for their count."""
    sign = -1 if text[0] == "-" else 1
    digits = "".join(str(int(digit)) for digit in text.lstrip("+-")).lstrip("0")
    return sign * int(digits[: _LONGEST + 1] or "0")  # the cut ones are too large whatever follows


def _check_part(text: str) -> None:
    if ":" in text:
        raise ValueError(f"{text[:40]!r} has a colon, which separates the parts of a transaction id")


def _check_range(value: int, bits: int) -> None:
    if not -(1 << bits - 1) <= value < 1 << bits - 1:
        raise ValueError(f"{value} does not fit into {bits} bits")


@dataclass(frozen=True, slots=True)
class LocalId:
    """A transaction of one client session; `sequence` counts within it (64 bits, though 1.4.6.2 reads only 32)."""

    session: str
    sequence: int

    def __post_init__(self) -> None:
        _check_part(self.session)
        _check_range(self.sequence, 64)

    def __str__(self) -> str:
        return f"TX:{self.session}:{self.sequence}"


@dataclass(frozen=True, slots=True)
class XaId:
    """A branch of a global transaction (javax.transaction.xa.Xid); `qualifier` names the client that recovers it.

    All four parts make the identity.
    """

    format_id: int
    global_id: bytes
    branch: bytes
    qualifier: str

    def __post_init__(self) -> None:
        _check_part(self.qualifier)
        _check_range(self.format_id, 32)

    def __str__(self) -> str:
        hexes = f"{hexlify(self.global_id).decode()}:{hexlify(self.branch).decode()}"
        return f"XID:{self.format_id}:{hexes}:{self.qualifier}"


@dataclass(frozen=True, slots=True)
class NullId:
    """No transaction at all, spelled out because the wire has a place for it."""

    def __str__(self) -> str:
        return "null"


NULL: Final = NullId()

TransactionId: TypeAlias = LocalId | XaId | NullId


def parse(text: str) -> TransactionId:
    """Return the id that `text` stands for; `str()` of it gives the canonical text. Raises ValueError.

    An XA id of four parts, as clients before 1.4.5 write it, has an empty qualifier.
    """
    match text.split(":"):
        case ["null"]:
            return NULL
        case ["TX", session, sequence]:
            return LocalId(session, decimal(sequence, 64))
        case ["XID", format_id, global_id, branch]:
            return XaId(decimal(format_id, 32), _pairs(global_id), _pairs(branch), "")
        case ["XID", format_id, global_id, branch, qualifier]:
            return XaId(decimal(format_id, 32), _pairs(global_id), _pairs(branch), qualifier)
        case _:
            raise ValueError(f"{text[:60]!r} is no transaction id")


def _pairs(text: str) -> bytes:
    """Decode hex of any case; an odd last digit is dropped, as the original does."""
    return unhexlify(text[: len(text) & ~1])
