"""Logging in and out, and the choice of theme.

Promises: an unknown user and a wrong password get the same answer after the same time; each login gets a new session
token; a logout ends the session in the store, not only in the browser; failed tries slow down further ones per address
and account. The log names user and address; of failed tries it has the first in a minute and the number of the others,
and never a password, even one typed into the wrong field. Fails: visits.Refused for forms that are not ours.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from postroom.http.console import answers, visits
from postroom.http.console.desk import Desk
from postroom.http.console.listing import PREFIX
from postroom.http.door.trail import told
from postroom.store import access, logs

WRONG = "The e-mail address or the password is wrong."
SAID = {  # what a page may say after a redirect: fixed texts, selected by a word in the address
    "logged-out": "You are logged out.",
    "session-over": "Your session has ended. Log in again to continue.",
}


async def login_page(desk: Desk, request: Request, seen: visits.Visit) -> Response:
    goes_to = visits.local_address(request.query_params.get("next", ""))
    if seen.session is not None:
        return answers.see_other(goes_to)
    return _page(desk, seen, goes_to=goes_to, said=SAID.get(request.query_params.get("said", ""), ""))


async def login(desk: Desk, request: Request, seen: visits.Visit) -> Response:
    fields = await visits.form(desk, request, seen)
    goes_to = visits.local_address(fields.get("next", ""))
    email = access.fold_email(fields.get("email", ""))
    log, clock, folded = desk.services.log, desk.services.clock, desk.guard.folded
    if len(email) > access.MAX_EMAIL:  # refused as a whole: a shortened one could be an account
        folded.warning("console_login_refused", user=told(email), ip=seen.ip)
        _note(desk, seen, "not an address")
        return _page(desk, seen, goes_to=goes_to, wrong=WRONG, status=403)
    wait = desk.guard.logins.wait(seen.ip, email)
    if wait:
        folded.warning("console_login_slowed", user=told(email), ip=seen.ip, wait=wait)
        _note(desk, seen, f"too many tries for {told(email)}")
        text = f"Too many tries. Wait {wait} seconds, then try again."
        return _page(
            desk, seen, goes_to=goes_to, wrong=text, typed=email, status=429, headers={"retry-after": str(wait)}
        )
    user = await desk.read(access.find_user(email))
    if not await desk.guard.password_is(user, fields.get("password", "")) or user is None:
        folded.warning("console_login_refused", user=told(email) if user is None else user.email, ip=seen.ip)
        _note(desk, seen, f"wrong password for {told(email)}")
        return _page(desk, seen, goes_to=goes_to, wrong=WRONG, typed=email, status=403)
    desk.guard.logins.succeeded(seen.ip, email)
    lifetime, now = desk.services.settings.console.session_lifetime, clock.now()
    try:
        token = await desk.services.store.write(access.begin_session(user, lifetime=lifetime, now=now))
    except access.PersonChanged:
        log.warning("console_login_refused", user=user.email, ip=seen.ip)
        _note(desk, seen, f"changed meanwhile: {told(user.email)}")
        return _page(desk, seen, goes_to=goes_to, wrong=WRONG, typed=email, status=403)
    if seen.session is not None:
        await _drop(desk, seen.secret)
    log.info("console_login", user=user.email, ip=seen.ip)
    _note(desk, seen, "", user.email)
    answer = answers.see_other(goes_to)
    visits.set_session(answer, seen, token, lifetime)
    return answer


def _note(desk: Desk, seen: visits.Visit, refused: str, email: str = "", kind: str = "login") -> None:
    """Write an audit line. `email` only when the person has proved who they are."""
    desk.guard.trail.note(
        kind, outcome=logs.REFUSED if refused else logs.DONE, actor=f"user:{email}" if email else "", what="console",
        address=seen.ip, detail=refused, logged=True,
    )  # fmt: skip


async def logout(desk: Desk, request: Request, seen: visits.Visit) -> Response:
    await visits.form(desk, request, seen)
    if seen.session is not None:
        await _drop(desk, seen.secret)
        desk.services.log.info("console_logout", user=seen.session.email, ip=seen.ip)
        _note(desk, seen, "", seen.session.email, "logout")
    answer = answers.see_other(f"{PREFIX}/login?said=logged-out")
    visits.clear_session(answer, seen)
    return answer


async def theme(desk: Desk, request: Request, seen: visits.Visit) -> Response:
    fields = await visits.form(desk, request, seen)
    answer = answers.see_other(visits.local_address(fields.get("next", "")))
    chosen = fields.get("theme", "")
    if chosen in visits.THEMES:
        visits.set_theme(answer, seen, chosen)
    return answer


async def _drop(desk: Desk, token: str) -> None:
    await desk.services.store.write(access.drop_session(token))


def _page(
    desk: Desk, seen: visits.Visit, *, goes_to: str, said: str = "", wrong: str = "", typed: str = "",
    status: int = 200, headers: dict[str, str] | None = None,
) -> Response:  # fmt: skip
    values = {**visits.frame(seen, desk), "goes_to": goes_to, "said": said, "wrong": wrong, "typed": typed}
    return visits.with_form_cookie(answers.page("login.html", values, status, headers), seen)
