"""A plan as people read it: what it would do, its progress, its result, and whether it can be undone. Pure.

Promises: an action is offered only where it applies; each state has one word, one icon, one tone; a button names the
action and the number of messages. Fails: PeerError naming an unknown action.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlencode

import msgspec

from postroom.clock import HOUR, MINUTE, SECOND, Millis
from postroom.errors import PeerError
from postroom.http.console import wording
from postroom.http.console.choices import messages
from postroom.http.console.listing import PREFIX, WINDOWS, Listing
from postroom.ids import public_id
from postroom.model import Action, Field, Filter, Queue
from postroom.query import write
from postroom.rules.lifecycle import ACTIONS, ENDING, fits
from postroom.settings import Plans
from postroom.store import plans

NAMES = {
    Action.RETRY: "Retry now", Action.HOLD: "Hold", Action.RELEASE: "Release", Action.REJECT: "Reject",
    Action.BOUNCE: "Bounce", Action.DELETE: "Delete", Action.BULK: "Move to bulk",
    Action.UNBULK: "Move back from bulk",
}  # fmt: skip
TITLES = {
    **{action: f"{name} {{}}" for action, name in NAMES.items()},
    Action.RETRY: "Retry {} now", Action.BULK: "Move {} to bulk", Action.UNBULK: "Move {} back from bulk",
}  # fmt: skip
MEANINGS = {
    Action.RETRY: "Messages are tried as soon as a worker is free.",
    Action.HOLD: "Messages wait in Held until a person decides.",
    Action.RELEASE: "Messages continue where they were held.",
    Action.REJECT: "Messages end without delivery.",
    Action.BOUNCE: "Messages return to their senders, with a notice.",
    Action.DELETE: "Messages end without delivery and without any notice.",
    Action.BULK: "Messages move from Processing to Bulk, with low priority.",
    Action.UNBULK: "Messages move from Bulk back to Processing.",
}
STATES: dict[str, tuple[str, str, str]] = {  # tone, icon, word
    "making": ("wait", "delayed", "Collecting"),
    "ready": ("wait", "delayed", "Not applied yet"),
    "expired": ("plain", "close", "Never applied"),
    "applying": ("busy", "normal", "Applying"),
    "applied": ("good", "good", "Applied"),
    "undoing": ("busy", "normal", "Undoing"),
    "undone": ("hold", "left", "Undone"),
    "ending": ("busy", "normal", "Finishing"),
    "final": ("good", "good", "Final"),
}


class Choice(msgspec.Struct, frozen=True):
    """An action offered for a new plan."""

    value: str
    name: str
    meaning: str
    chosen: bool
    grave: bool


class Part(msgspec.Struct, frozen=True):
    """One list of names and counts on a plan's page."""

    title: str
    shares: list[tuple[str, int]]
    sentences: bool = False


class Shown(msgspec.Struct, frozen=True):
    """A plan on its page and in the list of plans."""

    id: str
    address: str
    title: str
    meaning: str
    do: str
    grave: bool
    query: str
    notify: bool
    state: str
    tone: str
    symbol: str
    state_name: str
    entries: int
    size: str
    under_way: bool
    reached: int  # of `of`, of what is under way
    of: int
    results: list[tuple[str, int]]
    parts: list[Part]
    samples: list[tuple[str, plans.Sample]]  # with the address of the message
    record: list[tuple[str, str, str]]  # what, when, who
    reason: str
    expires: Millis | None  # while it can be applied
    undo_until: Millis | None  # while it can be undone
    left: str  # until then, as m:ss
    again: str  # the address for making the same plan again


def line(listing: Listing, now: Millis) -> str:
    """What a queue page shows, as one line of the search language; as it was typed where that means the same."""
    if listing.field is not Field.ALL:  # says of the bare words where they are looked for
        return write(listing.filter(now))
    beside, span = msgspec.structs.replace(listing, text=""), ""
    if listing.window in WINDOWS:  # as a span, which reads better than an instant
        newer = WINDOWS[listing.window][2]
        span = f"{'since' if newer else 'until'}:{listing.window.removeprefix('over-')}"
        beside = msgspec.structs.replace(beside, window="", since=None, until=None)
    return " ".join([part for part in (listing.text, write(beside.filter(now)), span) if part])


def new_address(query: str, action: Action | None = None, back: str = "") -> str:
    """The address of the form for a new plan; `back`: the page to return to."""
    given = {"line": query, "action": action.value if action else "", "next": back}
    return f"{PREFIX}/plans/new?{urlencode({name: value for name, value in given.items() if value})}"


def read_action(text: str) -> Action:
    for action in Action:
        if action.value == text:
            return action
    raise PeerError("choose what to do with them")


def choices(wanted: Filter, chosen: str, settings: Plans) -> list[Choice]:
    """The actions that apply to a filter's queues."""
    queues = wanted.queues or tuple(Queue)
    return [
        Choice(action.value, NAMES[action], meaning(action, settings), action.value == chosen, action in ENDING)
        for action in Action
        if any(fits(action, queue) for queue in queues)
    ]


def meaning(action: Action, settings: Plans) -> str:
    window = wording.span_text(settings.undo_window)
    text = MEANINGS[action]
    if action in ENDING:
        return f"{text} They leave the queue at once. You can undo this for {window}; after that it is final."
    if ACTIONS[action].paced:
        pace = f"At most {settings.retry_rate} per {wording.span_text(settings.retry_window)} for each destination."
        return f"{text} {pace} For {window} you can undo this for messages that have not left yet."
    return f"{text} You can undo this for {window}."


def shown(
    plan: plans.Plan, settings: Plans, now: Millis, reasons: Sequence[plans.Share] = (), *, held: bool = True
) -> Shown:
    """`reasons`: why entries were skipped or not undone; `held`: the viewer may see held mail."""
    tone, symbol, word = STATES[plan.state]
    summary, how_many = plan.summary if held else plans.without_held(plan.summary), messages(plan.entries)
    title = TITLES[plan.action].format(how_many)
    undo = plan.undo_until if plan.state in ("applying", "applied") and (plan.undo_until or 0) > now else None
    expires = plan.expires if plan.state == "ready" and plan.expires > now else None
    until = undo or expires
    parts = [
        Part("Left out, and why", _sentences(summary.left_out), True),
        Part("Not done or not undone, and why", _sentences(reasons), True),
        Part("Queues", [(wording.QUEUE_NAMES[Queue(share.name)], share.entries) for share in summary.queues]),
        Part("Destinations", _pairs(summary.domains)),
        Part("Senders", _pairs(summary.senders)),
    ]
    reached, of = _progress(plan)
    return Shown(
        id=public_id(plan.id), address=f"{PREFIX}/plans/{public_id(plan.id)}", title=title,
        meaning=meaning(plan.action, settings), do=title, grave=plan.action in ENDING, query=plan.query,
        notify=plan.notify,
        state=plan.state, tone=tone, symbol=symbol, state_name=word, entries=plan.entries,
        size=wording.size_text(plan.bytes),
        under_way=plan.state in plans.UNDER_WAY, reached=reached, of=of, results=_results(plan),
        parts=[part for part in parts if part.shares],
        samples=[(f"{PREFIX}/entries/{sample.id}", sample) for sample in summary.samples],
        record=_record(plan), reason=plan.reason, expires=expires, undo_until=undo,
        left="" if until is None else left_text(until - now), again=new_address(plan.query, plan.action),
    )  # fmt: skip


def _pairs(shares: Sequence[plans.Share]) -> list[tuple[str, int]]:
    return [(share.name, share.entries) for share in shares]


def _sentences(shares: Sequence[plans.Share]) -> list[tuple[str, int]]:
    return [(share.name[:1].upper() + share.name[1:], share.entries) for share in shares]


def _progress(plan: plans.Plan) -> tuple[int, int]:
    match plan.state:
        case "undoing":
            return plan.undone + plan.kept, plan.done
        case "ending":
            return plan.ended + plan.kept, plan.done
    return plan.done + plan.skipped, plan.entries


def _results(plan: plans.Plan) -> list[tuple[str, int]]:
    """The results in numbers; zeros that say nothing are left out."""
    if plan.state in ("making", "ready", "expired"):
        return []
    gone = [("Undone", plan.undone), ("Not undone", plan.kept)] if plan.state in ("undoing", "undone") else []
    ended = [("Ended", plan.ended), ("Left alone at the end", plan.kept)] if plan.state in ("ending", "final") else []
    return [("Done", plan.done), ("Skipped", plan.skipped), *[pair for pair in gone + ended if pair[1]]]


def _record(plan: plans.Plan) -> list[tuple[str, str, str]]:
    found = [("Planned", wording.moment(plan.created), plan.planner)]
    if plan.applied is not None:
        found.append(("Applied", wording.moment(plan.applied), plan.actor))
    if plan.undoer:
        found.append(("Undone", wording.moment(plan.finished) if plan.finished else "", plan.undoer))
    elif plan.finished is not None:
        found.append(("Final", wording.moment(plan.finished), ""))
    return found


def left_text(span: Millis) -> str:
    """`14:58`, `1:02:03`; the page's script counts it down."""
    span = max(span, 0)
    seconds = -(-span // SECOND)
    hours, minutes = seconds * SECOND // HOUR, seconds * SECOND // MINUTE % 60
    return f"{hours}:{minutes:02}:{seconds % 60:02}" if hours else f"{minutes}:{seconds % 60:02}"
