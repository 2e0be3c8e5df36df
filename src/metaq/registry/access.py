"""Who may do what: identities of a connection, and ACLs against them (source: PrepRequestProcessor.fixupACL,
ZooKeeperServer.checkACL and the authentication providers of ZooKeeper 3.8).

Schemes: world (anyone), auth (whoever asks, as it is known; resolved when the ACL is set), digest (user:base64 of the
SHA-1 of user:password), ip (an IPv4 address, or a network as 10.0.0.0/8).
"""

import re
from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha1
from typing import Final

from metaq.registry.answers import Code
from metaq.registry.requests import ANYBODY, Acl, Permission
from metaq.registry.tree import Refusal

_NUMBER: Final = re.compile(r"[+-]?[0-9]+\Z")


class Access:
    """What one connection may do. It has the address that it comes from, and whatever it could prove."""

    def __init__(self, address: str) -> None:
        self._identities: list[tuple[str, str]] = [("ip", address)]

    def authenticate(self, scheme: str, auth: bytes) -> bool:
        """Take a proof; return whether the scheme is one that knows proofs."""
        if scheme == "digest":
            identity = (scheme, digest_of(auth.decode(errors="replace")))
            if identity not in self._identities:
                self._identities.append(identity)
        return scheme in ("digest", "ip")

    def who(self) -> list[tuple[str, str]]:
        """Return (scheme, user) of all identities; a user of digest without what follows it."""
        return [(scheme, id.partition(":")[0] if scheme == "digest" else id) for scheme, id in self._identities]

    def fix(self, acl: Sequence[Acl]) -> Sequence[Acl]:
        """Return an ACL without doubles, `auth` resolved. Raises Refusal where it is empty or means nothing."""
        if len(acl) == 1 and acl[0] == ANYBODY:
            return acl
        fixed: list[Acl] = []
        for each in dict.fromkeys(acl):
            if each.scheme == "auth":
                known = [Acl(each.permissions, scheme, id) for scheme, id in self._identities if scheme == "digest"]
                if not known:
                    raise Refusal(Code.INVALID_ACL)
                fixed += known
            elif _is_valid(each):
                fixed.append(each)
            else:
                raise Refusal(Code.INVALID_ACL)
        if not fixed:
            raise Refusal(Code.INVALID_ACL)
        return fixed

    def may(self, acl: Sequence[Acl], permission: int) -> bool:
        """Say whether the ACL of a node allows something; `permission`: bits, one of which is enough."""
        for permissions, scheme, id in acl:
            if permissions & permission and (
                (scheme == "world" and id == "anyone")
                or any(scheme == mine and _matches(scheme, known, id) for mine, known in self._identities)
            ):
                return True
        return not acl

    def check(self, acl: Sequence[Acl], permission: int) -> None:
        """Raise Refusal where `may` says no."""
        if not self.may(acl, permission):
            raise Refusal(Code.NO_AUTH)

    def shown(self, acl: Sequence[Acl]) -> Sequence[Acl]:
        """Return an ACL as this connection may see it: passwords only for administrators of the node."""
        if self.may(acl, Permission.ADMIN):
            return acl
        return [each._replace(id=each.id.partition(":")[0] + ":x") if each.scheme == "digest" else each for each in acl]


def digest_of(proof: str) -> str:
    """Return how user:password stands in an ACL."""
    hashed = b64encode(sha1(proof.encode(), usedforsecurity=False).digest()).decode()
    return f"{proof.partition(':')[0]}:{hashed}"


def _is_valid(acl: Acl) -> bool:
    if acl.scheme == "digest":
        return len(acl.id.rstrip(":").split(":")) == 2
    if acl.scheme == "ip":
        return _network(acl.id) is not None
    return (acl.scheme, acl.id) == ("world", "anyone")


def _matches(scheme: str, known: str, wanted: str) -> bool:
    """Say whether one identity is what an ACL names."""
    if scheme == "digest":
        return known == wanted
    network, address = _network(wanted), _address(known)
    if network is None or address is None:
        return False
    base, bits = network
    return (base ^ address) >> (32 - bits) == 0


def _network(text: str) -> tuple[int, int] | None:
    """Return base and bits of 10.0.0.0/8, or None if it is no network; without a slash it is one address."""
    host, slash, bits = text.partition("/")
    base = _address(host)
    count = _number(bits, 32) if slash else 32
    return None if base is None or count is None else (base, count)


def _address(text: str) -> int | None:
    parts = [_number(part, 255) for part in text.split(".")]
    if len(parts) != 4:
        return None
    address = 0
    for part in parts:
        if part is None:
            return None
        address = address << 8 | part
    return address


def _number(text: str, limit: int) -> int | None:
    if not _NUMBER.match(text):
        return None
    number = int(text)
    return number if 0 <= number <= limit else None
