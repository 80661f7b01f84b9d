"""Authentication by access token of API 2.0 (contract section 2), with the answers of the vendor's API gateway.

Promises: an answer says no more about a token than whether it was one of ours and has expired. Fails: Failure, with the
flat element (`code` and `message`, no `errors`) that clients of this era read.
"""

from __future__ import annotations

import msgspec

from postroom.http.door.auth import Caller
from postroom.http.gateway.wire.envelope import Failure, Meta, encode
from postroom.store import access

MAX_TOKEN = 512  # bytes of a sent token that are looked at; ours have 28
CHALLENGE = (b"www-authenticate", b"Bearer")  # RFC 6750 3


class Flat(msgspec.Struct, frozen=True):
    code: str
    message: str


class FlatFailure(Failure):
    """As the vendor's gateway writes it, before a request reaches any function."""

    def body(self) -> bytes:
        return encode(Meta(self.status), [], [Flat(self.fault.code, self.fault.message)])


def is_bearer(authorization: bytes) -> bool:
    return authorization.lstrip()[:6].lower() == b"bearer"


def read_token(authorization: bytes) -> bytes:
    """The token. Raises FlatFailure when there is none."""
    realm, _, token = authorization.strip().partition(b" ")
    token = token.strip()
    if realm.lower() != b"bearer" or not token or len(token) > MAX_TOKEN:
        raise FlatFailure(
            401, "unauthorized", "Unauthorized Request: expected Bearer and a token", headers=(CHALLENGE,)
        )
    return token


def caller(token: access.Token) -> Caller:
    return Caller(token.app_id, token.name, token.role)


def expired() -> Failure:
    """The token has expired. One known client logs in again only for this code."""
    return FlatFailure(401, "token_expired", "The access token has expired", headers=(CHALLENGE,))


def unknown() -> Failure:
    return FlatFailure(401, "token_verification_failed", "The access token could not be verified", headers=(CHALLENGE,))


def no_such_function() -> Failure:
    """The text is recorded; the HTTP status is our choice."""
    return FlatFailure(
        403, "app_forbidden",
        "Resource or method requested does not exist in any product assigned to the application.",
    )  # fmt: skip
