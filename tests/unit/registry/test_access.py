"""ACLs."""

from base64 import b64encode
from hashlib import sha1

import pytest
from kazoo.security import make_digest_acl_credential  # type: ignore[import-untyped]

from metaq.registry.access import Access, digest_of
from metaq.registry.answers import Code
from metaq.registry.requests import ANYBODY, Acl, Permission
from metaq.registry.tree import Refusal

ANN, BOB = digest_of("ann:1"), digest_of("bob:2")


def known(*proofs: bytes, address: str = "10.1.2.3") -> Access:
    access = Access(address)
    for proof in proofs:
        assert access.authenticate("digest", proof)
    return access


def refused(access: Access, *acl: Acl) -> Code:
    with pytest.raises(Refusal) as caught:
        access.fix(acl)
    return caught.value.code


def test_a_digest_is_what_kazoo_makes_of_user_and_password() -> None:
    assert make_digest_acl_credential("ann", "1") == ANN
    assert "ann:" + b64encode(sha1(b"ann:1").digest()).decode() == ANN
    assert digest_of("nobody").startswith("nobody:")


def test_proofs_of_unknown_schemes_are_refused_and_bytes_of_any_kind_taken() -> None:
    access = known(b"ann:1", b"ann:1", b"\xff\xfe", b"")
    assert [access.authenticate(scheme, b"") for scheme in ("ip", "world", "auth", "sasl", "")] == [True] + [False] * 4
    assert access.who()[:2] == [("ip", "10.1.2.3"), ("digest", "ann")]
    assert len(access.who()) == 4


@pytest.mark.parametrize(
    "acl",
    [
        Acl(31, "world", "somebody"),
        Acl(31, "digest", "no-colon"),
        Acl(31, "digest", "a:b:c"),
        Acl(31, "digest", "a:"),
        Acl(31, "ip", "10.0.0"),
        Acl(31, "ip", "10.0.0.256"),
        Acl(31, "ip", "10.0.0.1/33"),
        Acl(31, "ip", "10.0.0.1/"),
        Acl(31, "ip", "::1"),
        Acl(31, "ip", "10.0.0.1 "),
        Acl(31, "auth", ""),
        Acl(31, "x509", "CN=ann"),
        Acl(31, "", ""),
    ],
)
def test_what_means_nothing_is_refused(acl: Acl) -> None:
    assert refused(Access("10.1.2.3"), acl) == Code.INVALID_ACL
    assert refused(Access("10.1.2.3"), ANYBODY, acl) == Code.INVALID_ACL


def test_an_empty_acl_is_refused() -> None:
    assert refused(known(b"ann:1")) == Code.INVALID_ACL


def test_doubles_go_and_auth_becomes_all_that_could_be_proved() -> None:
    acl = [Acl(1, "digest", BOB), Acl(31, "auth", "whatever"), Acl(1, "digest", BOB), Acl(7, "ip", "10.0.0.0/8")]
    assert known(b"ann:1", b"bob:2").fix(acl) == [
        Acl(1, "digest", BOB),
        Acl(31, "digest", ANN),
        Acl(31, "digest", BOB),
        Acl(7, "ip", "10.0.0.0/8"),
    ]


@pytest.mark.parametrize(
    ("acl", "ann", "stranger"),
    [
        ([ANYBODY], True, True),
        ([], True, True),
        ([Acl(1, "world", "anyone")], True, True),
        ([Acl(30, "world", "anyone")], False, False),
        ([Acl(1, "digest", ANN)], True, False),
        ([Acl(2, "digest", ANN), Acl(1, "digest", BOB)], False, False),
        ([Acl(1, "ip", "10.1.2.3")], True, True),
        ([Acl(1, "ip", "10.0.0.0/8")], True, True),
        ([Acl(1, "ip", "11.0.0.0/8")], False, False),
        ([Acl(1, "ip", "99.9.9.9/0")], True, True),
        ([Acl(1, "ip", "10.1.2.2/31")], True, True),
        ([Acl(1, "ip", "10.1.2.4/31")], False, False),
        ([Acl(1, "nonsense", "10.1.2.3")], False, False),
    ],
)
def test_who_may_read(acl: list[Acl], ann: bool, stranger: bool) -> None:
    assert known(b"ann:1").may(acl, Permission.READ) is ann
    assert known().may(acl, Permission.READ) is stranger
    if not stranger:
        with pytest.raises(Refusal, match="NO_AUTH"):
            known().check(acl, Permission.READ)


def test_an_address_that_is_none_of_ipv4_matches_no_network() -> None:
    assert not known(address="::1").may([Acl(31, "ip", "0.0.0.0/0")], Permission.READ)


def test_one_of_several_permissions_is_enough() -> None:
    assert known().may([Acl(16, "world", "anyone")], Permission.READ | Permission.ADMIN)


def test_passwords_are_shown_to_administrators_only() -> None:
    acl = [Acl(31, "digest", ANN), Acl(1, "world", "anyone")]
    assert known(b"ann:1").shown(acl) == acl
    assert known().shown(acl) == [Acl(31, "digest", "ann:x"), Acl(1, "world", "anyone")]
