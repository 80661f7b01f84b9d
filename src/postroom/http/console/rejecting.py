"""Reject the selected messages: makes a plan of exactly these and applies it at once, so that it can be undone.

Promises: the work continues when the page is left; entries that the role may not reject, or that are being worked on,
are left out and reported; no entry ends and no notice is sent before the undo window is over. Fails: PeerError for more
entries than the role may have in a plan, with nothing done; StoreUnavailable, after which the plan can be continued.
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

EVERY = 100  # percent: nobody reviewed this plan, so entries that changed since are simply left out


async def reject(desk: Desk, seen: Visit, wanted: Wanted, reason: str) -> tuple[plans.Plan, list[plans.Share]]:
    """The applied plan, and the reasons for skipped entries."""
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
