"""Authenticates API calls: checks rate, application, and signature or token in this order, and counts calls.

Promises: only calls that an application has signed, or that carry its token, count as its own. All others count for the
address they come from, and cost no query once that address has used up its share. A refusal is written down, folded,
without anything that was sent. Fails: Failure.
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
from postroom.store import access, logs

# Unsigned calls of one address in a window: as recorded for unknown access keys (contract section 5).
STRANGERS = (5000, 5 * SECOND)
MAX_ACCESS_KEY = 200  # bytes; ours have 128


class Admitted(msgspec.Struct, frozen=True):
    """`signature`: of a signed call; None: it carried a token. `expires`: when the date of the call is no longer
    accepted."""

    caller: Caller
    signature: bytes | None = None
    expires: int = 0


class Callers:
    """Built once and kept by a reload; shared by the vendor-compatible API and our own."""

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
        self._bindings: Remembered[tuple[str, str], access.Binding] = Remembered(clock, self._find_binding)
        self._tokens: Remembered[bytes, access.Token] = Remembered(clock, self._find_token)

    def apply(self, services: Services) -> None:
        """New settings. Counters and known callers stay: a reload gives nobody a fresh window."""
        api = services.settings.api
        self._services = services
        self._limiter.apply(api.rate_limit, api.rate_window)
        self._refusals.apply(api.refusal_limit, api.refusal_window)

    # -- look-ups

    async def _find_app(self, app_id: str) -> access.AppKeys | None:
        app = await self._services.store.read(access.find_app(self._services.sealer, app_id))
        if app is not None and not app.usable and app_id not in self._unusable:
            self._unusable.add(app_id)  # said once; there are as many of them as applications
            self._services.log.error(
                "application_unusable", app=app_id, name=app.name, why="its keys were sealed with another secrets key",
                remedy="put that key back and start again, or make new keys: postroom app create",
            )  # fmt: skip
        return app

    async def _find_binding(self, key: tuple[str, str]) -> access.Binding | None:
        return await self._services.store.read(access.find_binding(self._services.sealer, *key))

    async def _find_token(self, token_hash: bytes) -> access.Token | None:
        return await self._services.store.read(access.find_token(token_hash))

    # -- judging

    def untouched(self) -> Allowance:
        """The allowance for an answer to a call whose caller could not even be looked up."""
        return self._limiter.untouched()

    async def admit(self, scope: Scope, function: str) -> tuple[Admitted | Failure, Allowance]:
        """Who calls, or why the call is refused. The caller sends that refusal only after the limiter and other checks
        that come first."""
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
        """For our own API: the caller of a request with a token that has this permission. Raises Failure, whose headers
        hold the allowance.

        `permission` empty: a valid token is enough.
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
        """Count a call to a function for those who have no keys yet."""
        return self._strangers.take(network(caller_address(scope)), "")

    def refused(self, address: str) -> Allowance:
        """Count a refused call to such a function: whether this address may go on so."""
        return self._refusals.take(network(address), "")

    def count_refused(self, stranger: str) -> Allowance:
        """Count it in both windows: the recorded one, beyond which nothing is looked up, and the longer one that makes
        an address with many refusals wait. The second never delays a good signature or token."""
        allowance = self._strangers.take(stranger, "")
        slowed = self._refusals.take(stranger, "")
        return slowed if allowance.allowed and not slowed.allowed else allowance

    async def application(self, app_id: bytes, stranger: str) -> access.AppKeys:
        """Raises Failure, as recorded, when there is no such application, or when this address has used up its
        share."""
        if self._spent(stranger) and not self._applications.met(app_id):
            raise auth.invalid_app_id(app_id)  # not looked up: the limiter will refuse it anyway
        app = await self._applications.find(app_id)
        if app is None:
            raise auth.invalid_app_id(app_id)
        return app

    def forget_binding(self, app_id: str, access_key: str) -> None:
        """Look it up again next time: it was refreshed just now."""
        self._bindings.forget((app_id, access_key))

    def _spent(self, stranger: str) -> bool:
        return self._strangers.spent(stranger, "")

    async def _known(self, scope: Scope, stranger: str) -> Admitted:
        """Who has signed this request, just now, or whose token it carries. Raises Failure."""
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

    async def _binding(self, app: access.AppKeys, access_key: bytes, stranger: str) -> access.Binding | None:
        """None: the application's own key, or nobody's."""
        text = access_key.decode("ascii", "replace")
        if text == app.access_key or not text.isascii() or not 0 < len(text) <= MAX_ACCESS_KEY:
            return None
        key = (app.app_id, text)
        if self._spent(stranger) and not self._bindings.met(key):
            return None
        return await self._bindings.find(key)

    async def _token_of(self, scope: Scope, stranger: str) -> Caller:
        token_hash = access.hash_token(bearer.read_token(auth.authorization(scope["headers"])))
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
        """Write down that a call which was to change something was refused for its content. `detail`: nothing of what
        was sent."""
        self._trail.note(
            "call",
            outcome=logs.REFUSED,
            actor=caller.actor,
            what=function,
            address=caller_address(scope),
            detail=detail,
        )

    def _note(self, function: str, address: str, failure: Failure, caller: Caller | None = None) -> None:
        """`function` is empty when the address names none: it may hold a secret in the wrong place."""
        self._trail.note(
            "call", outcome=logs.REFUSED, actor=caller.actor if caller else "", what=function, address=address,
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
