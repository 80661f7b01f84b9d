"""One visit of a browser: session and form cookies, form tokens, the page after a login.

Promises: a cookie holds a random token and nothing else; scripts cannot read it and other sites cannot send it; a form
without this browser's token is refused; `local_address` returns console pages only, so that no link can redirect
elsewhere. Fails: Refused carries the answer.
"""

from __future__ import annotations

import re
import secrets
from urllib.parse import parse_qsl

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from postroom.clock import SECOND, Millis
from postroom.http.console import answers
from postroom.http.console.desk import Desk
from postroom.http.console.listing import PREFIX
from postroom.store import access, logs

SESSION_COOKIE = "postroom_session"
FORM_COOKIE = "postroom_form"
HOST_ONLY = "__Host-"  # browsers let no other host of the domain set a cookie so named (RFC 6265bis 4.1.3.2)
THEME_COOKIE = "postroom_theme"
THEMES = ("auto", "light", "dark")
THEME_KEPT = 400 * 24 * 3600  # seconds; browsers keep no cookie longer
MAX_FORM = 16 * 1024  # bytes
MAX_FIELDS = 20
MAX_COOKIE = 200  # characters; ours are shorter
FRAGMENT = "x-fragment"  # set by our own script: other sites cannot send it

_LOCAL = re.compile(
    rf"{PREFIX}/(?:entries/[0-9a-f]{{1,16}}|ledger|plans(?:/(?:new|[0-9a-f]{{1,16}}))?)?(?:\?[A-Za-z0-9=&%+._~@:*-]{{0,10000}})?"
)


class Refused(Exception):
    """The request is refused with this answer."""

    def __init__(self, answer: Response) -> None:
        super().__init__(answer.status_code)
        self.answer = answer


class Visit(msgspec.Struct, frozen=True):
    """One request, with or without a session."""

    secret: str  # of the cookie that forms are bound to
    fresh: bool  # the secret is new and must be set
    secure: bool  # came over https
    ip: str
    theme: str
    session: access.Session | None

    def allows(self, permission: str) -> bool:
        return self.session is not None and self.session.role.allows(permission)


async def visit(desk: Desk, request: Request) -> Visit:
    """Read the cookies. Looks the session up in the store on every request, so that a dropped session ends at once."""
    theme = request.cookies.get(THEME_COOKIE, "")
    theme = theme if theme in THEMES else "auto"
    # A proxy that ends TLS says so in this header. Anyone can send it, but it only makes the sender's cookie stricter.
    secure = "https" in (request.url.scheme, request.headers.get("x-forwarded-proto", ""))
    ip = request.client.host if request.client else ""
    token = _cookie(request, _named(SESSION_COOKIE, secure))
    if token:
        now = desk.services.clock.now()
        # Not in the console's reader slot: this takes microseconds, and must not wait for a long search there.
        session = await desk.services.store.read(access.find_session(token, now=now))
        if session is not None:
            return Visit(token, False, secure, ip, theme, session)
    secret = _cookie(request, _named(FORM_COOKIE, secure))
    return Visit(secret or secrets.token_urlsafe(32), not secret, secure, ip, theme, None)


def _cookie(request: Request, name: str) -> str:
    value = request.cookies.get(name, "")
    return value if len(value) <= MAX_COOKIE else ""


async def form(desk: Desk, request: Request, seen: Visit) -> dict[str, str]:
    """The fields of a form that came from our own page."""
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise Refused(problem(seen, desk, 403, "Refused", "This form was sent by another site."))
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise Refused(problem(seen, desk, 415, "Not a form", "Expected application/x-www-form-urlencoded."))
    data = b""
    async for chunk in request.stream():
        data += chunk
        if len(data) > MAX_FORM:
            raise Refused(problem(seen, desk, 413, "Too large", f"Expected a form of at most {MAX_FORM} bytes."))
    try:
        fields = dict(parse_qsl(data.decode("ascii"), keep_blank_values=True, max_num_fields=MAX_FIELDS))
    except ValueError:
        raise Refused(problem(seen, desk, 400, "Not a form", "The form could not be read.")) from None
    if not desk.form_is_ours("" if seen.fresh else seen.secret, fields.get("token", "")):
        text = "The page was too old, or your browser blocks cookies. Go back, reload the page and try again."
        raise Refused(problem(seen, desk, 403, "Form not accepted", text))
    return fields


def note_refused(desk: Desk, seen: Visit, what: str, detail: str) -> None:
    """Write an audit line. `what`: the route, without ids; `detail`: nothing that was sent."""
    actor = f"user:{seen.session.email}" if seen.session else ""
    desk.guard.trail.note("call", outcome=logs.REFUSED, actor=actor, what=what, address=seen.ip, detail=detail)


def problem(seen: Visit, desk: Desk, status: int, title: str, text: str) -> Response:
    """A page that shows an error."""
    answer = answers.page("problem.html", {**frame(seen, desk), "title": title, "text": text}, status)
    return with_form_cookie(answer, seen)


def frame(seen: Visit, desk: Desk) -> dict[str, object]:
    """The values that every page's frame needs."""
    return {
        "theme": seen.theme,
        "themes": THEMES,
        "token": desk.form_token(seen.secret),
        "email": seen.session.email if seen.session else "",
        "role": seen.session.role.name if seen.session else "",
        "hostname": desk.services.settings.gateway.hostname,
        "now": desk.services.clock.now(),
        "here": "",
        "place": "queues",
        "ledger_difference": desk.services.store.ledger_difference,
    }


def with_form_cookie(answer: Response, seen: Visit) -> Response:
    if seen.fresh:
        _set_bound(answer, seen, FORM_COOKIE, seen.secret)
    return answer


def _named(cookie: str, secure: bool) -> str:
    return HOST_ONLY + cookie if secure else cookie


def set_session(answer: Response, seen: Visit, token: str, lifetime: Millis) -> None:
    _set_bound(answer, seen, SESSION_COOKIE, token, lifetime // SECOND)


def clear_session(answer: Response, seen: Visit) -> None:
    _set_bound(answer, seen, SESSION_COOKIE, "", 0)


def set_theme(answer: Response, seen: Visit, theme: str) -> None:
    _set(answer, seen, THEME_COOKIE, theme, THEME_KEPT)


def _set_bound(answer: Response, seen: Visit, name: str, value: str, max_age: int | None = None) -> None:
    """Bound to this host when secure: the __Host- prefix demands the path `/` and https."""
    _set(answer, seen, _named(name, seen.secure), value, max_age, path="/" if seen.secure else PREFIX)


def _set(answer: Response, seen: Visit, name: str, value: str, max_age: int | None = None, path: str = PREFIX) -> None:
    answer.set_cookie(name, value, max_age, path=path, httponly=True, samesite="strict", secure=seen.secure)


def local_address(text: str) -> str:
    """The address if it is a page of the console, else the console's first page."""
    return text if _LOCAL.fullmatch(text) else f"{PREFIX}/"


def is_fragment(request: Request) -> bool:
    return request.headers.get(FRAGMENT) == "1"
