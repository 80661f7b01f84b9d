"""Plans: act on all messages that match. Preview a plan, apply it, watch its progress, undo it.

Promises: the same permissions as `/v1/plans`, checked at each step; a person who rejected held mail (rejecting.py) may
undo that with the permission for held mail alone. A GET changes nothing; applying needs a reason; work that was started
continues when the page is left. Fails: 400 for a query that cannot be read, 403 without the permission, 404 for an
unknown plan, 409 for a damaged one, 422 for a search that is too broad; the plan's page shows why it was refused.
"""

from __future__ import annotations

import secrets
from collections.abc import Coroutine, Mapping
from typing import Any
from urllib.parse import urlencode

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from postroom.errors import PeerError
from postroom.http.admin import plans as admin_plans
from postroom.http.console import answers, plan_words, visits
from postroom.http.console.desk import Desk
from postroom.http.console.jobs import Job, banner
from postroom.http.console.language import Trouble, too_broad, unreadable
from postroom.http.console.listing import PREFIX
from postroom.http.console.pages import PERMISSIONS, to_login
from postroom.http.door.auth import Caller
from postroom.ids import parse_public_id, public_id
from postroom.model import Action, Filter, Queue
from postroom.query import MAX_QUERY, QueryProblem, both, parse
from postroom.store import Reader, SearchTooBroad, permissions, plans

PAGE = 30  # plans
SETTLED = ("applied", "undone", "final")


def _turned_away(desk: Desk, request: Request, seen: visits.Visit, permission: str) -> Response | None:
    """The answer without a session or the permission; None: go on."""
    if seen.session is None:
        return to_login(request)
    if not seen.allows(permission):
        return visits.problem(seen, desk, 403, "Not allowed", f"Plans need the permission “{permission}”.")
    return None


def _caller(seen: visits.Visit) -> Caller:
    """The person, as the caller that `/v1/plans` expects."""
    assert seen.session is not None
    return Caller("", "console", seen.session.role, seen.session.email)


async def _told_if_refused(
    desk: Desk, request: Request, seen: visits.Visit, path: str, work: Coroutine[Any, Any, admin_plans.PlanShown]
) -> admin_plans.PlanShown:
    """Writes refusals to the audit log here, because a plan may be refused after the form was answered."""
    try:
        return await work
    except admin_plans.PlanProblem as problem:
        request.state.noted = True
        visits.note_refused(desk, seen, f"{PREFIX}{path}", f"{problem.status} {problem.code}")
        raise


def is_noted(request: Request) -> bool:
    return bool(getattr(request.state, "noted", False))


# -- making


class _Asked(msgspec.Struct, frozen=True):
    """The fields of the form for a new plan."""

    line: str
    action: str
    back: str


async def new_page(desk: Desk, request: Request, seen: visits.Visit) -> Response:
    """The number of matches and the actions to choose from. No plan is made yet."""
    if away := _turned_away(desk, request, seen, permissions.PLANS):
        return away
    return await _new_page(desk, seen, _asked(request.query_params))


def _asked(given: Mapping[str, str]) -> _Asked:
    back = visits.local_address(given.get("next") or f"{PREFIX}/plans")
    return _Asked(given.get("line", "").strip(), given.get("action", ""), back)


async def _new_page(
    desk: Desk, seen: visits.Visit, asked: _Asked, *, trouble: Trouble | None = None, wrong: str = "", status: int = 200
) -> Response:
    line = asked.line
    wanted: Filter | None = None
    total: int | None = None
    now = desk.services.clock.now()
    if line and trouble is None:
        try:
            wanted = parse(line, now)
            total = await _count(desk, seen, wanted)
        except QueryProblem as problem:
            trouble = unreadable(line, problem)
        except SearchTooBroad as broad:
            trouble = too_broad(str(broad))
    settings = desk.services.settings.plans
    values = {
        **visits.frame(seen, desk),
        "place": "plans",
        "here": plan_words.new_address(line),
        "line": line,
        "back": asked.back,
        "longest": MAX_QUERY,
        "total": total,
        "trouble": trouble,
        "wrong": wrong,
        "choices": [] if wanted is None or trouble else plan_words.choices(wanted, asked.action, settings),
        "barred": permissions.PLANS_OF_HELD
        if wanted and not seen.allows(permissions.PLANS_OF_HELD) and _meant(wanted, Queue.HELD)
        else "",
    }
    return answers.page("plan_new.html", values, status)


def _meant(wanted: Filter, queue: Queue) -> bool:
    return not wanted.queues or queue in wanted.queues


async def _count(desk: Desk, seen: visits.Visit, wanted: Filter) -> int:
    """The number of matches in the queues that the role may see."""
    allowed = tuple(queue for queue in Queue if seen.allows(PERMISSIONS[queue]) and _meant(wanted, queue))
    if not allowed:
        return 0
    seen_of = both(wanted, Filter(queues=allowed))
    return await desk.read(lambda reader: reader.count(seen_of, now=desk.services.clock.now()))


async def make(desk: Desk, request: Request, seen: visits.Visit) -> Response:
    fields = await visits.form(desk, request, seen)
    if away := _turned_away(desk, request, seen, permissions.PLANS):
        return away
    assert seen.session is not None
    asked = _asked(fields)
    if not asked.line:
        return await _new_page(desk, seen, asked, wrong="Enter a search first.", status=400)
    try:
        action = plan_words.read_action(asked.action)
    except PeerError as problem:
        return await _new_page(desk, seen, asked, wrong=f"{problem}.", status=400)
    wanted = admin_plans.PlanWanted(action, asked.line, fields.get("notify") == "yes" and action is Action.REJECT)
    key = secrets.token_hex(8)
    work = admin_plans.make(desk.services, _caller(seen), wanted)
    job = await desk.jobs.begin(key, seen.session.email, _told_if_refused(desk, request, seen, "/plans", work))
    if not job.done:
        given = urlencode({"line": asked.line, "action": asked.action, "next": asked.back})
        return answers.see_other(f"{PREFIX}/plans/making/{key}?{given}")
    return await _made(desk, seen, job, asked)


async def making_page(desk: Desk, request: Request, seen: visits.Visit) -> Response:
    """Shown while the matching messages are collected; then it leads to the plan."""
    if away := _turned_away(desk, request, seen, permissions.PLANS):
        return away
    assert seen.session is not None
    job = desk.jobs.find(request.path_params["key"], seen.session.email)
    if job is None:
        text = "This page has expired. If the plan was made, you find it under Plans."
        return visits.problem(seen, desk, 404, "Nothing here", text)
    if job.done:
        if job.problem is not None and visits.is_fragment(request):
            return answers.page("fragment.html", {}, 401)  # the script reloads the page, which shows the problem
        return await _made(desk, seen, job, _asked(request.query_params))
    values = {**visits.frame(seen, desk), "place": "plans", "here": f"{PREFIX}/plans", "layout": _layout(request)}
    return answers.page("plan_making.html", values)


async def _made(desk: Desk, seen: visits.Visit, job: Job, asked: _Asked) -> Response:
    problem = job.problem
    if problem is None:
        return answers.see_other(f"{PREFIX}/plans/{job.task.result().id}")
    if isinstance(problem, admin_plans.PlanProblem) and problem.query is not None:
        return await _new_page(desk, seen, asked, trouble=unreadable(asked.line, problem.query), status=400)
    told = banner(problem)
    status = problem.status if isinstance(problem, admin_plans.PlanProblem) else 503
    return await _new_page(desk, seen, asked, trouble=Trouble(told.title, told.text), status=status)


# -- looking


async def plans_page(desk: Desk, request: Request, seen: visits.Visit) -> Response:
    if away := _turned_away(desk, request, seen, permissions.to_see(held=False)):
        return away
    before = request.query_params.get("before", "")
    try:
        behind = parse_public_id(before) if before else None
    except PeerError as wrong:
        return visits.problem(seen, desk, 400, "This address cannot be read", f"before: {wrong}.")
    found = await desk.read(plans.latest(PAGE + 1, behind))
    now, settings = desk.services.clock.now(), desk.services.settings.plans
    values = {
        **visits.frame(seen, desk),
        "place": "plans",
        "here": f"{PREFIX}/plans" + (f"?before={before}" if before else ""),
        "layout": _layout(request),
        "plans": [
            plan_words.shown(plan, settings, now, held=seen.allows(permissions.to_see(held=True)))
            for plan in found[:PAGE]
            if isinstance(plan, plans.Plan)
        ],
        "damaged": [_told(plan) for plan in found[:PAGE] if isinstance(plan, plans.Damaged)],
        "older": f"{PREFIX}/plans?before={public_id(found[PAGE - 1].id)}" if len(found) > PAGE else "",
        "newest": f"{PREFIX}/plans" if before else "",
        "may": seen.allows(permissions.PLANS),
    }
    return answers.page("plans.html", values)


async def plan_page(desk: Desk, request: Request, seen: visits.Visit) -> Response:
    if seen.session is None:
        return to_login(request)
    ident = _ident(request)
    found = None if ident is None else await desk.read(lambda reader: _look(reader, ident))
    own = _is_own(seen, found)
    if not own and (away := _turned_away(desk, request, seen, permissions.to_see(held=False))):
        return away
    if found is None:
        text = "It never existed, or it has left the history."
        return visits.problem(seen, desk, 404, "There is no such plan", text)
    if isinstance(found, plans.Damaged):
        return visits.problem(seen, desk, 409, "This plan cannot be read", _told(found))
    plan, reasons = found
    about = public_id(plan.id)
    job = desk.jobs.find(about, seen.session.email)
    problem = None if job is None else job.problem
    under_way = plan.state in plans.UNDER_WAY
    now = desk.services.clock.now()
    shown = plan_words.shown(
        plan, desk.services.settings.plans, now, reasons, held=seen.allows(permissions.to_see(held=True))
    )
    values = {
        **visits.frame(seen, desk),
        "place": "plans",
        "here": shown.address,
        "layout": _layout(request),
        "plan": shown,
        "told": None if problem is None else banner(problem),
        "may": own or seen.allows(permissions.PLANS),
        "begun": plan.state == "ready" and desk.jobs.running(about),
        "still": under_way and plan.state != "ending" and desk.jobs.stands_still(about, plan.reached),
        "longest": admin_plans.MAX_REASON,
    }
    return answers.page("plan.html", values)


def _told(plan: plans.Damaged) -> str:
    text = str(plan)
    return f"{text[:1].upper()}{text[1:]}."


_Looked = tuple[plans.Plan, list[plans.Share]] | plans.Damaged | None


def _is_own(seen: visits.Visit, found: _Looked) -> bool:
    """A rejection of held mail by this person. Rejecting needs only the permission for held mail, so undoing does
    too."""
    if not isinstance(found, tuple) or found[0].actor != _caller(seen).actor:
        return False
    plan = found[0]
    only_held = all(share.name == Queue.HELD.value for share in plan.summary.queues)
    return only_held and seen.allows(permissions.needed(plan.action, held=True))


def _look(reader: Reader, ident: int) -> _Looked:
    try:
        plan = reader.ask(plans.look(ident))
    except plans.NoSuchPlan:
        return None
    if isinstance(plan, plans.Damaged):
        return plan
    settled = plan.state in SETTLED and plan.skipped + plan.kept > 0
    return plan, reader.ask(plans.reasons(ident)) if settled else []


def _ident(request: Request) -> int | None:
    try:
        return parse_public_id(request.path_params["ident"])
    except PeerError:
        return None


def _layout(request: Request) -> str:
    return "fragment.html" if visits.is_fragment(request) else "frame.html"


# -- doing


async def apply(desk: Desk, request: Request, seen: visits.Visit) -> Response:
    """Apply a plan, or continue one that was interrupted."""
    return await _do(desk, request, seen, "apply")


async def undo(desk: Desk, request: Request, seen: visits.Visit) -> Response:
    return await _do(desk, request, seen, "undo")


async def discard(desk: Desk, request: Request, seen: visits.Visit) -> Response:
    return await _do(desk, request, seen, "discard")


async def _do(desk: Desk, request: Request, seen: visits.Visit, verb: str) -> Response:
    fields = await visits.form(desk, request, seen)
    if seen.session is None:
        return to_login(request)
    ident = _ident(request)
    if not seen.allows(permissions.PLANS):
        found = None if ident is None else await desk.read(lambda reader: _look(reader, ident))
        if not _is_own(seen, found) and (away := _turned_away(desk, request, seen, permissions.PLANS)):
            return away
    if ident is None:
        return visits.problem(seen, desk, 404, "There is no such plan", "This is not the id of a plan.")
    about, caller = public_id(ident), _caller(seen)
    desk.services.log.info("console_plan", user=seen.session.email, ip=seen.ip, plan=about, verb=verb)
    reason = fields.get("reason", "")
    if len(reason) > admin_plans.MAX_REASON:
        text = f"The reason has {len(reason)} characters: expected at most {admin_plans.MAX_REASON}."
        return visits.problem(seen, desk, 400, "Not applied", text)
    match verb:
        case "apply":
            work = admin_plans.apply(desk.services, caller, ident, reason)
        case "undo":
            work = admin_plans.undo(desk.services, caller, ident)
        case _:
            work = admin_plans.discard(desk.services, caller, ident)
    told = _told_if_refused(desk, request, seen, f"/plans/{{ident}}/{verb}", work)
    job = await desk.jobs.begin(about, seen.session.email, told)
    gone = verb == "discard" and job.done and job.problem is None
    return answers.see_other(f"{PREFIX}/plans" if gone else f"{PREFIX}/plans/{about}")
