"""Authenticates API calls: checks rate, application, and signature or token in this order, and counts calls.

Promises: calls with an application's signature or token count for the application, all others for their address; an
address over its limit costs no query. Refusals are logged, folded, without anything that was sent. Fails: Failure.
"""

from __future__ import annotations

import msgspec
from starlette.types import Scope

from postroom.clock import SECOND, Clock
from postroom.http.door import auth, bearer
from postroom.http.door.auth import Caller
from postroom.http.door.guard import Guard
from postroom.http.door.limiter import Allowance, Limiter, network
from postroom.http.door.remembered import Remembered
from postroom.http.gateway.wire.envelope import Failure
from postroom.http.services import Services
from postroom.store.access import bindings, identity, tokens
from postroom.store.logs import audit

# Calls that no application has signed, of one address in a window: as recorded for unknown access keys (contract
# section 5).
STRANGERS = (5000, 5 * SECOND)
MAX_ACCESS_KEY = 200  # bytes; ours have 128


class Admitted(msgspec.Struct, frozen=True):
    """`signature`: None for a call with a token; `expires`: when the date of a signed call is no longer accepted."""

    caller: Caller
    signature: bytes | None = None
    expires: int = 0


class Callers:
    """Built once; a reload keeps it. Shared by the vendor-compatible API and our own."""

    def __init__(self, services: Services, guard: Guard) -> None:
        api = services.settings.api
        clock: Clock = services.clock
        self._services = services
        self._trail = guard.trail
        self._limiter = Limiter(clock, api.rate_limit, api.rate_window)
        self._strangers = Limiter(clock, *STRANGERS)
        self._refusals = Limiter(clock, api.refusal_limit, api.refusal_window)
        self._applications = auth.Applications(clock, self._find_app)
        self._unusable: set[str] = set()  # applications of which it was said
        self._bindings: Remembered[tuple[str, str], bindings.Binding] = Remembered(clock, self._find_binding)
        self._tokens: Remembered[bytes, tokens.Token] = Remembered(clock, self._find_token)

    def apply(self, services: Services) -> None:
        """New settings. Counts stay: a reload does not start new windows."""
        api = services.settings.api
        self._services = services
        self._limiter.apply(api.rate_limit, api.rate_window)
        self._refusals.apply(api.refusal_limit, api.refusal_window)

    # -- look-ups

    async def _find_app(self, app_id: str) -> identity.AppKeys | None:
        sealer = self._services.sealer
        app = await self._services.store.read(lambda reader: identity.find_app(reader.tx, sealer, app_id))
        if app is not None and not app.usable and app_id not in self._unusable:
            self._unusable.add(app_id)  # said once; there are as many of them as applications
            self._services.log.error(
                "application_unusable", app=app_id, name=app.name, why="its keys were sealed with another secrets key",
                remedy="put that key back and start again, or make new keys: postroom app create",
            )  # fmt: skip
        return app

    async def _find_binding(self, key: tuple[str, str]) -> bindings.Binding | None:
        sealer = self._services.sealer
        return await self._services.store.read(lambda reader: bindings.find(reader.tx, sealer, *key))

    async def _find_token(self, token_hash: bytes) -> tokens.Token | None:
        return await self._services.store.read(lambda reader: tokens.find(reader.tx, token_hash))

    # -- judging

    def untouched(self) -> Allowance:
        """The rate headers when the caller is not known."""
        return self._limiter.untouched()

    async def admit(self, scope: Scope, function: str) -> tuple[Admitted | Failure, Allowance]:
        """The caller or the refusal, which is raised only after the limiter and the earlier checks."""
        address = caller_address(scope)
        stranger = network(address)
        try:
            found: Admitted | Failure = await self._known(scope, stranger)
        except Failure as failure:
            found = failure
        if isinstance(found, Failure):
            self._note(function, address, found)
            return found, self.count_refused(stranger)
        allowance = self._limiter.take(found.caller.app_id, function)
        if not allowance.allowed:
            self._note(function, address, too_many(allowance), found.caller)
        return found, allowance

    async def bearer(self, scope: Scope, function: str, permission: str) -> tuple[Caller, Allowance]:
        """For our own API: the caller with this token and permission. Raises Failure, with the rate headers.

        `permission` empty: any token may.
        """
        address = caller_address(scope)
        stranger = network(address)
        found: Caller | Failure
        try:
            found = await self._token_of(scope, stranger)
        except Failure as failure:
            found = failure
        known = None if isinstance(found, Failure) else found
        allowance = self.count_refused(stranger) if known is None else self._limiter.take(known.app_id, function)
        try:
            if not allowance.allowed:
                raise too_many(allowance)
            if isinstance(found, Failure):
                raise found
            if permission:
                auth.check_permission(found, permission)
        except Failure as failure:
            self._note(function, address, failure, known)
            failure.headers = (*failure.headers, *allowance.headers())
            raise
        return found, allowance

    def check_permission(self, scope: Scope, caller: Caller, function: str, permission: str) -> None:
        try:
            auth.check_permission(caller, permission)
        except Failure as failure:
            self._note(function, caller_address(scope), failure, caller)
            raise

    def count_unsigned(self, scope: Scope) -> Allowance:
        """A call to a function for callers without keys."""
        return self._strangers.take(network(caller_address(scope)), "")

    def refused(self, address: str) -> Allowance:
        """Counts a refusal of such a call; the address's remaining allowance."""
        return self._refusals.take(network(address), "")

    def count_refused(self, stranger: str) -> Allowance:
        """Counts in both windows: the recorded one, above which nothing is looked up, and the longer one, above which
        refused calls get 429. Valid signatures and tokens are not limited by the second."""
        allowance = self._strangers.take(stranger, "")
        slowed = self._refusals.take(stranger, "")
        return slowed if allowance.allowed and not slowed.allowed else allowance

    async def application(self, app_id: bytes, stranger: str) -> identity.AppKeys:
        """Raises Failure, as recorded, for an unknown application or an address over its limit."""
        if self._spent(stranger) and not self._applications.met(app_id):
            raise auth.invalid_app_id(app_id)  # not looked up: the limiter will refuse it anyway
        app = await self._applications.find(app_id)
        if app is None:
            raise auth.invalid_app_id(app_id)
        return app

    def forget_binding(self, app_id: str, access_key: str) -> None:
        """Forget a binding that was refreshed, so that its new keys work at once."""
        self._bindings.forget((app_id, access_key))

    def _spent(self, stranger: str) -> bool:
        return self._strangers.spent(stranger, "")

    async def _known(self, scope: Scope, stranger: str) -> Admitted:
        """The caller of a request with a valid signature and date, or with a valid token. Raises Failure."""
        if bearer.is_bearer(auth.authorization(scope["headers"])):
            return Admitted(await self._token_of(scope, stranger))
        request = auth.read_request(scope["headers"], scope.get("raw_path") or b"", scope["query_string"])
        auth.check_realm(request.authorization)
        app = await self.application(request.app_id, stranger)
        signature = auth.read_signature(request.authorization)
        binding = await self._binding(app, signature.access_key, stranger)
        if not auth.signed_by(request, app, binding):
            raise auth.invalid_signature()
        api, now = self._services.settings.api, self._services.clock.now()
        signed_at = auth.check_date(request.date, now, api.clock_tolerance)
        caller = Caller(app.app_id, app.name, app.role)
        if binding is not None:
            if binding.expired(now, api.binding_lifetime):
                raise auth.binding_expired()
            caller = Caller(app.app_id, app.name, app.role, binding.email, binding.role)
        return Admitted(caller, signature.access_key + b":" + signature.digest, signed_at + api.clock_tolerance)

    async def _binding(self, app: identity.AppKeys, access_key: bytes, stranger: str) -> bindings.Binding | None:
        """None: the application's own key, or nobody's."""
        text = access_key.decode("ascii", "replace")
        if text == app.access_key or not text.isascii() or not 0 < len(text) <= MAX_ACCESS_KEY:
            return None
        key = (app.app_id, text)
        if self._spent(stranger) and not self._bindings.met(key):
            return None
        return await self._bindings.find(key)

    async def _token_of(self, scope: Scope, stranger: str) -> Caller:
        token_hash = tokens.hash_token(bearer.read_token(auth.authorization(scope["headers"])))
        if self._spent(stranger) and not self._tokens.met(token_hash):
            raise bearer.unknown()
        token = await self._tokens.find(token_hash)
        if token is None:
            raise bearer.unknown()
        if token.expires <= self._services.clock.now():
            raise bearer.expired()
        return bearer.caller(token)

    # -- writing down

    def note_unchanged(self, scope: Scope, caller: Caller, function: str, detail: str) -> None:
        """Logs that a changing call was refused for its content. `detail`: nothing that was sent."""
        self._trail.note(
            "call",
            outcome=audit.REFUSED,
            actor=caller.actor,
            what=function,
            address=caller_address(scope),
            detail=detail,
        )

    def _note(self, function: str, address: str, failure: Failure, caller: Caller | None = None) -> None:
        """`function`: empty for an unknown path, which may contain a misplaced secret."""
        self._trail.note(
            "call", outcome=audit.REFUSED, actor=caller.actor if caller else "", what=function, address=address,
             detail=f"{failure.status} {failure.fault.code}",
        )  # fmt: skip


def caller_address(scope: Scope) -> str:
    client = scope.get("client")
    return str(client[0]) if client else ""


def too_many(allowance: Allowance, *headers: tuple[bytes, bytes]) -> Failure:
    return Failure(
        429, "err_rate_limit_exceeded",
        f"Too many calls: at most {allowance.limit} in {allowance.window} ms, more in {allowance.reset} ms",
        retryable=True, headers=headers,
    )  # fmt: skip
