"""The signature of API 1.0, without a server."""

from __future__ import annotations

import base64

import pytest

from postroom.http.door import auth
from postroom.http.gateway.wire.envelope import Failure
from postroom.store.access.identity import AppKeys, Role

KEYS = AppKeys(
    app_id="4d1eb02a",
    name="example",
    role=Role("administrator", ("*",)),
    app_key="ApplicationKey",
    access_key="access:key",
    secret_key=b"SecretKey",
)
DATE = b"Sun, 21 Aug 2022 13:49:40 UTC"
IDENT = b"3d796b76-4180-40e5-8f7c-6e0fd643b1a9"
KNOWN = b"WOywLsnZlsE+D6bp/ug6uch5kxc="  # contract 1.1, the known answer


def request(authorization: bytes, path: bytes = b"/api/test/some-url", query: bytes = b"") -> auth.SignedRequest:
    headers = [
        (b"authorization", authorization),
        (b"x-mc-app-id", b"4d1eb02a"),
        (b"x-mc-date", DATE),
        (b"x-mc-req-id", IDENT),
    ]
    return auth.read_request(headers, path, query)


def test_the_known_answer_is_ours() -> None:
    (digest,) = auth.expected_digests(request(b"MC x:y"), b"SecretKey", "ApplicationKey")
    assert base64.b64encode(digest) == KNOWN


@pytest.mark.parametrize("form", [b"MC %b:%b", b"mc %b:%b", b"MC %b: %b", b"MC  %b : %b ", b"Mc %b:%b\t"])
def test_realm_in_any_case_and_blanks_round_the_pieces_do_not_matter(form: bytes) -> None:
    assert auth.signed_by(request(form % (b"access:key", KNOWN)), KEYS)


@pytest.mark.parametrize(
    "authorization",
    [
        b"MC access:key:" + KNOWN[:-2] + b"A=",
        b"MC other:key:" + KNOWN,
        b"MC access:key:",
        b"MC access:key:" + base64.b64encode(b"short"),
    ],
)
def test_a_wrong_key_or_signature_is_not_ours(authorization: bytes) -> None:
    assert not auth.signed_by(request(authorization), KEYS)


@pytest.mark.parametrize("authorization", [b"MC nocolon", b"MC key:!!!", b"MC key:\xff"])
def test_a_malformed_signature_is_told_like_a_wrong_one(authorization: bytes) -> None:
    with pytest.raises(Failure) as caught:
        auth.signed_by(request(authorization), KEYS)
    assert caught.value.body() == auth.invalid_signature().body()


def test_path_alone_path_with_query_and_a_doubled_slash_may_be_signed() -> None:
    assert auth.signed_targets(b"/api/x", b"") == (b"/api/x",)
    assert auth.signed_targets(b"/api/x", b"a=1") == (b"/api/x", b"/api/x?a=1")
    assert auth.signed_targets(b"//api/x", b"a=1") == (b"//api/x", b"/api/x", b"//api/x?a=1", b"/api/x?a=1")


def test_missing_pieces_are_all_named() -> None:
    with pytest.raises(Failure, match="no authorization, x-mc-date header") as caught:
        auth.read_request([(b"x-mc-app-id", b"a"), (b"x-mc-req-id", b"b"), (b"x-mc-date", b" ")], b"/", b"")
    assert caught.value.status == 400


def test_keys_do_not_show_in_a_repr() -> None:
    assert "SecretKey" not in repr(KEYS)
    assert "ApplicationKey" not in repr(KEYS)
