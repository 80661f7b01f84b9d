"""Reject the chosen messages: a plan of exactly these, made and applied at once, so that it can be undone.

Promises: what has begun is carried to its end even when the person leaves the page. Messages that the role may not
reject, or that are being worked on, are left out and counted. Nothing ends, and no sender is notified, before the undo
window is over. Fails: PeerError for more messages than the role may have in one plan, nothing done; StoreUnavailable,
after which the plan is listed and can be applied again.
"""

from __future__ import annotations

import msgspec

from postroom.errors import PeerError
from postroom.http.console import choices
from postroom.http.console.choices import Wanted
from postroom.http.console.desk import Desk
from postroom.http.console.visits import Visit
from postroom.model import Action, Filter, Queue
from postroom.query import write
from postroom.store import plans

EVERY = 100  # percent: nobody has looked at this plan before, so that what changes under it is left out like the rest


async def reject(desk: Desk, seen: Visit, wanted: Wanted, reason: str) -> tuple[plans.Plan, list[plans.Share]]:
    """The plan, and why some of it was skipped."""
    return await desk.jobs.finish(_planned(desk, seen, wanted, reason))


async def _planned(desk: Desk, seen: Visit, wanted: Wanted, reason: str) -> tuple[plans.Plan, list[plans.Share]]:
    assert seen.session is not None
    store, clock, settings = desk.services.store, desk.services.clock, desk.services.settings.plans
    role, actor = seen.session.role.name, f"user:{seen.session.email}"
    most = await store.read(plans.limit_of([role]))
    chosen = Filter(ids=wanted.ids)
    barred = [queue for queue in Queue if not choices.permitted(seen.allows, Action.REJECT, held=queue is Queue.HELD)]
    wish = plans.Wish(Action.REJECT, chosen, write(chosen), actor, wanted.notify, barred, most)
    try:
        plan = await plans.carry_out(store, plans.make(store, wish, settings, clock))
    except plans.PlanRefused as refused:
        most = min(settings.max_entries, most or settings.max_entries)
        raise PeerError(f"You may reject {choices.messages(most)} at once: choose fewer") from refused
    if not plan.entries:
        await store.write(plans.discard(plan.id, actor, clock.now()))
        return plan, []
    at_once = msgspec.structs.replace(settings, max_changed=EVERY)
    done = await plans.carry_out(store, plans.apply(store, plan.id, at_once, clock, actor=actor, reason=reason))
    if not done.skipped:
        return done, []
    return done, await store.read(plans.reasons(done.id))
