"""`/v1/plans`: make, apply and undo plans; the same words and keys as `postroom queue plan`.

Promises: a plan is applied to its end even when the caller disconnects; an earlier answer shows its progress. Fails:
PlanProblem names the field, the problem and what was expected, with nothing done.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import msgspec

from postroom import query
from postroom.clock import Millis
from postroom.errors import PeerError
from postroom.http.admin.shapes import Ident, Time
from postroom.http.door.auth import Caller
from postroom.http.services import Services
from postroom.ids import public_id
from postroom.model import Action, Filter, Queue
from postroom.rules.lifecycle import notifies
from postroom.store import SearchTooBroad, permissions, plans
from postroom.telemetry import stamp

WAIT = 20.0  # seconds an answer waits for the end of a plan
MAX_REASON = 200
HELD_ACTION = "this plan has held entries: they need the permission {!r}"
HELD_UNDO = "this plan has held its entries: who has not applied it needs the permission {!r} to undo it"

ENTRY_STATES = plans.STATES  # what became of one entry of a plan

_running: set[asyncio.Task[Any]] = set()  # keeps tasks alive after their caller has disconnected


class PlanProblem(PeerError):
    """`field`: the field of the body; `query`: the problem of a line of the search language."""

    def __init__(self, status: int, code: str, detail: str, field: str = "") -> None:
        super().__init__(detail)
        self.status, self.code, self.field = status, code, field
        self.query: query.QueryProblem | None = None


class PlanWanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An action, and a line of the search language that selects the entries. `notify`: a rejection notifies the
    senders."""

    action: Action
    query: Annotated[str, msgspec.Meta(min_length=1, max_length=query.MAX_QUERY)]
    notify: bool = False


class PlanReason(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The reason; kept in the timelines and in the audit log."""

    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_REASON)]


class PlanShown(msgspec.Struct, frozen=True, rename="camel"):
    """`ready` plans can be applied until `expires`, `applied` ones undone until `undoUntil`. Of `entries`, applying
    counts `done` and `skipped`; of those done, undo counts `undone` and `kept` (not undone), and the end of the undo
    window counts `ended`."""

    id: Ident
    state: Annotated[
        str,
        msgspec.Meta(
            extra_json_schema={
                "enum": [
                    "making", "ready", "expired", "applying", "applied", "undoing", "undone", "ending", "final",
                ]
            }
        ),
    ]  # fmt: skip
    action: Action
    query: str
    planner: str
    actor: str
    reason: str
    undoer: str
    notify: bool
    created: Time
    expires: Time
    applied: Time | None
    undo_until: Time | None
    finished: Time | None
    entries: int
    bytes: int
    done: int
    skipped: int
    undone: int
    kept: int
    ended: int
    summary: plans.Summary


class PlanDamaged(msgspec.Struct, frozen=True):
    """A damaged plan and its unreadable columns. `postroom verify --repair` closes it."""

    id: Ident
    columns: list[str]


class PlansShown(msgspec.Struct, frozen=True):
    """Newest first; damaged plans are a list of their own. `next`: pass it as `before` for the next page."""

    plans: list[PlanShown]
    damaged: list[PlanDamaged]
    next: Ident | None


class PlanEntryShown(msgspec.Struct, frozen=True):
    """The result for one entry, and the reason where it is not what was planned."""

    id: Ident
    state: Annotated[str, msgspec.Meta(extra_json_schema={"enum": list(ENTRY_STATES)})]
    why: str


class PlanEntriesShown(msgspec.Struct, frozen=True):
    """In the order of their ids. `next`: pass it as `after` for the next page."""

    entries: list[PlanEntryShown]
    next: Ident | None


def plan_shown(plan: plans.Plan, caller: Caller) -> PlanShown:
    """The plan, without what the caller may not see."""
    sees_held = caller.lacking(permissions.to_see(held=True)) is None
    summary = plan.summary if sees_held else plans.without_held(plan.summary)
    return PlanShown(
        public_id(plan.id), plan.state, plan.action, plan.query, plan.planner, plan.actor, plan.reason, plan.undoer,
        plan.notify, stamp(plan.created), stamp(plan.expires), _stamp(plan.applied), _stamp(plan.undo_until),
        _stamp(plan.finished),
        plan.entries, plan.bytes, plan.done, plan.skipped, plan.undone, plan.kept, plan.ended, summary,
    )  # fmt: skip


def _stamp(at: Millis | None) -> str | None:
    return None if at is None else stamp(at)


async def make(services: Services, caller: Caller, wanted: PlanWanted) -> PlanShown:
    if wanted.notify and not notifies(wanted.action, chosen=True):
        raise PlanProblem(400, "bad_body", f"notify: {wanted.action} tells no sender: expected false", "notify")
    try:
        chosen = query.parse(wanted.query, services.clock.now())
    except query.QueryProblem as problem:
        refused = PlanProblem(400, "bad_query", str(problem), "query")
        refused.query = problem
        raise refused from problem
    if chosen == Filter():
        text = "the query is blank, which would mean everything: expected some condition, such as queue:delivery"
        raise PlanProblem(400, "bad_query", text, "query")
    most = await _limit(services, caller)
    barred = () if caller.lacking(permissions.needed(wanted.action, held=True)) is None else (Queue.HELD,)
    wish = plans.Wish(wanted.action, chosen, wanted.query, caller.actor, wanted.notify, barred, most)
    verb = plans.make(services.store, wish, services.settings.plans, services.clock)
    return plan_shown(await _run(services, verb), caller)


async def _limit(services: Services, caller: Caller) -> int | None:
    """Most entries in one plan of this caller. None: only [plans] max_entries applies."""
    roles = [role.name for role in (caller.role, caller.user_role) if role is not None]
    return await services.store.read(plans.limit_of(roles))


async def show(services: Services, caller: Caller, ident: int) -> PlanShown:
    return plan_shown(await _read(services, ident), caller)


async def latest(services: Services, caller: Caller, limit: int, before: int | None) -> PlansShown:
    found = await services.store.read(plans.latest(limit + 1, before))
    page = found[:limit]
    return PlansShown(
        [plan_shown(plan, caller) for plan in page if isinstance(plan, plans.Plan)],
        [PlanDamaged(public_id(plan.id), list(plan.columns)) for plan in page if isinstance(plan, plans.Damaged)],
        public_id(page[-1].id) if len(found) > limit else None,
    )


async def entries(
    services: Services, ident: int, states: tuple[str, ...], after: int, limit: int
) -> PlanEntriesShown:  # fmt: skip
    await _read(services, ident)
    found = await services.store.read(plans.entries(ident, states=states or ENTRY_STATES, after=after, limit=limit + 1))
    shown = [PlanEntryShown(public_id(one.id), one.state, one.why) for one in found[:limit]]
    return PlanEntriesShown(shown, shown[-1].id if len(found) > limit else None)


async def apply(services: Services, caller: Caller, ident: int, reason: str) -> PlanShown:
    if not reason.strip() or not reason.isprintable():
        raise PlanProblem(400, "bad_body", f"reason: expected 1 to {MAX_REASON} printable characters", "reason")
    plan = await _made(services, ident, "ready")
    _may_touch_held(caller, plan)
    most = await _limit(services, caller)
    if most is not None and plan.entries > most:  # no matter who made it
        raise PlanProblem(
            409, "refused", f"this plan has {plan.entries:,} entries: one plan that you apply may have {most:,}"
        )
    verb = plans.apply(
        services.store, ident, services.settings.plans, services.clock, actor=caller.actor, reason=reason.strip()
    )
    return plan_shown(await _begun(services, ident, verb), caller)


async def undo(services: Services, caller: Caller, ident: int) -> PlanShown:
    """Without the role's limit: undo restores what someone with the permission has done."""
    plan = await _made(services, ident, "applied")
    _may_touch_held(caller, plan)
    needed = permissions.needed(Action.RELEASE, held=True)
    releases = plan.action is Action.HOLD and plan.actor != caller.actor
    if releases and caller.lacking(needed) is not None:
        raise PlanProblem(403, "forbidden", HELD_UNDO.format(needed))
    verb = plans.undo(services.store, ident, services.clock, actor=caller.actor)
    return plan_shown(await _begun(services, ident, verb), caller)


async def discard(services: Services, caller: Caller, ident: int) -> PlanShown:
    """Discard a plan: it can no longer be applied."""
    plan = await _made(services, ident, "ready")
    if plan.planner != caller.actor:
        _may_touch_held(caller, plan)
    now = services.clock.now()
    gone = await services.store.write(plans.discard(ident, caller.actor, now))
    plan = await _read(services, ident)
    if not gone:
        raise PlanProblem(409, "refused", f"plan {public_id(ident)} is {plan.state}: expected ready")
    return plan_shown(plan, caller)


async def _read(services: Services, ident: int) -> plans.Plan:
    try:
        return await services.store.read(plans.read(ident))
    except plans.NoSuchPlan as problem:
        raise PlanProblem(404, "not_found", f"no plan {public_id(ident)} is kept") from problem
    except plans.PlanDamaged as problem:
        raise PlanProblem(409, "damaged", str(problem)) from problem


async def _made(services: Services, ident: int, expected: str) -> plans.Plan:
    """A complete plan: while it is being made its queues are unknown, and no call may act on it."""
    plan = await _read(services, ident)
    if plan.state == "making":
        raise PlanProblem(409, "refused", f"plan {public_id(ident)} is making: expected {expected}")
    return plan


def _may_touch_held(caller: Caller, plan: plans.Plan) -> None:
    """Without the permission for held mail, a caller cannot act on it through another person's plan."""
    needed = permissions.needed(plan.action, held=True)
    held = any(share.name == Queue.HELD.value for share in plan.summary.queues)
    if held and caller.lacking(needed) is not None:
        raise PlanProblem(403, "forbidden", HELD_ACTION.format(needed))


async def _begun(services: Services, ident: int, verb: plans.Verb[plans.Plan]) -> plans.Plan:
    """The finished plan, or its progress when it takes long."""
    task = asyncio.create_task(_run(services, verb))
    _running.add(task)
    task.add_done_callback(lambda done: _over(services, done))
    finished, _ = await asyncio.wait({task}, timeout=WAIT)
    return task.result() if finished else await _read(services, ident)


def _over(services: Services, task: asyncio.Task[Any]) -> None:
    _running.discard(task)
    problem = None if task.cancelled() else task.exception()
    if problem is not None and not isinstance(problem, PlanProblem):
        services.log.error("plan_stopped", problem=f"{type(problem).__name__}: {problem}")


async def _run(services: Services, verb: plans.Verb[plans.Plan]) -> plans.Plan:
    try:
        return await plans.carry_out(services.store, verb)
    except plans.PlanRefused as refused:
        raise PlanProblem(409, "refused", str(refused)) from refused
    except plans.PlanDamaged as damaged:
        raise PlanProblem(409, "damaged", str(damaged)) from damaged
    except SearchTooBroad as broad:
        raise PlanProblem(422, "search_too_broad", str(broad), "query") from broad
