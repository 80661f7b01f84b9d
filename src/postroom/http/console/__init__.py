"""The web console: pages for people, mounted at `/console`.

Promises: pages need a session, changes need a form from our own page; every answer carries the security headers; every
refusal writes an audit line, as in `/v1`.
Fails: when the store or the disk does not answer, a page says so (503); a bug passes on to the server, which logs it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from postroom.errors import EnvironmentFailed
from postroom.http.console import acting, answers, ledger, login, pages, planning, visits
from postroom.http.console.desk import Desk
from postroom.http.console.listing import PREFIX
from postroom.http.door.guard import Guard
from postroom.http.services import Services
from postroom.store import FAILURE

_UNAVAILABLE: tuple[type[Exception], ...] = (EnvironmentFailed, *FAILURE)
_Endpoint = Callable[[Desk, Request, visits.Visit], Awaitable[Response]]


def routes(services: Services, guard: Guard) -> list[BaseRoute]:
    """The routes that `http.listener.server` mounts."""
    desk = Desk(services, guard)

    def at(path: str, endpoint: _Endpoint, method: str = "GET") -> Route:
        async def answer(request: Request) -> Response:
            return await _answered(desk, request, endpoint, f"{PREFIX}{path}")

        return Route(path, answer, methods=[method], name=f"console-{endpoint.__name__}")

    return [
        Route("/static/{version}/{name}", _static, methods=["GET"], name="console-static"),
        at("/", pages.queue_page),
        at("/entries/{ident}", pages.entry_page),
        at("/act", acting.asking),
        at("/act", acting.acting, "POST"),
        at("/ledger", ledger.ledger_page),
        at("/plans", planning.plans_page),
        at("/plans", planning.make, "POST"),
        at("/plans/new", planning.new_page),
        at("/plans/making/{key}", planning.making_page),
        at("/plans/{ident}", planning.plan_page),
        at("/plans/{ident}/apply", planning.apply, "POST"),
        at("/plans/{ident}/undo", planning.undo, "POST"),
        at("/plans/{ident}/discard", planning.discard, "POST"),
        at("/login", login.login_page),
        at("/login", login.login, "POST"),
        at("/logout", login.logout, "POST"),
        at("/theme", login.theme, "POST"),
        at("/{rest:path}", _nothing_here),
    ]


async def _answered(desk: Desk, request: Request, endpoint: _Endpoint, what: str) -> Response:
    nobody = visits.Visit("", False, False, "", "auto", None)
    try:
        seen = await visits.visit(desk, request)
        try:
            answer = await endpoint(desk, request, seen)
            noted = endpoint is login.login or planning.is_noted(request)  # these write their own audit line
        except visits.Refused as refused:
            answer, noted = refused.answer, False
        status = answer.status_code
        if not noted and (status == 403 or (request.method == "POST" and 400 <= status < 500)):
            visits.note_refused(desk, seen, what, f"{status} {HTTPStatus(status).name.lower()}")
        return answer
    except _UNAVAILABLE as failed:
        desk.guard.folded.error("console_unavailable", {"problem": str(failed)}, path=request.url.path[:200])
        text = "The gateway's store does not answer. Accepted mail is safe. Try again in a moment."
        return visits.problem(nobody, desk, 503, "Temporarily unavailable", text)


async def _nothing_here(desk: Desk, request: Request, seen: visits.Visit) -> Response:
    return visits.problem(seen, desk, 404, "Page not found", "This page does not exist.")


async def _static(request: Request) -> Response:
    found = answers.static_file(request.path_params["name"])
    return found or Response("no such file", 404, headers=answers.SECURITY_HEADERS, media_type="text/plain")
