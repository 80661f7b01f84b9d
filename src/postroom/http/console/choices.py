"""The actions that a person can take on messages, and their texts. Pure.

Promises: only actions that the role permits are offered; the server checks again when one is taken. A rejection needs a
reason, other actions may have one. Fails: PeerError naming what was expected.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from urllib.parse import urlencode

import msgspec

from postroom.clock import Millis
from postroom.errors import PeerError
from postroom.http.console import wording
from postroom.http.console.listing import PAGE_SIZE, PREFIX
from postroom.ids import parse_public_id, public_id
from postroom.model import Action, ActionReport, Queue
from postroom.rules.lifecycle import WORKED_ON, fits
from postroom.store import permissions, plans

MAX_REASON = 200

NAMES = {Action.RETRY: "Retry now", Action.HOLD: "Hold", Action.RELEASE: "Release", Action.REJECT: "Reject"}
ASKED = {
    Action.RETRY: "Retry {} now", Action.HOLD: "Hold {}", Action.RELEASE: "Release {}", Action.REJECT: "Reject {}",
}  # fmt: skip
ICONS = {Action.RETRY: "normal", Action.HOLD: "held", Action.RELEASE: "right", Action.REJECT: "bad"}
MEANINGS = {
    Action.RETRY: "Messages are tried as soon as a worker is free. The number of tries is not reset.",
    Action.HOLD: "Messages wait in Held until a person releases or rejects them.",
    Action.RELEASE: "Messages continue where they were held.",
    Action.REJECT: "Messages end without delivery. You can undo this for {}; until then no notice is sent.",
}
DONE = {Action.RETRY: "due now", Action.HOLD: "held", Action.RELEASE: "released", Action.REJECT: "rejected"}

_Allows = Callable[[str], bool]


class Banner(msgspec.Struct, frozen=True):
    """The result of an action, for a notice on the page."""

    tone: str
    title: str
    text: str
    link: str = ""  # where it can be undone
    link_name: str = ""


class Wanted(msgspec.Struct, frozen=True):
    """An action and the messages that a form names."""

    action: Action
    ids: tuple[int, ...]
    reason: str = ""
    notify: bool = False


def offered(allows: _Allows, queue: Queue) -> list[Action]:
    """The actions that a role may take in this queue."""
    return [action for action in NAMES if permitted(allows, action, held=queue is Queue.HELD)]


def permitted(allows: _Allows, action: Action, *, held: bool) -> bool:
    """`held`: for entries in the held queue. The same rule as for plans and `/v1`."""
    queues = (Queue.HELD,) if held else WORKED_ON
    return any(fits(action, queue) for queue in queues) and allows(permissions.needed(action, held=held))


def address(action: Action, ident: int, back: str) -> str:
    """The address of the page that asks for confirmation."""
    return f"{PREFIX}/act?{urlencode({'action': action.value, 'id': public_id(ident), 'next': back})}"


def meaning(action: Action, undo_window: Millis) -> str:
    return MEANINGS[action].format(wording.span_text(undo_window))


def read_action(text: str) -> Action:
    for action in NAMES:
        if action.value == text:
            return action
    raise PeerError(f"action {text[:40]!r}: expected one of {', '.join([action.value for action in NAMES])}")


def read_ids(texts: list[str]) -> tuple[int, ...]:
    if not texts:
        raise PeerError("no message is selected: select at least one in the list")
    if len(texts) > PAGE_SIZE:
        raise PeerError(f"{len(texts)} messages are selected: expected at most {PAGE_SIZE}, one page")
    return tuple(dict.fromkeys(map(parse_public_id, texts)))


def read_reason(action: Action, text: str) -> str:
    text = text.strip()
    if len(text) > MAX_REASON or not (text.isprintable() or not text):
        raise PeerError(f"expected a reason of at most {MAX_REASON} printable characters")
    if action is Action.REJECT and not text:
        raise PeerError("a rejection needs a reason: it is kept, and sent to the sender if you choose to notify")
    return text


def messages(number: int) -> str:
    return "1 message" if number == 1 else f"{number:,} messages"


def banner(action: Action, report: ActionReport) -> Banner:
    """The report as people read it; each reason for refusals once, with its number."""
    parts = []
    if report.requested:
        who = f"{messages(len(report.requested))} {'is' if len(report.requested) == 1 else 'are'} being worked on"
        parts.append(f"{who}: {DONE[action]} as soon as the worker is done.")
    for why, number in Counter(why for _, why in report.refused).most_common():
        parts.append(f"{messages(number)} refused: {why}.")
    if report.done:
        title = f"{messages(len(report.done))} {DONE[action]}."
        return Banner("wait" if report.refused else "good", title, " ".join(parts))
    if report.requested:
        return Banner("wait", "Nothing done yet.", " ".join(parts))
    return Banner("bad", "Nothing done.", " ".join(parts))


NULL_SENDER = "<>"  # among a plan's senders
GONE = "not in the queue: it has ended, is about to end, or never existed"


def rejection(plan: plans.Plan, skipped: Sequence[plans.Share], chosen: int, now: Millis) -> Banner:
    """The result of a rejection, which is a plan of the selected messages. `skipped`: reasons of what changed
    meanwhile."""
    left_out = [*plan.summary.left_out, *skipped]
    if gone := chosen - plan.done - sum([share.entries for share in left_out]):
        left_out.append(plans.Share(GONE, gone))
    parts = [f"{messages(share.entries)} left out: {share.name}." for share in left_out]
    if not plan.done:
        return Banner("bad", "Nothing done.", " ".join(parts))
    if plan.notify and any(share.name != NULL_SENDER for share in plan.summary.senders):
        parts.append(f"The {'sender is' if plan.done == 1 else 'senders are'} notified when the undo time is over.")
    title, until = f"{messages(plan.done)} {DONE[Action.REJECT]}.", plan.undo_until or 0
    link = (f"{PREFIX}/plans/{public_id(plan.id)}", f"Undo until {wording.until_text(until, now)}")
    return Banner("wait" if left_out else "good", title, " ".join(parts), *(link if until > now else ()))
