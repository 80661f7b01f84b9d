"""Acting on messages: a page that asks for confirmation and a reason, and the form behind it.

Promises: a GET changes nothing; the permission is checked when the form is sent; the action reaches exactly the
messages that the page named; each action writes an event and an audit line with who and why, in the same transaction;
rejections are plans, so they can be undone. Fails: 400 with what was expected, 403 without the permission, 409 for more
messages than the role may reject at once, visits.Refused for forms that are not ours.
"""

from __future__ import annotations

from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.requests import Request
from starlette.responses import Response

from postroom.errors import PeerError
from postroom.http.console import answers, choices, rejecting, visits, wording
from postroom.http.console.choices import Banner, Wanted
from postroom.http.console.desk import Desk
from postroom.http.console.pages import PERMISSIONS, to_login
from postroom.http.console.rows import sender
from postroom.http.console.wording import QUEUE_NAMES
from postroom.ids import public_id
from postroom.model import Action, Entry, Filter, Queue
from postroom.store import Reader, permissions

SHOWN = 8  # messages that the page lists


async def asking(desk: Desk, request: Request, seen: visits.Visit) -> Response:
    """The page that asks for confirmation."""
    if seen.session is None:
        return to_login(request)
    given = request.query_params
    try:
        wanted = Wanted(choices.read_action(given.get("action", "")), choices.read_ids(given.getlist("id")))
    except PeerError as wrong:
        return visits.problem(seen, desk, 400, "Nothing to do", f"{wrong}.")
    if not _permitted(seen, wanted.action):
        return _forbidden(desk, seen, wanted.action)
    return await _page(desk, seen, wanted, back=visits.local_address(given.get("next", "")))


async def acting(desk: Desk, request: Request, seen: visits.Visit) -> Response:
    fields = await visits.form(desk, request, seen)
    if seen.session is None:
        return to_login(request)
    back = visits.local_address(fields.get("next", ""))
    try:
        action = choices.read_action(fields.get("action", ""))
        wanted = Wanted(action, choices.read_ids(fields.get("ids", "").split()), notify=fields.get("notify") == "yes")
    except PeerError as wrong:
        return visits.problem(seen, desk, 400, "Nothing to do", f"{wrong}.")
    if not _permitted(seen, action):
        return _forbidden(desk, seen, action)
    typed = fields.get("reason", "")
    try:
        reason = choices.read_reason(action, typed)
    except PeerError as wrong:
        return await _page(desk, seen, wanted, back=back, wrong=f"{wrong}.", typed=typed)
    try:
        told = await (_rejected if action is Action.REJECT else _acted)(desk, seen, wanted, reason)
    except PeerError as refused:
        return visits.problem(seen, desk, 409, "Not done", f"{refused}.")
    return answers.see_other(_with_told(back, desk.tell(seen.session.email, told)))


async def _acted(desk: Desk, seen: visits.Visit, wanted: Wanted, reason: str) -> Banner:
    assert seen.session is not None
    report = await desk.services.store.act(
        wanted.action, wanted.ids, actor=f"user:{seen.session.email}", reason=reason,
        held=permissions.confined(seen.allows, wanted.action),
    )  # fmt: skip
    desk.services.log.info(
        "console_acted", user=seen.session.email, ip=seen.ip, action=wanted.action.value, done=len(report.done),
        requested=len(report.requested), refused=len(report.refused),
    )  # fmt: skip
    return choices.banner(wanted.action, report)


async def _rejected(desk: Desk, seen: visits.Visit, wanted: Wanted, reason: str) -> Banner:
    assert seen.session is not None
    plan, skipped = await rejecting.reject(desk, seen, wanted, reason)
    desk.services.log.info(
        "console_acted", user=seen.session.email, ip=seen.ip, action=wanted.action.value, done=plan.done,
        refused=len(wanted.ids) - plan.done, plan=public_id(plan.id),
    )  # fmt: skip
    return choices.rejection(plan, skipped, len(wanted.ids), desk.services.clock.now())


def _permitted(seen: visits.Visit, action: Action) -> bool:
    """Whether the role may act in some queue; the store refuses entries in the others."""
    return any(choices.permitted(seen.allows, action, held=held) for held in (True, False))


def _forbidden(desk: Desk, seen: visits.Visit, action: Action) -> Response:
    takes = f"“{permissions.needed(action, held=False)}”"
    if action is Action.REJECT:
        takes += f", or for held mail “{permissions.needed(action, held=True)}”"
    return visits.problem(seen, desk, 403, "Not allowed", f"{choices.NAMES[action]} needs the permission {takes}.")


def _with_told(back: str, key: str) -> str:
    """The page to return to, with the key of the notice to show there."""
    parts = urlsplit(back)
    kept = [(name, value) for name, value in parse_qsl(parts.query, keep_blank_values=True) if name != "told"]
    return f"{parts.path}?{urlencode([*kept, ('told', key)])}"


async def _page(
    desk: Desk, seen: visits.Visit, wanted: Wanted, *, back: str, wrong: str = "", typed: str = ""
) -> Response:  # fmt: skip
    window = desk.services.settings.plans.undo_window
    found = await desk.read(lambda reader: _found(reader, seen, wanted.ids))
    if not found:
        text = "None of the selected messages is in the queue any more, or your role may not see them."
        return visits.problem(seen, desk, 404, "Nothing to do", text)
    action = wanted.action
    values = {
        **visits.frame(seen, desk),
        "action": action.value,
        "name": choices.NAMES[action],
        "icon_name": choices.ICONS[action],
        "meaning": choices.meaning(action, window),
        "window": wording.span_text(window),
        "asked": choices.ASKED[action].format(choices.messages(len(found))),
        "gone": len(wanted.ids) - len(found),
        "ids": " ".join(map(public_id, [entry.id for entry in found])),
        "shown": [_shown(entry) for entry in found[:SHOWN]],
        "more": max(len(found) - SHOWN, 0),
        "rejects": action is Action.REJECT,
        "nobody": sum(not entry.env_from for entry in found),
        "notify": wanted.notify,
        "typed": typed,
        "wrong": wrong,
        "longest": choices.MAX_REASON,
        "back": back,
    }
    return answers.page("act.html", values, 400 if wrong else 200)


def _found(reader: Reader, seen: visits.Visit, ids: tuple[int, ...]) -> list[Entry]:
    """Entries still waiting in queues that the role may see, in the order given; without those that a plan is
    ending."""
    entries = {entry.id: entry for entry in reader.find(Filter(ids=ids), limit=len(ids))}
    found = [entries[ident] for ident in ids if ident in entries]
    return [entry for entry in found if seen.allows(PERMISSIONS[entry.queue])]


def _shown(entry: Entry) -> dict[str, str]:
    queue: Queue = entry.queue
    return {
        "sender": sender(entry)[:200],
        "recipient": entry.recipient[:200],
        "subject": entry.subject[:200],
        "queue": QUEUE_NAMES[queue],
    }
