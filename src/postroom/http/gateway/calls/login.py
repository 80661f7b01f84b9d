"""`/api/login/login` and `/api/login/discover-authentication`: keys for a person, and where to ask for them (contract
1.4).

Promises: an unknown person and a wrong password get the same answer after the same time. Tries are slowed per address
and account, together with the console's. With an access key in the body, the same keys are good again. Discovery
answers without looking whether anybody has the address. Fails: Failure - the recorded one for an unknown application,
401 with `key.username` for the rest.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from typing import Any

import msgspec

from postroom.clock import SECOND
from postroom.http.door.auth import MAX_ECHO
from postroom.http.door.callers import Callers, too_many
from postroom.http.door.guard import Guard
from postroom.http.door.limiter import Allowance, network
from postroom.http.door.trail import told
from postroom.http.gateway.calls.keyless import Knock, read_json
from postroom.http.gateway.wire.envelope import (
    Failure,
    Fault,
    ItemFailure,
    Meta,
    answer,
    encode,
    malformed,
)
from postroom.http.services import Services
from postroom.store import access, logs, permissions

LOGIN = "/api/login/login"
DISCOVER = "/api/login/discover-authentication"
REALMS = ("Basic-Cloud", "Basic-AD")  # the console's passwords answer for both
MAX_ITEMS = 25
_HOST = re.compile(r"[A-Za-z0-9.-]{1,255}(?::\d{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](?::\d{1,5})?")


class LoginFailure(Failure):
    """The recorded answer: the reason and the name that was sent."""

    def __init__(self, username: str, code: str, message: str) -> None:
        super().__init__(401, code, message)
        self._username = username

    def body(self) -> bytes:
        return encode(Meta(self.status), [], [{"key": {"username": self._username}, "errors": [self.fault]}])


class Said(msgspec.Struct, frozen=True):
    """The name and password that a caller sent."""

    username: str
    password: str

    def __repr__(self) -> str:
        return "Said()"


class Login:
    def __init__(self, services: Services, guard: Guard, callers: Callers) -> None:
        self._services = services
        self._guard = guard
        self._callers = callers

    async def __call__(self, knock: Knock) -> bytes:
        app: access.AppKeys | None = None
        try:
            app = await self._application(knock)
            said = read_basic(knock.header(b"authorization"))
            items = _items(await read_json(knock.data))
            item = items[0] if items else {}
            fault = _wrong_item(items, item)
            if fault is not None:
                return answer([], [ItemFailure(None, (fault,))], None)
            name = item.get("userName") or said.username
            if access.fold_email(name) != access.fold_email(said.username):
                raise refused(said.username, "userName differs from the name in the Authorization header")
            issued = await self._issued(knock, app, said, item.get("accessKey") or "")
        except Failure as failure:
            allowance = self._refuse(knock, app, failure)
            if not allowance.allowed:
                raise too_many(allowance, *allowance.headers()) from None
            raise
        lifetime = self._services.settings.api.binding_lifetime
        shown = {"accessKey": issued.access_key, "secretKey": issued.secret_key}
        return answer([{**shown, "duration": lifetime} if lifetime else shown], [], None)

    async def _application(self, knock: Knock) -> access.AppKeys:
        missing = [name for name in ("authorization", "x-mc-app-id") if not knock.header(name.encode()).strip()]
        if missing:
            text = f"0001 Credentials missing from the request: no {', '.join(missing)} header"
            raise Failure(400, "err_xdk_missing_credentials", text)
        return await self._callers.application(knock.header(b"x-mc-app-id").strip(), network(knock.address))

    async def _issued(self, knock: Knock, app: access.AppKeys, said: Said, access_key: str) -> access.IssuedKeys:
        services, email = self._services, access.fold_email(said.username)
        if len(email) > access.MAX_EMAIL:  # refused whole: a part of it could be somebody
            raise refused(said.username)
        wait = self._guard.logins.wait(knock.address, email)
        if wait:
            raise slowed(wait)
        user = await services.store.read(access.find_user(email))
        if not await self._guard.password_is(user, said.password) or user is None:
            raise refused(said.username)
        self._guard.logins.succeeded(knock.address, email)
        person = user
        if not person.role.allows(permissions.API_LOGIN):  # sub-code 0001 of 401: "auth type not allowed for user"
            raise Failure(
                401, "err_xdk_auth_type_not_allowed",
                f"0001 Authorization type is not allowed: role {person.role.name} lacks the permission "
                f"{permissions.API_LOGIN}",
            )  # fmt: skip
        keys = access.issue_keys(
            services.sealer, person, app_id=app.app_id, access_key=access_key, now=services.clock.now()
        )
        try:
            issued = await services.store.write(keys)
        except access.PersonChanged:
            raise refused(said.username) from None
        if issued is None:
            text = "Access key is not one of this user's: log in without it for a new one"
            raise LoginFailure(said.username[:MAX_ECHO], "err_xdk_binding_unknown", text)
        self._callers.forget_binding(app.app_id, issued.access_key)
        self._guard.trail.note(
            "login", outcome=logs.DONE, actor=f"user:{person.email}", what=f"API, application {app.name}",
            address=knock.address, detail="keys refreshed" if access_key else "new keys",
        )  # fmt: skip
        return issued

    def _refuse(self, knock: Knock, app: access.AppKeys | None, failure: Failure) -> Allowance:
        """The log repeats the name only if it looks like an address."""
        try:
            name = f" for {told(access.fold_email(read_basic(knock.header(b'authorization')).username))}"
        except Failure:
            name = ""
        self._guard.trail.note(
            "login", outcome=logs.REFUSED, what=f"API, application {app.name}" if app else "API",
            address=knock.address, detail=f"{failure.status} {failure.fault.code}{name}",
        )  # fmt: skip
        return self._callers.refused(knock.address)


class Discover:
    """The realms and the base URL: of this gateway, whatever address is asked for."""

    def __init__(self, services: Services, callers: Callers) -> None:
        self._callers = callers
        self._key = services.sealer.key("postroom.email-token")

    async def __call__(self, knock: Knock) -> bytes:
        app_id = knock.header(b"x-mc-app-id").strip()
        if not app_id:
            text = "0001 Credentials missing from the request: no x-mc-app-id header"
            raise Failure(400, "err_xdk_missing_credentials", text)
        try:
            await self._callers.application(app_id, network(knock.address))
        except Failure:
            allowance = self._callers.refused(knock.address)
            if not allowance.allowed:
                raise too_many(allowance, *allowance.headers()) from None
            raise
        items = _items(await read_json(knock.data)) or [{}]
        if len(items) > MAX_ITEMS:
            return answer([], [ItemFailure(None, (malformed("data", f"an array of up to {MAX_ITEMS} objects"),))], None)
        found: list[Any] = []
        failed: list[ItemFailure] = []
        for item in items:
            fault = _wrong_address(item)
            if fault is None:
                found.append(self._region(knock, item["emailAddress"].strip()))
            else:
                failed.append(ItemFailure(item if isinstance(item, dict) else None, (fault,)))
        return answer([] if failed else found, failed, None)

    def _region(self, knock: Knock, email: str) -> dict[str, Any]:
        digest = hmac.digest(self._key, access.fold_email(email).encode("utf-8", "replace"), hashlib.sha256)
        token = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        region = {"code": "local", "api": base_url(knock)}
        return {"authenticate": list(REALMS), "emailAddress": email, "emailToken": token, "region": region}


def read_basic(authorization: bytes) -> Said:
    """`Basic-Cloud b64(name:password)`, the realm in any case. Raises Failure."""
    realm, _, text = authorization.strip().partition(b" ")
    if realm.lower() not in [known.lower().encode() for known in REALMS]:
        raise Failure(
            401, "err_xdk_auth_type_not_allowed",
            f"0001 Authorization type is not allowed: expected {' or '.join(REALMS)}",
        )  # fmt: skip
    try:
        data = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        raise refused("", "Authorization header is not readable: expected base64 of name:password") from None
    try:
        name, colon, password = data.decode("utf-8").partition(":")
    except UnicodeDecodeError:
        name, colon, password = data.decode("latin-1").partition(":")
    if not colon:
        raise refused("", "Authorization header is not readable: expected base64 of name:password")
    return Said(name.strip(), password)


def refused(username: str, why: str = "Name and password do not belong together") -> Failure:
    return LoginFailure(username[: access.MAX_EMAIL], "err_xdk_invalid_credentials", why)


def slowed(wait: int) -> Failure:
    """`wait` seconds; the reset is in milliseconds, as everywhere (contract section 5)."""
    headers = (
        (b"x-ratelimit-remaining", b"0"), (b"x-ratelimit-reset", b"%d" % (wait * SECOND)),
        (b"retry-after", b"%d" % wait),
    )  # fmt: skip
    text = f"Too many failed tries: the next one in {wait} seconds"
    return Failure(429, "err_rate_limit_exceeded", text, retryable=True, headers=headers)


def base_url(knock: Knock) -> str:
    """The address by which the client called us, so that it learns nothing that it has not said itself."""
    host = knock.header(b"host").decode("latin-1").strip()
    if not _HOST.fullmatch(host):
        name, port = knock.scope.get("server") or ("localhost", None)
        host = f"[{name}]" if ":" in name else name
        host = f"{host}:{port}" if port else host
    return f"{knock.scope['scheme']}://{host}"


def _items(body: Any) -> list[Any]:
    data = body.get("data") if isinstance(body, dict) else None
    if isinstance(data, list):
        return data
    return [data] if data else []


def _wrong_item(items: list[Any], item: Any) -> Fault | None:
    if len(items) > 1 or not isinstance(item, dict):
        return malformed("data", "an array of one object")
    for field in ("userName", "accessKey"):
        if not isinstance(item.get(field) or "", str):
            return malformed(field, "a text")
    return None


def _wrong_address(item: Any) -> Fault | None:
    if not isinstance(item, dict):
        return malformed("data", "an array of objects")
    email = item.get("emailAddress")
    if email is None:
        return Fault("emailAddress", "err_validation_null", "This field is mandatory and must not be null", False)
    if isinstance(email, str) and not email.strip():
        return Fault("emailAddress", "err_validation_blank", "Field is mandatory and must not be blank", False)
    if not isinstance(email, str) or not 3 <= len(email.strip()) <= access.MAX_EMAIL or "@" not in email.strip()[1:-1]:
        return Fault("emailAddress", "err_validation_invalid_email_address", "Email address is not valid", False)
    return None
