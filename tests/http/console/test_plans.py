"""Acting on all matches from the console without scripts: plan, review, apply, watch, undo."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from html import unescape

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.clock import HOUR, MINUTE, SECOND
from postroom.http.admin.plans import PlanProblem
from postroom.http.console import jobs, plan_words
from postroom.http.console.choices import Banner
from postroom.http.console.jobs import Jobs
from postroom.http.console.listing import CUSTOM, WINDOWS, Listing
from postroom.ids import public_id
from postroom.model import Action, Field, Filter, Queue, Route
from postroom.query import QueryProblem, parse
from postroom.settings import Settings
from postroom.store.access import identity
from postroom.store.access.permissions import HELD_EDIT, HELD_READ, PROCESSING_EDIT, PROCESSING_READ
from postroom.store.fold import SearchTooBroad
from postroom.store.logs import audit
from postroom.store.plans import book as plan_book
from postroom.store.plans import steps as plan_steps
from tests.http.console.conftest import Visitor
from tests.http.console.scene import EMAIL, NOW, Console, Mailroom

ME = f"user:{EMAIL}"
WINDOW = 15 * MINUTE
HOSTILE = "<script>x</script> \u202e{{7*7}}"


@pytest.fixture
def mail(console: Console, visitor: Visitor) -> list[int]:
    """Four that wait, the third with a worker; somebody has logged in."""
    room = Mailroom(console.store, console.clock)
    room.at(0)
    subjects = (HOSTILE, "Number 1", "In work", "Number 3")
    found = [
        room.take(subject=subject, lease_for=HOUR if subject == "In work" else None).entries[0] for subject in subjects
    ]
    visitor.log_in()
    return found


def make(visitor: Visitor, line: str, action: str, **fields: str) -> str:
    """A new plan; the address of its page."""
    answer = visitor.submit("/console/plans", line=line, action=action, **fields)
    assert answer.status_code == 303, answer.text
    return answer.headers["location"]


def follow(visitor: Visitor, answer: httpx.Response) -> str:
    assert answer.status_code == 303, answer.text
    return seen(visitor, answer.headers["location"])


def seen(visitor: Visitor, address: str) -> str:
    answer = visitor.page(address)
    assert answer.status_code == 200, answer.text
    return unescape(answer.text)


def apply(visitor: Visitor, plan: str, reason: str = "asked for by legal") -> str:
    return follow(visitor, visitor.submit(f"{plan}/apply", reason=reason))


def undo(visitor: Visitor, plan: str) -> str:
    return follow(visitor, visitor.submit(f"{plan}/undo"))


def state(text: str) -> str:
    found = re.search(r'plan-heading"><h1>[^<]*</h1>\s*<span class="badge[^>]*><svg.*?</svg>([^<]+)<', text)
    assert found, text
    return found[1]


def figures(text: str) -> str:
    found = re.search(r'<p class="plan-figures">(.*?)</p>', text, re.DOTALL)
    assert found, text
    return re.sub(r"<[^>]+>", " ", found[1]).strip()


def shares(text: str) -> dict[str, str]:
    return dict(re.findall(r'<th scope="row"[^>]*><bdi>([^<]+)</bdi></th><td class="num">([\d,]+)</td>', text))


def queues(console: Console, entries: list[int]) -> list[Queue | None]:
    found = [console.store.read_now().entry(entry) for entry in entries]
    return [None if entry is None else entry.queue for entry in found]


def until_over(visitor: Visitor, address: str) -> httpx.Response:
    """Asks again until the page is another one."""
    deadline = time.monotonic() + 60
    while (answer := visitor.page(address)).status_code == 200:
        assert time.monotonic() < deadline, answer.text
    return answer


@contextmanager
def stalled(console: Console) -> Iterator[None]:
    """The writer waits: what was begun cannot go on."""
    waits, gate = threading.Event(), threading.Event()

    def wait(tx: object) -> None:
        waits.set()
        gate.wait(60)

    thread = threading.Thread(target=console.store.write_now, args=(wait,))
    thread.start()
    try:
        assert waits.wait(60)
        yield
    finally:
        gate.set()
        thread.join(60)


def as_role(console: Console, visitor: Visitor, *held: str, limit: int | None = None) -> None:
    def create(tx: object) -> None:
        identity.create_role(tx, "some", list(held))  # type: ignore[arg-type]
        tx.rows("UPDATE role SET plan_limit = ? WHERE name = 'some'", (limit,))  # type: ignore[arg-type]
        identity.create_user(  # type: ignore[call-arg]
            tx, email="some@corp.example", password_hash=console.password_hash, role="some",  # type: ignore[arg-type]
        )  # fmt: skip

    console.store.write_now(create)
    assert visitor.log_in("some@corp.example").status_code == 303


def test_all_that_match_are_deleted_and_taken_back(console: Console, visitor: Visitor, mail: list[int]) -> None:
    page = visitor.page("/console/", q="-subject:number age<1h").text
    offer = re.search(r'<p class="acts-all">.*?href="([^"]+)"[^>]*>([^<]+)</a>', page)
    assert offer is not None
    assert offer[2] == "Act on all 2 that match"
    new = seen(visitor, unescape(offer[1]))
    assert "<strong>2</strong> messages match" in new
    assert 'name="line" value="-subject:number age<1h queue:processing"' in new
    assert re.findall(r'type="radio" name="action" value="(\w+)"', new) == [
        "retry", "hold", "reject", "bounce", "delete", "bulk",
    ]  # fmt: skip
    assert 'href="/console/?q=-subject%3Anumber+age%3C1h">Cancel' in new
    assert visitor.page("/console/plans/new", line="queue:processing").status_code == 200
    plan = make(visitor, "-subject:number age<1h queue:processing", "delete")
    raw = visitor.page(plan).text
    assert "<script>x" not in raw
    assert "&lt;script&gt;x&lt;/script&gt; ‹U+202E›{{7*7}}" in raw
    shown = unescape(raw)
    assert (state(shown), shares(shown)["Processing"]) == ("Not applied yet", "1")
    assert shares(shown)["Being worked on just now: hold it first, or try again"] == "1"
    assert 'id="apply">Delete 1 message</button>' in shown
    assert queues(console, mail) == [Queue.PROCESSING] * 4  # nothing is done yet
    done = apply(visitor, plan)
    assert (state(done), figures(done).split()[:4]) == ("Applied", ["1", "done", "0", "skipped"])
    assert re.search(r'Undo <span class="undo-left">\(<span data-until="\d+">15:00</span> left\)', done)
    assert f"by <bdi>{ME}</bdi>" in done
    assert "asked for by legal" in done
    assert HOSTILE.partition(" ")[0] not in unescape(visitor.page("/console/").text)
    (line,) = audit.read(console.store.read_now().tx, kind="plan.apply")[-1:]
    assert line.actor == ME
    assert "Undo" in seen(visitor, "/console/plans")
    back = undo(visitor, plan)
    assert (state(back), figures(back).split()[4:6]) == ("Undone", ["1", "undone"])
    assert HOSTILE.partition(" ")[0] in unescape(visitor.page("/console/").text)
    assert "/undo" not in seen(visitor, "/console/plans")


def test_a_message_that_a_plan_is_about_to_end_says_so(console: Console, visitor: Visitor, mail: list[int]) -> None:
    plan = make(visitor, f"id:{public_id(mail[1])}", "reject", notify="yes")
    assert "The senders are notified, with the reason." in seen(visitor, plan)
    assert "Then the senders are notified." in apply(visitor, plan)
    panel = seen(visitor, f"/console/entries/{public_id(mail[1])}")
    assert "Undo the plan to keep it." in panel
    assert "/console/act?" not in panel.partition('id="detail"')[2]
    undo(visitor, plan)
    panel = seen(visitor, f"/console/entries/{public_id(mail[1])}")
    assert "Undo the plan to keep it." not in panel
    assert "/console/act?" in panel.partition('id="detail"')[2]


def test_progress_is_shown_and_what_was_interrupted_goes_on(
    console: Console, visitor: Visitor, mail: list[int]
) -> None:
    plan = make(visitor, "queue:processing is:waiting", "hold")
    ident = int(plan.rpartition("/")[2], 16)

    def half(tx: object) -> None:
        now = console.clock.now()
        plan_steps.start(
            tx, ident, "applying", of=("ready",), who=ME, reason="x", now=now, window=WINDOW  # type: ignore[arg-type]
        )  # fmt: skip
        plan_steps.apply(tx, console.store.context(), ident, 2, now, WINDOW)  # type: ignore[arg-type]

    console.store.write_now(half)
    shown = seen(visitor, plan)
    assert (state(shown), figures(shown).split()[:3]) == ("Applying", ["2", "of", "3"])
    assert '<progress class="plan-bar" max="3" value="2"' in shown
    assert '<noscript><meta http-equiv="refresh" content="2"></noscript>' in shown
    assert 'id="go-on"' not in shown
    console.clock.move(jobs.STILL)
    assert "No progress" in seen(visitor, plan)
    done = apply(visitor, plan, "x")
    assert (state(done), figures(done).split()[:2]) == ("Applied", ["3", "done"])
    assert "refresh" not in done.partition("<body")[0]
    assert queues(console, mail) == [Queue.HELD, Queue.HELD, Queue.PROCESSING, Queue.HELD]


def test_what_takes_long_goes_on_without_its_page(
    console: Console, visitor: Visitor, mail: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "SOON", 0.0)
    with stalled(console):
        making = make(visitor, "queue:processing", "hold", next="/console/?queue=held")
        assert re.fullmatch(r"/console/plans/making/[0-9a-f]{16}\?line=queue%3Aprocessing&action=hold&next=.*", making)
        shown = seen(visitor, making)
        assert "Collecting the messages that match" in shown
        assert '<noscript><meta http-equiv="refresh" content="2"></noscript>' in shown
    answer = until_over(visitor, making)
    plan = answer.headers["location"]
    assert visitor.get(making, headers={"x-fragment": "1"}).headers["location"] == plan  # also again
    with stalled(console):
        begun = follow(visitor, visitor.submit(f"{plan}/apply", reason="later"))
        assert (state(begun), "Checking what has changed since the plan was made." in begun, 'id="apply"' in begun) == (
            "Not applied yet",
            True,
            False,
        )
    deadline = time.monotonic() + 60
    while state(shown := seen(visitor, plan)) != "Applied":
        assert time.monotonic() < deadline
    assert figures(shown).startswith("3")
    assert visitor.page("/console/plans/making/0011223344556677").status_code == 404


def test_what_is_refused_late_is_told_beside_the_form(
    console: Console, visitor: Visitor, mail: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "SOON", 0.0)
    as_role(console, visitor, PROCESSING_READ, PROCESSING_EDIT, limit=1)
    with stalled(console):
        making = make(visitor, "-subject:x", "hold")
    refused = until_over(visitor, making)
    assert refused.status_code == 409
    assert 'value="-subject:x"' in refused.text  # it can be narrowed
    assert "one plan of yours may have 1" in refused.text
    assert visitor.get(making, headers={"x-fragment": "1"}).status_code == 401  # the script reloads the page


def test_what_has_changed_is_skipped_and_too_much_is_refused(
    console: Console, visitor: Visitor, mail: list[int]
) -> None:
    plan = make(visitor, "queue:processing is:waiting", "hold")
    console.store.act_now(Action.HOLD, [mail[0]], actor="somebody")
    refused = apply(visitor, plan)
    assert "Refused.</strong> 1 of 3 entries have changed since they were planned" in refused
    assert "make the plan anew" in refused
    assert (state(refused), queues(console, mail)[1]) == ("Not applied yet", Queue.PROCESSING)
    blank = apply(visitor, plan, "  ")
    assert "Not done.</strong> Reason: expected 1 to 200 printable characters." in blank
    long = visitor.submit(f"{plan}/apply", reason="x" * 201)
    assert (long.status_code, "expected at most 200" in long.text) == (400, True)
    done = make(visitor, "queue:processing is:waiting", "hold")
    apply(visitor, done)
    console.store.act_now(Action.RELEASE, [mail[1]], actor="somebody")
    back = undo(visitor, done)
    assert "Something has happened to it since" in shares(back)
    assert figures(back).split()[4:8] == ["1", "undone", "1", "not"]


def test_time_runs_out(console: Console, visitor: Visitor, mail: list[int]) -> None:
    held = make(visitor, f"id:{public_id(mail[0])}", "hold")
    late = make(visitor, "subject:number", "delete")
    apply(visitor, held)
    console.clock.move(WINDOW)
    over = seen(visitor, held)
    assert "The undo time is over." in over
    assert "/undo" not in over
    assert "Refused.</strong> Plan" in undo(visitor, held)
    assert "can no longer be undone: its window is over." in seen(visitor, held)
    console.clock.move(HOUR)
    text = seen(visitor, late)
    assert "This plan has expired" in text
    assert 'href="/console/plans/new?line=subject%3Anumber&action=delete"' in text
    assert "has expired: make it anew" in apply(visitor, late)


def test_a_plan_is_discarded(console: Console, visitor: Visitor, mail: list[int]) -> None:
    plan = make(visitor, "queue:processing", "hold")
    listed = follow(visitor, visitor.submit(f"{plan}/discard"))
    assert "Never applied" in listed
    assert "Nothing was done." in seen(visitor, plan)
    done = make(visitor, "queue:processing", "hold")
    apply(visitor, done)
    assert state(follow(visitor, visitor.submit(f"{done}/discard"))) == "Applied"


@pytest.mark.parametrize(
    ("fields", "status", "says"),
    [
        ({"line": "form:alice", "action": "hold"}, 400, "Did you mean <code>from:</code>?"),
        ({"line": "", "action": "hold"}, 400, "Enter a search first."),
        ({"line": "queue:held", "action": ""}, 400, "Choose what to do with them."),
        ({"line": "queue:held", "action": "burn"}, 400, "Choose what to do with them."),
        ({"line": "x" * 5000, "action": "hold"}, 400, "at most 4096 are read"),
    ],
)
def test_what_is_asked_wrongly_is_told(
    console: Console, visitor: Visitor, mail: list[int], fields: dict[str, str], status: int, says: str
) -> None:
    answer = visitor.submit("/console/plans", **fields)
    assert (answer.status_code, says in unescape(answer.text)) == (status, True), answer.text
    assert plan_book.latest(console.store.read_now().tx, 1) == []


def test_a_search_that_is_too_broad_is_told(
    console: Console, visitor: Visitor, mail: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broad(*given: object) -> None:
        raise SearchTooBroad("it would take more than 500 ms: give a third letter")

    monkeypatch.setattr("postroom.store.find.search.Searches.run", broad)
    new = seen(visitor, "/console/plans/new?line=zo")
    assert "It would take more than 500 ms: give a third letter." in new
    assert 'id="look"' not in new
    answer = visitor.submit("/console/plans", line="zo", action="hold")
    assert (answer.status_code, "give a third letter" in answer.text) == (422, True)


def test_a_role_is_limited_and_does_not_reach_held_mail(console: Console, visitor: Visitor, mail: list[int]) -> None:
    console.store.act_now(Action.HOLD, [mail[0]], actor="test")
    full = make(visitor, "queue:held", "release")
    as_role(console, visitor, PROCESSING_READ, PROCESSING_EDIT, limit=2)
    answer = visitor.submit("/console/plans", line="queue:processing|delivery is:waiting", action="hold")
    assert answer.status_code == 303
    room = Mailroom(console.store, console.clock)
    for _ in range(3):
        room.take()
    answer = visitor.submit("/console/plans", line="queue:processing is:waiting", action="hold")
    assert (answer.status_code, "one plan of yours may have 2" in answer.text) == (409, True)
    new = seen(visitor, "/console/plans/new?line=is:waiting")
    assert f"Your role does not have “{HELD_EDIT}”." in new
    assert "<strong>5</strong> messages match" in new  # what is held is not counted for who may not see it
    barred = seen(visitor, make(visitor, "queue:held", "release"))
    assert shares(barred) == {"Not permitted to you": "1"}
    assert 'id="apply"' not in barred
    looked = seen(visitor, full)
    assert HOSTILE.partition(" ")[0] not in looked
    assert shares(looked) == {"Held": "1"}  # no sender and no destination of it either
    refused = apply(visitor, full)
    assert f"Not allowed.</strong> This plan has held entries: they need the permission '{HELD_EDIT}'" in refused
    assert visitor.submit(f"{full}/discard").headers["location"] == full
    assert "Not allowed.</strong> This plan has held entries" in seen(visitor, full)
    assert queues(console, mail)[0] is Queue.HELD


def test_who_may_not_is_refused_at_each_step(console: Console, visitor: Visitor, mail: list[int]) -> None:
    plan = make(visitor, "queue:processing", "hold")
    steps = [("/console/plans", {"line": "queue:processing", "action": "hold"}),
             *[(f"{plan}/{verb}", {"reason": "x"}) for verb in ("apply", "undo", "discard")]]  # fmt: skip
    for path, fields in steps:
        assert visitor.post(path, data={**fields, "token": "0" * 64}).status_code == 403
        assert visitor.submit(path, headers={"sec-fetch-site": "cross-site"}, **fields).status_code == 403
        assert visitor.get(path).status_code == (200 if path == "/console/plans" else 404)
    as_role(console, visitor, PROCESSING_READ, HELD_READ, HELD_EDIT)
    assert "acts-all" not in visitor.page("/console/").text
    shown = seen(visitor, plan)
    assert "Your role cannot apply it." in shown
    assert "<form" not in shown.partition("<main")[2]
    assert "New plan" not in seen(visitor, "/console/plans")
    assert visitor.page("/console/plans/new").status_code == 403
    for path, fields in steps:
        answer = visitor.submit(path, **fields)
        assert (answer.status_code, PROCESSING_EDIT in answer.text) == (403, True)
    visitor.cookies.clear()
    assert visitor.page(plan).headers["location"] == f"/console/login?next={plan.replace('/', '%2F')}"
    visitor.page("/console/login")
    for path, fields in steps:
        assert visitor.submit(path, **fields).headers["location"].startswith("/console/login")
    assert queues(console, mail) == [Queue.PROCESSING] * 4
    assert visitor.log_in(next=plan).headers["location"] == plan


def test_plans_are_listed_newest_first_page_by_page(
    console: Console, visitor: Visitor, mail: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("postroom.http.console.planning.PAGE", 2)
    assert "No plans yet" in seen(visitor, "/console/plans")
    made = [make(visitor, "queue:processing", action) for action in ("hold", "delete", "bounce")]
    first = seen(visitor, "/console/plans")
    assert re.findall(r'<a href="(/console/plans/\w+)" data-key="p-', first) == [made[2], made[1]]
    older = re.search(r'href="([^"]+)" rel="next"', first)
    assert older is not None
    second = seen(visitor, older[1])
    assert re.findall(r'<a href="(/console/plans/\w+)" data-key="p-', second) == [made[0]]
    assert visitor.page("/console/plans?before=zz").status_code == 400
    for wrong in ("/console/plans/1f", "/console/plans/zz"):
        assert visitor.page(wrong).status_code == 404
    refused = visitor.submit("/console/plans/1f/apply", reason="x")
    assert visitor.page(refused.headers["location"]).status_code == 404


lines = st.builds(
    Listing,
    queue=st.sampled_from(Queue),
    text=st.sampled_from(
        (
            "", "report", "from:alice age>10m", '-bob "a b" x', "route:inbound|internal", "since:2h to:*@x.example",
            "a*b 192.0.2.0/24",
        )
    ),
    field=st.sampled_from(Field),
    route=st.none() | st.sampled_from(Route),
    attachment=st.none() | st.booleans(),
    window=st.sampled_from(("", CUSTOM, *WINDOWS)),
    since=st.none() | st.just(NOW - HOUR),
    until=st.none() | st.just(NOW - MINUTE),
)  # fmt: skip


@given(lines)
def test_the_line_of_a_page_means_what_the_page_shows(listing: Listing) -> None:
    with suppress(QueryProblem):  # nothing could match: such a page offers no plan
        wanted = listing.filter(NOW)
        assert parse(plan_words.line(listing, NOW), NOW) == wanted


def test_the_line_of_a_page_stays_as_it_was_typed() -> None:
    listing = Listing(text="from:alice age>10m", route=Route.INBOUND, attachment=True, window="over-1h")
    assert plan_words.line(listing, NOW) == "from:alice age>10m queue:processing route:inbound has:attachment until:1h"


def test_an_action_is_offered_where_it_can_do_something() -> None:
    settings = Settings().plans

    def offered(*queues: Queue) -> str:
        return " ".join([choice.value for choice in plan_words.choices(Filter(queues=queues), "", settings)])

    assert offered(Queue.HELD) == "release reject bounce delete"
    assert offered(Queue.SYSTEM) == "retry hold reject delete"
    assert offered(Queue.BULK) == "retry hold reject bounce delete unbulk"
    assert offered(Queue.BULK, Queue.HELD) == "retry hold release reject bounce delete unbulk"
    assert offered() == " ".join([action.value for action in Action])
    assert set(plan_words.STATES) >= set(plan_book.UNDER_WAY)


def test_time_left_reads_as_the_script_counts() -> None:
    spans = (0, -5, 1, SECOND, 14 * MINUTE + 58 * SECOND, HOUR, HOUR + 2 * MINUTE + 3 * SECOND)
    assert [plan_words.left_text(span) for span in spans] == [
        "0:00", "0:00", "0:01", "0:01", "14:58", "1:00:00", "1:02:03",
    ]  # fmt: skip


@pytest.fixture
def kept(console: Console) -> Jobs:
    return Jobs(console.clock, console.log)


async def test_what_stopped_a_job_is_told_to_whom_it_concerns_and_not_for_ever(console: Console, kept: Jobs) -> None:
    async def refused() -> object:
        raise PlanProblem(409, "refused", "too much has changed")

    async def broken() -> object:
        raise RuntimeError("a bug")

    job = await kept.begin("1f", EMAIL, refused())  # type: ignore[arg-type]
    assert job.problem is not None
    assert jobs.banner(job.problem) == Banner("bad", "Refused.", "Too much has changed.")
    assert kept.find("1f", EMAIL) is job
    assert kept.find("1f", "other@corp.example") is None
    console.clock.move(jobs.KEPT)
    assert kept.find("1f", EMAIL) is None
    job = await kept.begin("2f", EMAIL, broken())  # type: ignore[arg-type]
    assert job.problem is not None
    assert "The gateway's log says why." in jobs.banner(job.problem).text
    console.log.flush()
    assert 'console_plan_stopped problem="RuntimeError: a bug"' in console.logged.getvalue()


async def test_jobs_that_run_are_never_forgotten(kept: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "SOON", 0.0)
    monkeypatch.setattr(jobs, "MOST", 1)
    gate = asyncio.Event()

    async def waits() -> object:
        return await gate.wait()

    first = await kept.begin("1", EMAIL, waits())  # type: ignore[arg-type]
    assert kept.running("1")
    assert first.problem is None
    for number in range(2, 5):
        await kept.begin(str(number), EMAIL, waits())  # type: ignore[arg-type]
    assert kept.find("1", EMAIL) is first
    gate.set()
    await first.task
    assert not kept.running("1")
    last = [await kept.begin(str(number), EMAIL, waits()) for number in range(5, 8)][-1]  # type: ignore[arg-type]
    await last.task
    assert kept.find("1", EMAIL) is None


def test_a_plan_stands_still_when_nobody_has_seen_it_move(console: Console, kept: Jobs) -> None:
    assert not kept.stands_still("1f", 5)
    console.clock.move(jobs.STILL - 1)
    assert not kept.stands_still("1f", 5)
    console.clock.move(1)
    assert kept.stands_still("1f", 5)
    assert not kept.stands_still("1f", 6)


def test_a_damaged_plan_is_told_beside_the_others(console: Console, visitor: Visitor, mail: list[int]) -> None:
    sound, hurt = make(visitor, "subject:3", "hold"), make(visitor, "subject:1", "delete")
    apply(visitor, hurt)

    def spoil(summary: bytes) -> None:
        name = hurt.rpartition("/")[2]
        console.store.write_now(
            lambda tx: tx.rows("UPDATE plan SET summary = ? WHERE id = ?", (summary, int(name, 16)))
        )

    spoil(b'{"queues": [{"name": "cellar", "entries": 1}]}')  # readable, but no queue that there is
    text = seen(visitor, "/console/plans")
    assert f"Plan {hurt.rpartition('/')[2]} is damaged (summary)" in text
    assert f'href="{sound}"' in text
    assert f'href="{hurt}"' not in text
    for answer in (visitor.page(hurt), visitor.page(visitor.submit(f"{hurt}/undo").headers["location"])):
        assert answer.status_code == 409
        assert "postroom verify --repair closes it" in answer.text
    spoil(b"")
    assert state(undo(visitor, hurt)) == "Undone"
