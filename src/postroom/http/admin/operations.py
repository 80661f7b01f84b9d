"""The table of `/v1`: its operations, their parameters, and who may call them. The published schema is made from it.

Fails: Refused names the parameter and what was expected; StoreUnavailable when the store cannot be read.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec

from postroom import query
from postroom.clock import Millis
from postroom.http.admin import plans
from postroom.http.admin.asked import (
    Asked,
    Operation,
    Parameter,
    Refused,
    read_ident,
    read_number,
    read_one,
    read_several,
    read_time,
    read_word,
    unexpected,
)
from postroom.http.admin.audit import OUTCOMES, WORDS, AuditLines, audit_lines
from postroom.http.admin.shapes import (
    Acted,
    Entries,
    LedgerShown,
    OneEntry,
    QueueCount,
    Queues,
    Reason,
    ended_shown,
    entry_shown,
    event_shown,
    message_shown,
    state,
)
from postroom.ids import public_id
from postroom.model import Action, Field, Filter, Order, Queue, Route, Scope
from postroom.store import MAX_TEXT, Reader, SearchTooBroad, keep, permissions
from postroom.telemetry import stamp

MAX_LIMIT = 1000  # entries of one answer
LIMIT = 100

T = TypeVar("T")


def _words(kind: type[Queue] | type[Route] | type[Field] | type[Order]) -> list[str]:
    return [one.value for one in kind]


_MAX_NUMBER = 999_999_999
_FILTER = (
    Parameter("q", "query", "A line of the search language: from:alice age>10m -has:attachment report.",
              {"type": "string", "maxLength": query.MAX_QUERY}),
    Parameter("queue", "query", "Only in these queues, separated by commas.",
              {"type": "array", "items": {"type": "string", "enum": _words(Queue)}}),
    Parameter("route", "query", "Only on these routes.",
              {"type": "array", "items": {"type": "string", "enum": _words(Route)}}),
    Parameter("attachment", "query", "Only with, or only without an attachment.", {"type": "boolean"}),
    Parameter("since", "query", "Accepted at or after this time.", {"type": "string", "format": "date-time"}),
    Parameter("until", "query", "Accepted at or before this time.", {"type": "string", "format": "date-time"}),
    Parameter("text", "query", "A substring, in any case.", {"type": "string", "maxLength": MAX_TEXT}),
    Parameter("field", "query", "The field to search for the text.",
              {"type": "string", "enum": _words(Field), "default": "all"}),
    Parameter("order", "query", "Which entries come first.",
              {"type": "string", "enum": _words(Order), "default": "newest"}),
    Parameter("limit", "query", "How many at most.",
              {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": LIMIT}),
    Parameter("after", "query", "Only those behind this one: `next` of the answer before.",
              {"type": "string", "pattern": "^[0-9a-f]{1,16}$"}),
    Parameter("total", "query", "Also return the number of matches.", {"type": "boolean", "default": False}),
)  # fmt: skip
_AUDIT = (
    Parameter("since", "query", "At or after this time.", {"type": "string", "format": "date-time"}),
    Parameter("until", "query", "At or before this time.", {"type": "string", "format": "date-time"}),
    Parameter("actor", "query", "Part of the actor's name.", {"type": "string", "maxLength": MAX_TEXT}),
    Parameter("kind", "query", "Only this kind, or this group of kinds.", {"type": "string", "enum": list(WORDS)}),
    Parameter("outcome", "query", "Only with this outcome.", {"type": "string", "enum": list(OUTCOMES)}),
    Parameter("limit", "query", "How many at most.",
              {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": LIMIT}),
    Parameter("before", "query", "Only older ones: `next` of the answer before.",
              {"type": "integer", "minimum": 1, "maximum": _MAX_NUMBER}),
)  # fmt: skip
_PLANS = (
    Parameter("limit", "query", "How many at most.",
              {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": LIMIT}),
    Parameter("before", "query", "Only older ones: `next` of the answer before.",
              {"type": "string", "pattern": "^[0-9a-f]{1,16}$"}),
)  # fmt: skip
_PLAN_ENTRIES = (
    Parameter("state", "query", "Only in these states, separated by commas.",
              {"type": "array", "items": {"type": "string", "enum": list(plans.ENTRY_STATES)}}),
    Parameter("limit", "query", "How many at most.",
              {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": LIMIT}),
    Parameter("after", "query", "Only those behind this one: `next` of the answer before.",
              {"type": "string", "pattern": "^[0-9a-f]{1,16}$"}),
)  # fmt: skip
_ID = (Parameter("id", "path", "The id, as in the queue, the log and the SMTP replies.",
                 {"type": "string", "pattern": "^[0-9a-f]{1,16}$"}),)  # fmt: skip


_TRUTHS = {"true": True, "false": False}


def read_filter(asked: Asked) -> Filter:
    text = read_one(asked, "text")
    if len(text) > MAX_TEXT:
        raise unexpected("text", f"at most {MAX_TEXT} characters", text)
    attachment: bool | None = read_word(asked, "attachment", _TRUTHS, None) if read_one(asked, "attachment") else None
    return Filter(
        queues=read_several(asked, "queue", Queue, _words(Queue)),
        routes=read_several(asked, "route", Route, _words(Route)),
        attachment=attachment,
        since=read_time(asked, "since"),
        until=read_time(asked, "until", last=True),
        text=text,
        field=read_word(asked, "field", {one.value: one for one in Field}, Field.ALL),
    )


# -- the operations


async def list_entries(asked: Asked) -> Entries:
    now = asked.services.clock.now()
    wanted = _visible(asked, _searched(asked, now))
    limit = read_number(asked, "limit", LIMIT, 1, MAX_LIMIT)
    order = read_word(asked, "order", {one.value: one for one in Order}, Order.NEWEST)
    counted = read_word(asked, "total", _TRUTHS, False)
    behind = read_one(asked, "after")
    after = read_ident(behind, "after") if behind else None

    def read(reader: Reader) -> Entries:
        with reader.snapshot():  # one snapshot
            found = reader.find(wanted, limit=limit + 1, order=order, after=after, now=now)
            total = reader.count(wanted, now=now) if counted else None
        shown = [entry_shown(entry, now) for entry in found[:limit]]
        return Entries(shown, shown[-1].id if len(found) > limit else None, total)

    try:
        return await asked.services.store.read(read)
    except SearchTooBroad as broad:
        raise Refused(422, "search_too_broad", str(broad), "q") from broad


def _searched(asked: Asked, now: Millis) -> Filter:
    """One filter from the line `q` and the other parameters; entries must match all of them."""
    try:
        return query.both(query.parse(read_one(asked, "q"), now), read_filter(asked))
    except query.QueryProblem as problem:
        refused = Refused(400, "bad_query", str(problem), "q")
        refused.query = problem
        raise refused from problem


def _sees_held(asked: Asked) -> bool:
    return asked.caller.lacking(permissions.to_see(held=True)) is None


def _visible(asked: Asked, wanted: Filter) -> Filter:
    """Leaves out held entries without the permission to see them; refuses when only held ones were asked for."""
    if _sees_held(asked):
        return wanted
    rest = tuple(queue for queue in wanted.queues or tuple(Queue) if queue is not Queue.HELD)
    if not rest:
        raise _unseen()
    return msgspec.structs.replace(wanted, queues=rest)


def _unseen() -> Refused:
    return Refused(403, "forbidden", f"held entries need the permission {permissions.to_see(held=True)!r}")


async def show_entry(asked: Asked) -> OneEntry:
    ident = read_ident(asked.path["id"], "id")
    now = asked.services.clock.now()

    def read(reader: Reader) -> OneEntry | None:
        with reader.snapshot():  # one snapshot
            shown = _everything(reader, ident, now)
        return shown

    shown = await asked.services.store.read(read)
    if shown is None:
        raise _nothing(ident)
    known = shown.entry or shown.ended
    if known is not None and known.queue is Queue.HELD and not _sees_held(asked):
        raise _unseen()
    return shown


def _everything(reader: Reader, ident: int, now: Millis) -> OneEntry | None:
    entry, ended = reader.entry(ident), reader.ended(ident)
    found = entry or ended
    if found is None:
        return None
    message = reader.readable_message(found.message_id)
    return OneEntry(
        "ended" if entry is None else state(entry, now, reader.pauses()),
        None if entry is None else entry_shown(entry, now),
        None if ended is None else ended_shown(ended),
        None if message is None else message_shown(message),
        [event_shown(event) for event in reader.events(ident)],
    )


async def count_queues(asked: Asked) -> Queues:
    now = asked.services.clock.now()

    def read(reader: Reader) -> Queues:
        with reader.snapshot():
            counts, working, pauses = reader.queue_counts(), reader.locked_counts(now), reader.pauses()
            queues = {
                queue: QueueCount(number, working[queue], _oldest(reader, queue)) for queue, number in counts.items()
            }
        paused = {scope: stamp(pauses[scope]) if scope in pauses else None for scope in Scope}
        return Queues(sum(counts.values()), queues, paused)

    return await asked.services.store.read(read)


def _oldest(reader: Reader, queue: Queue) -> str | None:
    first = reader.find(Filter(queues=(queue,)), limit=1, order=Order.OLDEST)
    return stamp(first[0].created) if first else None


async def show_ledger(asked: Asked) -> dict[str, object]:
    """In one snapshot; numbers are entries, not messages."""
    return keep.ledger_as_json(await asked.services.store.read(keep.read_ledger()))


async def list_audit(asked: Asked) -> AuditLines:
    actor = read_one(asked, "actor")
    if len(actor) > MAX_TEXT:
        raise unexpected("actor", f"at most {MAX_TEXT} characters", actor)
    return await audit_lines(
        asked.services,
        since=read_time(asked, "since"),
        until=read_time(asked, "until", last=True),
        actor=actor,
        kind=read_word(asked, "kind", {word: word for word in WORDS}, ""),
        outcome=read_word(asked, "outcome", {word: word for word in OUTCOMES}, ""),
        before=read_number(asked, "before", 0, 1, _MAX_NUMBER) or None,
        limit=read_number(asked, "limit", LIMIT, 1, MAX_LIMIT),
    )


def _acting(action: Action) -> Callable[[Asked], Awaitable[Acted]]:
    async def act(asked: Asked) -> Acted:
        ident = read_ident(asked.path["id"], "id")
        reason = asked.body.reason if isinstance(asked.body, Reason) else ""
        report = await asked.services.store.act(action, [ident], actor=asked.caller.actor, reason=reason)
        if report.refused:
            found = await asked.services.store.read(lambda reader: reader.entry(ident) is not None)
            raise Refused(409, "refused", f"{action.value}: {report.refused[0][1]}") if found else _nothing(ident)
        return Acted(public_id(ident), action.value, "done" if report.done else "requested")

    return act


def _planning(run: Callable[[Asked], Awaitable[T]]) -> Callable[[Asked], Awaitable[T]]:
    """PlanProblem as a refusal of this API."""

    async def planned(asked: Asked) -> T:
        try:
            return await run(asked)
        except plans.PlanProblem as problem:
            refused = Refused(problem.status, problem.code, str(problem), problem.field)
            refused.query = problem.query
            raise refused from problem

    return planned


def _plan(asked: Asked) -> int:
    return read_ident(asked.path["id"], "id")


def _wanted(asked: Asked, kind: type[T]) -> T:
    if not isinstance(asked.body, kind):
        raise Refused(400, "bad_body", f"body: expected an object with {', '.join(kind.__annotations__)}")
    return asked.body


async def list_plans(asked: Asked) -> plans.PlansShown:
    before = read_one(asked, "before")
    limit = read_number(asked, "limit", LIMIT, 1, MAX_LIMIT)
    return await plans.latest(asked.services, asked.caller, limit, read_ident(before, "before") if before else None)


async def list_plan_entries(asked: Asked) -> plans.PlanEntriesShown:
    after, states = read_one(asked, "after"), read_several(asked, "state", str, plans.ENTRY_STATES)
    behind = read_ident(after, "after") if after else 0
    return await plans.entries(
        asked.services, _plan(asked), states, behind, read_number(asked, "limit", LIMIT, 1, MAX_LIMIT)
    )


def _nothing(ident: int) -> Refused:
    return Refused(404, "not_found", f"{public_id(ident)} is neither in the queue nor in the history")


_ACTIONS = {
    Action.RETRY: "Retry an entry now.",
    Action.HOLD: "Hold an entry until a person releases it.",
    Action.RELEASE: "Release a held entry: it continues where it was.",
}


OPERATIONS: tuple[Operation, ...] = (
    Operation("GET", "/v1/queues", "countQueues", permissions.PROCESSING_READ,
              "Number and oldest entry of each queue, and which stages are paused.", count_queues, Queues),
    Operation("GET", "/v1/entries", "listEntries", permissions.to_see(held=False),
              f"Waiting entries by query and filter, in pages; held ones also need {permissions.to_see(held=True)}.",
              list_entries, Entries, parameters=_FILTER,
              refusals=(422,)),
    Operation("GET", "/v1/entries/{id}", "showEntry", permissions.to_see(held=False),
              "Everything about one entry, waiting or ended: envelope, message, timeline; "
              f"a held one also needs {permissions.to_see(held=True)}.",
              show_entry, OneEntry,
              parameters=_ID, refusals=(404,)),
    *[
        Operation("POST", f"/v1/entries/{{id}}/{action.value}", f"{action.value}Entry",
                  permissions.needed(action, held=False), text,  # what is held can only be released here
                  _acting(action), Acted, takes=Reason, parameters=_ID, refusals=(404, 409, 413))
        for action, text in _ACTIONS.items()
    ],
    Operation("GET", "/v1/plans", "listPlans", permissions.PROCESSING_READ,
              "All plans and their reports, newest first.", _planning(list_plans), plans.PlansShown,
              parameters=_PLANS),
    Operation("POST", "/v1/plans", "makePlan", permissions.PLANS,
              "Make a plan: fix the set of entries that match a query now. Nothing is done to them yet.",
              _planning(lambda asked: plans.make(asked.services, asked.caller, _wanted(asked, plans.PlanWanted))),
              plans.PlanShown, takes=plans.PlanWanted, refusals=(409, 413, 422)),
    Operation("GET", "/v1/plans/{id}", "showPlan", permissions.PROCESSING_READ, "One plan and its progress.",
              _planning(lambda asked: plans.show(asked.services, asked.caller, _plan(asked))), plans.PlanShown,
              parameters=_ID, refusals=(404, 409)),
    Operation("GET", "/v1/plans/{id}/entries", "listPlanEntries", permissions.PROCESSING_READ,
              "The result for each entry of a plan.", _planning(list_plan_entries), plans.PlanEntriesShown,
              parameters=(*_ID, *_PLAN_ENTRIES), refusals=(404, 409)),
    Operation("POST", "/v1/plans/{id}/apply", "applyPlan", permissions.PLANS,
              "Apply a plan to exactly its entries. A long plan is answered before its end, and continues.",
              _planning(lambda asked: plans.apply(asked.services, asked.caller, _plan(asked),
                                                  _wanted(asked, plans.PlanReason).reason)),
              plans.PlanShown, takes=plans.PlanReason, parameters=_ID, refusals=(404, 409, 413)),
    Operation("POST", "/v1/plans/{id}/undo", "undoPlan", permissions.PLANS,
              "Undo a plan: every entry returns to where it was, except those that have left or changed since.",
              _planning(lambda asked: plans.undo(asked.services, asked.caller, _plan(asked))), plans.PlanShown,
              parameters=_ID, refusals=(404, 409, 413)),
    Operation("GET", "/v1/ledger", "showLedger", permissions.PROCESSING_READ,
              "Entries created by origin, ended by outcome and queued, and the difference, which is always 0.",
              show_ledger, LedgerShown),
    Operation("GET", "/v1/audit", "listAudit", permissions.AUDIT_READ,
              "Logins, refusals and changes, newest first.", list_audit, AuditLines,
              parameters=_AUDIT),
)  # fmt: skip
