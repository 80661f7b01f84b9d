"""`POST /oauth/token`: an access token for an application that shows its client id and secret (contract section 2, RFC
6749 4.4).

Promises: id and secret are taken from HTTP Basic, the body or the query. The token is opaque and kept only as a hash. A
client with many refusals must wait, and no other client from the same address. Fails: OAuthFailure, whose body holds
every shape that some client reads: `meta.status`, `fail[].errors`, `fail[0].code` and `.message`, `error` and
`error_description` (contract 6.5).
"""

from __future__ import annotations

import base64
import binascii
from typing import Any
from urllib.parse import parse_qsl, unquote

import msgspec

from postroom.clock import SECOND
from postroom.http.door.callers import Callers, too_many
from postroom.http.door.guard import Guard
from postroom.http.gateway.calls.keyless import Knock, read_json
from postroom.http.gateway.wire.envelope import Failure, Fault, Meta
from postroom.http.services import Services
from postroom.store import access, logs

PATH = "/oauth/token"
GRANT = "client_credentials"
MAX_FIELDS = 50
_CHALLENGE = (b"www-authenticate", b'Basic realm="postroom"')  # RFC 6749 5.2

_encode = msgspec.json.Encoder().encode


class _Every(msgspec.Struct, frozen=True):
    """One reason, flat and nested."""

    code: str
    message: str
    errors: list[Fault]


class _Refusal(msgspec.Struct, frozen=True):
    meta: Meta
    data: list[Any]
    fail: list[_Every]
    error: str
    error_description: str


class OAuthFailure(Failure):
    """`code` is one of RFC 6749 5.2."""

    def body(self) -> bytes:
        fault = self.fault
        every = _Every(fault.code, fault.message, [fault])
        body = _encode(_Refusal(Meta(self.status), [], [every], fault.code, fault.message))
        return body.replace(b"<", b"\\u003c").replace(b">", b"\\u003e")


class _Granted(msgspec.Struct, frozen=True):
    access_token: str
    token_type: str
    expires_in: int
    scope: str


class TokenDoor:
    def __init__(self, services: Services, guard: Guard, callers: Callers) -> None:
        self._services = services
        self._guard = guard
        self._callers = callers

    async def __call__(self, knock: Knock) -> bytes:
        try:
            client = await self._client(knock, await read_fields(knock))
        except Failure as failure:
            allowance = self._callers.refused(knock.address)
            self._guard.trail.note(
                "token", outcome=logs.REFUSED, address=knock.address, detail=f"{failure.status} {failure.fault.code}"
            )
            if not allowance.allowed:
                text, headers = str(too_many(allowance)), tuple(allowance.headers())
                raise OAuthFailure(429, "slow_down", text, retryable=True, headers=headers) from None
            raise
        lifetime, now = self._services.settings.api.token_lifetime, self._services.clock.now()
        token = await self._services.store.write(access.issue_token(client.app_id, lifetime=lifetime, now=now))
        self._guard.trail.note("token", outcome=logs.DONE, actor=f"app:{client.name}", address=knock.address)
        return _encode(_Granted(token, "Bearer", lifetime // SECOND, ""))

    async def _client(self, knock: Knock, fields: dict[str, str]) -> access.Client:
        grant = fields.get("grant_type", "").strip()
        if grant != GRANT:
            code = "unsupported_grant_type" if grant else "invalid_request"
            raise OAuthFailure(400, code, f"grant_type: expected {GRANT}")
        ident, secret = fields.get("client_id", "").strip(), fields.get("client_secret", "").strip()
        missing = [name for name, value in (("client_id", ident), ("client_secret", secret)) if not value]
        if missing:
            raise self._invalid(knock, f"Client authentication failed: no {' and no '.join(missing)}")
        client = await self._services.store.read(access.find_client(ident, secret))
        if client is None:
            raise self._invalid(knock)
        return client

    def _invalid(
        self, knock: Knock, text: str = "Client authentication failed: unknown client or wrong secret"
    ) -> Failure:
        challenged = knock.header(b"authorization") != b""
        return OAuthFailure(401, "invalid_client", text, headers=(_CHALLENGE,) if challenged else ())


async def read_fields(knock: Knock) -> dict[str, str]:
    """Credentials from HTTP Basic, or else the body, or else the query. Raises Failure."""
    found = dict(_basic(knock.header(b"authorization")))
    for name, value in [*await _body(knock.data), *_form(knock.scope["query_string"])]:
        found.setdefault(name, value)
    return found


def _basic(authorization: bytes) -> list[tuple[str, str]]:
    """RFC 6749 2.3.1: id and secret are form-encoded. Unreadable credentials count as missing."""
    realm, _, text = authorization.strip().partition(b" ")
    if realm.lower() != b"basic":
        return []
    try:
        ident, colon, secret = base64.b64decode(text.strip(), validate=True).decode("utf-8").partition(":")
    except (binascii.Error, ValueError):
        return []
    return [("client_id", unquote(ident)), ("client_secret", unquote(secret))] if colon else []


async def _body(data: bytes) -> list[tuple[str, str]]:
    """The fields of a form, whatever its content type, or of JSON."""
    if data.lstrip()[:1] != b"{":
        return _form(data)
    found = await read_json(data)
    return [(name, value) for name, value in found.items() if isinstance(value, str)] if isinstance(found, dict) else []


def _form(data: bytes) -> list[tuple[str, str]]:
    try:
        return parse_qsl(data.decode("utf-8", "replace").strip(), max_num_fields=MAX_FIELDS)
    except ValueError:
        raise OAuthFailure(400, "invalid_request", f"expected a form of at most {MAX_FIELDS} fields") from None
