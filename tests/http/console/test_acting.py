"""Acting on mail from the console: who may, what is asked, what is done and told."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import pytest

from postroom.clock import DAY, MINUTE
from postroom.http.console import choices, wording
from postroom.ids import public_id
from postroom.model import Action, ActionReport, Entry, Filter, Outcome, Queue
from postroom.store.access import identity, roles
from postroom.store.access.permissions import HELD_EDIT, HELD_READ, PROCESSING_EDIT, PROCESSING_READ
from postroom.store.engine import Tx
from postroom.store.logs import audit
from postroom.store.plans import book as plan_book
from postroom.store.plans import commands as plans
from postroom.store.plans import run as plan_run
from postroom.store.plans import steps as plan_steps
from tests.http.console.conftest import Visitor
from tests.http.console.scene import NOW, Console, Mailroom


@pytest.fixture
def mail(console: Console) -> list[int]:
    """Three that wait, the last of them with a worker."""
    room = Mailroom(console.store, console.clock)
    room.at(0)
    found = [room.take(subject=f"Number {number}").entries[0] for number in range(2)]
    return [*found, room.take(subject="In work", lease_for=60_000).entries[0]]


def over(console: Console) -> None:
    """The time to undo ends."""
    console.clock.move(15 * MINUTE)
    plan_run.run_now(console.store, plans.look_after(console.store, console.clock, 0))


def notices(console: Console) -> list[Entry]:
    return console.store.read_now().find(Filter(queues=(Queue.SYSTEM,)), limit=5)


def as_role(console: Console, visitor: Visitor, *held: str) -> None:
    def make(tx: object) -> None:
        identity.create_role(tx, "some", list(held))  # type: ignore[arg-type]
        identity.create_user(  # type: ignore[call-arg]
            tx, email="some@corp.example", password_hash=console.password_hash, role="some",  # type: ignore[arg-type]
        )  # fmt: skip

    console.store.write_now(make)
    assert visitor.log_in("some@corp.example").status_code == 303


def ask(visitor: Visitor, action: str, *entries: int, back: str = "/console/") -> str:
    answer = visitor.page(
        "/console/act?" + "&".join([f"action={action}", f"next={back}", *[f"id={public_id(one)}" for one in entries]])
    )
    assert answer.status_code == 200, answer.text
    return answer.text


def do(visitor: Visitor, action: str, *entries: int, back: str = "/console/", **fields: str) -> str:
    """The page that one comes back to."""
    ids = " ".join(map(public_id, entries))
    answer = visitor.submit("/console/act", action=action, ids=ids, next=back, **fields)
    assert answer.status_code == 303, answer.text
    assert answer.headers["location"].startswith(back.partition("?")[0])
    return unescape(visitor.page(answer.headers["location"]).text)


def plan_of(shown: str) -> str:
    """The address that a notice leads to, to undo what it tells."""
    found = re.search(r'<a href="(/console/plans/\w+)" data-key="notice-link">Undo until 10:22 UTC</a>', shown)
    assert found, shown
    return found[1]


def undo(visitor: Visitor, plan: str) -> str:
    assert visitor.page(plan).status_code == 200
    return unescape(visitor.page(visitor.submit(f"{plan}/undo").headers["location"]).text)


def queue_of(console: Console, entry: int) -> Queue | None:
    """None: it is gone, or about to be."""
    found = console.store.read_now().find(Filter(ids=(entry,)), limit=1)
    return found[0].queue if found else None


def lines(console: Console, kind: str) -> list[audit.Line]:
    return audit.read(console.store.read_now().tx, kind=kind)


def test_chosen_messages_are_held_after_a_question_and_it_is_told_and_recorded(
    console: Console, visitor: Visitor, mail: list[int]
) -> None:
    visitor.log_in()
    page = visitor.page("/console/").text
    assert page.count('class="pick"') == 3
    assert re.findall(r'name="action" value="(\w+)"', page) == ["retry", "hold", "reject"]
    question = ask(visitor, "hold", *mail)
    assert "Hold 3 messages?" in question
    assert "Number 0" in question
    assert queue_of(console, mail[0]) is Queue.PROCESSING  # an address alone does nothing
    shown = do(visitor, "hold", *mail, reason="asked for by legal", back="/console/?order=oldest")
    assert "2 messages held.</strong> 1 message is being worked on: held as soon as the worker is done." in shown
    assert [queue_of(console, entry) for entry in mail] == [Queue.HELD, Queue.HELD, Queue.PROCESSING]
    event = console.store.read_now().events(mail[0])[-1]
    assert (event.kind, event.actor) == ("held", "user:admin@postroom.local")
    assert "asked for by legal" in event.info
    (line,) = lines(console, "entries.hold")
    assert (line.actor, line.times, line.detail) == ("user:admin@postroom.local", 3, "asked for by legal")
    assert "messages held.</strong>" not in visitor.page("/console/").text
    console.log.flush()
    assert "action=hold done=2 requested=1 refused=0" in console.logged.getvalue()


def test_what_is_told_is_told_to_whom_it_concerns_and_not_for_ever(
    console: Console, visitor: Visitor, mail: list[int]
) -> None:
    visitor.log_in()
    ids = public_id(mail[0])
    answer = visitor.submit("/console/act", action="hold", ids=ids, reason="", next="/console/")
    address = answer.headers["location"]
    assert re.fullmatch(r"/console/\?told=[0-9a-f]{16}", address)
    assert "1 message held." in visitor.page(address).text
    as_role(console, visitor, PROCESSING_READ)
    assert "1 message held." not in visitor.page(address).text
    assert visitor.page("/console/?told=1").status_code == 200
    visitor.log_in()
    assert "1 message held." in visitor.page(address).text
    console.clock.move(10 * 60_000)
    assert "1 message held." not in visitor.page(address).text


def test_held_mail_is_released_from_its_panel(console: Console, visitor: Visitor, mail: list[int]) -> None:
    visitor.log_in()
    do(visitor, "hold", mail[0])
    panel = unescape(visitor.page(f"/console/entries/{public_id(mail[0])}").text)
    found = dict(re.findall(r'href="(/console/act\?action=(?:\w+)[^"]*)"[^>]*><svg.*?</svg>([^<]+)</a>', panel))
    assert list(found.values()) == ["Release", "Reject"]
    question = visitor.page(next(iter(found))).text
    assert "Release 1 message?" in question
    back = re.search(r'name="next" value="([^"]+)"', question)
    assert back is not None
    shown = do(visitor, "release", mail[0], back=unescape(back[1]))
    assert "1 message released." in shown
    assert "Number 0" in shown
    assert queue_of(console, mail[0]) is Queue.PROCESSING


def test_a_rejection_takes_a_reason_and_may_tell_the_sender(
    console: Console, visitor: Visitor, mail: list[int]
) -> None:
    visitor.log_in()
    question = ask(visitor, "reject", mail[0])
    assert "You can undo this for 15 min; until then no notice is sent." in question
    assert "Notify the sender, with this reason, when the undo time (15 min) is over" in question
    (entry,) = console.store.read_now().find(Filter(ids=(mail[0],)), limit=1)
    assert " required" in question
    ids = public_id(mail[0])
    for reason in ("", "x" * 201, "a\x07b"):
        refused = visitor.submit("/console/act", action="reject", ids=ids, reason=reason, next="/console/")
        assert refused.status_code == 400
        assert 'aria-invalid="true"' in refused.text
        assert "Reject 1 message?" in refused.text
    assert queue_of(console, mail[0]) is Queue.PROCESSING
    told = do(visitor, "reject", mail[0], reason="contains secrets", notify="yes")
    assert "1 message rejected.</strong> The sender is notified when the undo time is over. <a href=" in told
    quiet = do(visitor, "reject", mail[1], reason="spam")
    assert "1 message rejected.</strong>  <a href=" in quiet
    assert [queue_of(console, entry) for entry in mail[:2]] == [None, None]
    for plan in (plan_of(told), plan_of(quiet)):
        assert "The messages are out of the queue." in visitor.page(plan).text
    gone = visitor.page(f"/console/act?action=hold&id={ids}")
    assert gone.status_code == 404
    assert "None of the selected messages is in the queue any more" in gone.text
    again = do(visitor, "reject", mail[1], mail[2], reason="spam")
    assert "Nothing done." in again
    assert "1 message left out: not in the queue: it has ended, is about to end, or never existed." in again
    assert "1 message left out: being worked on just now: hold it first, or try again." in again
    assert 'data-key="notice-link"' not in again
    assert lines(console, "plan.discard") == []
    assert notices(console) == []
    over(console)
    (notice,) = notices(console)
    assert notice.recipient == entry.env_from
    reader = console.store.read_now()
    assert [ended.outcome for entry in mail[:2] if (ended := reader.ended(entry))] == [Outcome.REJECTED] * 2
    assert "contains secrets" in reader.events(mail[0])[-1].info
    assert "is final: expected applied or applying." in undo(visitor, plan_of(told))


def test_nobody_is_said_to_be_told_of_mail_without_a_sender(console: Console, visitor: Visitor) -> None:
    notice = Mailroom(console.store, console.clock).take(env_from="").entries[0]
    visitor.log_in()
    assert "1 without a sender: no notice" in ask(visitor, "reject", notice)
    shown = do(visitor, "reject", notice, reason="spam", notify="yes")
    assert "1 message rejected.</strong>  <a href=" in shown


def test_a_rejection_is_a_plan_that_can_be_undone(console: Console, visitor: Visitor, mail: list[int]) -> None:
    visitor.log_in()
    before = [console.store.read_now().entry(entry) for entry in mail]
    shown = do(visitor, "reject", *mail, reason="spam", back="/console/?order=oldest")
    left_out = "1 message left out: being worked on just now: hold it first, or try again."
    assert f"2 messages rejected.</strong> {left_out} <a href=" in shown
    assert [queue_of(console, entry) for entry in mail] == [None, None, Queue.PROCESSING]
    plan = plan_of(shown)
    ident = int(plan.rpartition("/")[2], 16)
    kept = plan_book.read(console.store.read_now().tx, ident)
    assert (kept.action, kept.state, kept.entries, kept.done, kept.reason) == (Action.REJECT, "applied", 2, 2, "spam")
    assert {line.what: (line.actor, line.detail) for line in lines(console, "plan.apply")} == {
        public_id(ident): ("user:admin@postroom.local", "begun: reject, entries: 2: spam"),
    }
    assert lines(console, "entries.reject") == []
    console.log.flush()
    assert f"action=reject done=2 refused=1 plan={public_id(ident)}" in console.logged.getvalue()
    assert "2 undone" in re.sub("<[^>]+>", "", undo(visitor, plan))
    assert [console.store.read_now().entry(entry) for entry in mail] == before
    over(console)
    assert [console.store.read_now().entry(entry) for entry in mail] == before


def test_what_a_worker_takes_meanwhile_is_left_out_and_the_rest_is_rejected(
    console: Console, visitor: Visitor, mail: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the freezing of the plan and its first step, whatever share of a reviewed plan may change."""
    start = plan_steps.start

    def taken(tx: Tx, *given: Any, **named: Any) -> None:
        tx.rows("UPDATE entry SET attempts = attempts + 1 WHERE id = ?", (mail[0],))
        start(tx, *given, **named)

    visitor.log_in()
    monkeypatch.setattr(plan_steps, "start", taken)
    monkeypatch.setattr(plan_steps, "count_changed", lambda tx, plan: 1)  # seen before the first step, too
    shown = do(visitor, "reject", *mail[:2], reason="spam")
    assert "1 message rejected.</strong> 1 message left out: something has happened to it since." in shown
    assert [queue_of(console, entry) for entry in mail[:2]] == [Queue.PROCESSING, None]


def test_the_limit_of_a_role_holds_for_rejections(console: Console, visitor: Visitor, mail: list[int]) -> None:
    as_role(console, visitor, PROCESSING_READ, PROCESSING_EDIT)
    console.store.write_now(lambda tx: tx.rows("UPDATE role SET plan_limit = 1 WHERE name = 'some'"))
    ids = " ".join(map(public_id, mail))
    refused = visitor.submit("/console/act", action="reject", ids=ids, reason="spam")
    assert (refused.status_code, "You may reject 1 message at once: choose fewer." in refused.text) == (409, True)
    assert [queue_of(console, entry) for entry in mail] == [Queue.PROCESSING] * 3
    assert "1 message rejected." in do(visitor, "reject", mail[0], mail[2], reason="spam")


def test_retry_makes_it_due(console: Console, visitor: Visitor, mail: list[int]) -> None:
    room = Mailroom(console.store, console.clock)
    later = room.take(lease_for=60_000)
    room.later(later, "451 try again", 1, 600_000)
    visitor.log_in()
    assert "1 message due now." in do(visitor, "retry", later.entries[0])
    found = console.store.read_now().entry(later.entries[0])
    assert found is not None
    assert found.next_attempt == NOW


@pytest.mark.parametrize(
    ("held", "queue", "offers"),
    [
        ([PROCESSING_READ, HELD_READ], "processing", []),
        ([PROCESSING_READ, HELD_READ], "held", []),
        ([PROCESSING_READ, HELD_READ, HELD_EDIT], "processing", []),
        ([PROCESSING_READ, HELD_READ, HELD_EDIT], "held", ["release", "reject"]),
        ([PROCESSING_READ, HELD_READ, PROCESSING_EDIT], "processing", ["retry", "hold", "reject"]),
        ([PROCESSING_READ, HELD_READ, PROCESSING_EDIT], "held", []),
    ],
)
def test_a_role_is_offered_what_it_may_do(
    console: Console, visitor: Visitor, mail: list[int], held: list[str], queue: str, offers: list[str]
) -> None:
    console.store.act_now(Action.HOLD, [mail[0]], actor="test")
    as_role(console, visitor, *held)
    text = visitor.page("/console/", queue=queue).text
    assert re.findall(r'name="action" value="(\w+)"', text) == offers
    assert ('class="pick"' in text) == bool(offers)
    entry = mail[0] if queue == "held" else mail[1]
    panel = unescape(visitor.page(f"/console/entries/{public_id(entry)}").text)
    assert re.findall(r'href="/console/act\?action=(\w+)', panel) == offers


def test_what_a_role_may_not_is_refused_whatever_is_sent(console: Console, visitor: Visitor, mail: list[int]) -> None:
    console.store.act_now(Action.HOLD, [mail[0]], actor="test")
    as_role(console, visitor, PROCESSING_READ, HELD_READ, HELD_EDIT)
    for action in ("retry", "hold"):
        assert visitor.page("/console/act", action=action, id=public_id(mail[1])).status_code == 403
        refused = visitor.submit("/console/act", action=action, ids=public_id(mail[1]), reason="x")
        assert refused.status_code == 403
        assert PROCESSING_EDIT in refused.text
    shown = do(visitor, "reject", mail[0], mail[1], reason="spam")
    assert "1 message rejected.</strong> 1 message left out: not permitted to you." in shown
    assert [queue_of(console, entry) for entry in mail[:2]] == [None, Queue.PROCESSING]


def test_held_mail_is_not_reached_by_the_right_to_all_other_mail(
    console: Console, visitor: Visitor, mail: list[int]
) -> None:
    console.store.act_now(Action.HOLD, [mail[0]], actor="test")
    as_role(console, visitor, PROCESSING_READ, HELD_READ, PROCESSING_EDIT)
    refused = visitor.submit("/console/act", action="release", ids=public_id(mail[0]))
    assert (refused.status_code, f"Release needs the permission “{HELD_EDIT}”." in refused.text) == (403, True)
    shown = do(visitor, "reject", mail[0], mail[1], reason="spam")
    assert "1 message rejected.</strong> 1 message left out: not permitted to you." in shown
    assert [queue_of(console, entry) for entry in mail[:2]] == [Queue.HELD, None]
    assert "Undone" in undo(visitor, plan_of(shown))
    assert [queue_of(console, entry) for entry in mail[:2]] == [Queue.HELD, Queue.PROCESSING]


def test_held_mail_is_taken_back_with_the_right_to_held_mail(
    console: Console, visitor: Visitor, mail: list[int]
) -> None:
    console.store.act_now(Action.HOLD, mail[:2], actor="test")
    visitor.log_in()
    others = plan_of(do(visitor, "reject", mail[1], reason="spam"))
    as_role(console, visitor, HELD_READ, HELD_EDIT)
    plan = plan_of(do(visitor, "reject", mail[0], back="/console/?queue=held", reason="spam"))
    for path in (others, "/console/plans"):
        assert visitor.page(path).status_code == 403
    assert visitor.submit(f"{others}/undo").status_code == 403
    assert visitor.submit(f"{plan}/discard").status_code == 303  # too late: it is told on its page
    assert visitor.submit("/console/plans/1f/undo").status_code == 403
    shown = undo(visitor, plan)
    assert "Undone" in shown
    assert f'Undone</dt><dd>{wording.moment(NOW)}<span class="muted"> by <bdi>user:some@corp.example</bdi>' in shown
    assert [queue_of(console, entry) for entry in mail[:2]] == [Queue.HELD, None]
    console.store.write_now(lambda tx: roles.forbid(tx, "some", [HELD_EDIT]))
    assert visitor.page(plan).status_code == 403
    assert visitor.submit(f"{plan}/undo").status_code == 403


def test_without_session_or_token_nothing_is_done(console: Console, visitor: Visitor, mail: list[int]) -> None:
    ids = public_id(mail[0])
    fields = {"action": "hold", "ids": ids, "reason": "", "next": "/console/"}
    assert visitor.page("/console/act", action="hold", id=ids).headers["location"].startswith("/console/login")
    visitor.page("/console/login")
    assert visitor.submit("/console/act", **fields).headers["location"].startswith("/console/login")
    visitor.log_in()
    assert visitor.post("/console/act", data={**fields, "token": "0" * 64}).status_code == 403
    assert visitor.submit("/console/act", headers={"sec-fetch-site": "cross-site"}, **fields).status_code == 403
    assert queue_of(console, mail[0]) is Queue.PROCESSING


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("action=hold", "no message is selected"),
        ("action=explode&id=1", "expected one of retry, hold, release, reject"),
        ("action=delete&id=1", "expected one of retry, hold, release, reject"),
        ("action=hold&id=zz", "is not an id"),
        ("action=hold&" + "&".join(f"id={number:x}" for number in range(1, 52)), "expected at most 50"),
    ],
)
def test_what_is_asked_wrongly_is_told(console: Console, visitor: Visitor, query: str, says: str) -> None:
    visitor.log_in()
    answer = visitor.page(f"/console/act?{query}")
    assert answer.status_code == 400
    assert says in unescape(answer.text)


def test_the_way_back_leads_nowhere_else(console: Console, visitor: Visitor, mail: list[int]) -> None:
    visitor.log_in()
    for back in ("//evil.example/", "https://evil.example/", "/console/act?action=hold", "javascript:alert(1)"):
        assert 'name="next" value="/console/"' in ask(visitor, "hold", mail[0], back=back)


def test_outcomes_read_well() -> None:
    told = choices.banner(Action.RELEASE, ActionReport((), (), ((1, "held already"), (2, "gone"), (3, "gone"))))
    assert (told.tone, told.title) == ("bad", "Nothing done.")
    assert told.text == "2 messages refused: gone. 1 message refused: held already."
    told = choices.banner(Action.HOLD, ActionReport((), (1, 2), ()))
    assert (told.tone, told.title) == ("wait", "Nothing done yet.")
    assert told.text == "2 messages are being worked on: held as soon as the worker is done."
    told = choices.banner(Action.RETRY, ActionReport(tuple(range(1200)), (), ((1, "gone"),)))
    assert (told.tone, told.title) == ("wait", "1,200 messages due now.")


def test_the_end_of_a_time_to_undo_reads_well() -> None:
    assert wording.until_text(NOW + 59_999, NOW) == "10:07 UTC"
    assert wording.until_text(NOW + 7 * DAY, NOW) == "2026-11-29 10:07 UTC"
