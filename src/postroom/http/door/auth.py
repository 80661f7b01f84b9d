"""Who calls: the signed request of API 1.0 (contract section 1). Refusals come in the recorded order.

Promises: header texts are checked as sent, and the path as requested. A comparison takes the same time whether the key
is known or not. A revoked application is refused within a second. Fails: Failure, with the recorded body where there is
a recording.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Awaitable, Callable, Iterable

import msgspec

from postroom.clock import MINUTE, SECOND, Clock, Millis
from postroom.http.door.remembered import Remembered
from postroom.http.gateway.wire.dates import parse_header_date
from postroom.http.gateway.wire.envelope import Failure
from postroom.store import access

MAX_ECHO = 100  # characters of a sent value that an answer repeats
_DUMMY_SECRET = bytes(64)
_DUMMY_KEY = "00000000-0000-0000-0000-000000000000"

_SIGNED = (b"authorization", b"x-mc-app-id", b"x-mc-date", b"x-mc-req-id")


class SignedRequest(msgspec.Struct, frozen=True):
    """The parts of a request that its signature covers, as sent."""

    authorization: bytes
    app_id: bytes
    date: bytes
    request_id: bytes
    targets: tuple[bytes, ...]  # request targets that the client can have signed


class Signature(msgspec.Struct, frozen=True):
    access_key: bytes
    digest: bytes


class Caller(msgspec.Struct, frozen=True):
    """A caller that has proved who it is: an application, or a person through one, with keys from login."""

    app_id: str
    name: str  # the application's
    role: access.Role  # the application's
    user: str = ""  # the person's e-mail address
    user_role: access.Role | None = None

    @property
    def actor(self) -> str:
        """The caller's name in timelines and in the audit log."""
        return f"user:{self.user}" if self.user else f"app:{self.name}"

    def lacking(self, permission: str) -> access.Role | None:
        """The role that forbids it; None: allowed. A person may do what both they and the application may."""
        for role in (self.role, self.user_role):
            if role is not None and not role.allows(permission):
                return role
        return None


def read_request(headers: Iterable[tuple[bytes, bytes]], path: bytes, query: bytes) -> SignedRequest:
    """Raises Failure when a piece is missing. The server gives names in lower case; the first of each name counts."""
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in _SIGNED:
            found.setdefault(name, value)
    missing = [name.decode() for name in _SIGNED if not found.get(name, b"").strip()]
    if missing:
        raise Failure(
            400,
            "err_xdk_missing_credentials",
            f"0001 Credentials missing from the request: no {', '.join(missing)} header",
        )
    authorization, app_id, date, request_id = [found[name] for name in _SIGNED]
    return SignedRequest(authorization, app_id.strip(), date, request_id, signed_targets(path, query))


def authorization(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The header as sent; empty when missing."""
    for name, value in headers:
        if name == b"authorization":
            return value
    return b""


def signed_targets(path: bytes, query: bytes) -> tuple[bytes, ...]:
    """Path as requested, or with its query (contract 6.5); `//api/..` of a doubled slash also as `/api/..` (6.4)."""
    targets = [path]
    if path.startswith(b"//"):
        targets.append(b"/" + path.lstrip(b"/"))
    if query:
        targets += [target + b"?" + query for target in targets]
    return tuple(targets)


def check_realm(authorization: bytes) -> None:
    """`MC`, in any case. Raises Failure for another kind of authorization, before anything else is judged."""
    realm, _, _ = authorization.strip().partition(b" ")
    if realm.upper() != b"MC":
        raise Failure(
            401, "err_xdk_auth_type_not_allowed", "0001 Authorization type is not allowed: expected MC key:signature"
        )


def read_signature(authorization: bytes) -> Signature:
    """Reads `MC key:signature`, split at the last colon, without blanks (contract 1.1). Raises Failure."""
    check_realm(authorization)
    _, _, rest = authorization.strip().partition(b" ")
    key, colon, text = rest.rpartition(b":")
    try:
        digest = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        raise invalid_signature() from None
    if not colon:
        raise invalid_signature()
    return Signature(key.strip(), digest)


def expected_digests(request: SignedRequest, secret_key: bytes, app_key: str) -> list[bytes]:
    """HMAC-SHA1 over `date:request id:target:application key`, for each target that the client may have signed."""
    head = request.date + b":" + request.request_id + b":"
    tail = b":" + app_key.encode()
    return [hmac.digest(secret_key, head + target + tail, "sha1") for target in request.targets]


def signed_by(request: SignedRequest, app: access.AppKeys, binding: access.Binding | None = None) -> bool:
    """Whether the application's own keys made this signature, or those of a binding. It does the same work whichever
    part is wrong."""
    signature = read_signature(request.authorization)
    own = hmac.compare_digest(signature.access_key, app.access_key.encode())
    bound = binding is not None and hmac.compare_digest(signature.access_key, binding.access_key.encode())
    secret_key = app.secret_key if own else binding.secret_key if bound and binding is not None else _DUMMY_SECRET
    digests = expected_digests(request, secret_key, app.app_key if own or bound else _DUMMY_KEY)
    same = [hmac.compare_digest(signature.digest, digest) for digest in digests]
    return (own or bound) and any(same)


def check_date(date: bytes, now: Millis, tolerance: Millis) -> Millis:
    """The time that the date names. Call it after the signature was checked, so that strangers do not learn our clock.
    The vendor's answer is not known: the code is our own."""
    text = date.decode("latin-1")
    at = parse_header_date(text)
    if at is None:
        raise Failure(
            401, "err_xdk_invalid_date",
            f"Request date is not readable: {text[:MAX_ECHO]!r}, expected a form such as Tue, 24 Nov 2015 12:50:11 UTC",
        )  # fmt: skip
    if abs(now - at) > tolerance:
        apart = (now - at) // SECOND
        raise Failure(
            401, "err_xdk_invalid_date",
            f"Request date is outside the tolerance of {_span(tolerance)}: it is {abs(apart)} seconds "
            f"{'behind' if apart > 0 else 'ahead of'} this server's clock",
        )  # fmt: skip
    return at


def check_permission(caller: Caller, permission: str) -> None:
    role = caller.lacking(permission)
    if role is not None:
        raise Failure(
            403, "err_xdk_operation_forbidden",
            f"0003 Forbidden To Perform Operation: role {role.name} lacks the permission {permission}",
        )  # fmt: skip


def binding_expired() -> Failure:
    """The code is recorded, and a shipped client matches the text (contract 1.3)."""
    return Failure(
        418, "err_xdk_binding_expired", "AccessKey Has Expired: log in again, with this access key to keep it"
    )


def invalid_signature() -> Failure:
    """Recorded: the same for a wrong secret, a wrong application key and an unknown access key."""
    return Failure(401, "err_xdk_invalid_signature", "0004 Invalid Signature")


def invalid_app_id(sent: bytes) -> Failure:
    """Recorded, with HTTP 200."""
    return Failure(200, "err_developer_key", f"App ID is invalid: {sent.decode('utf-8', 'replace')[:MAX_ECHO]}")


def _span(millis: Millis) -> str:
    return f"{millis // MINUTE} minutes" if millis % MINUTE == 0 else f"{millis / SECOND:g} seconds"


class Applications:
    """Look up applications by id, as sent."""

    __slots__ = ("_known",)

    def __init__(self, clock: Clock, find: Callable[[str], Awaitable[access.AppKeys | None]]) -> None:
        self._known = Remembered(clock, find)

    def met(self, app_id: bytes) -> bool:
        return self._known.met(_app_id(app_id))

    async def find(self, app_id: bytes) -> access.AppKeys | None:
        text = _app_id(app_id)
        return await self._known.find(text) if text else None


def _app_id(sent: bytes) -> str:
    """The id if it can be one of ours, else empty."""
    text = sent.decode("ascii", "replace").strip()
    return text if text.isascii() and len(text) <= MAX_ECHO else ""
