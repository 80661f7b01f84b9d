"""`postroom queue plan | apply | undo | plans`: a preview, the act, the way back, and what is refused."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from postroom.cli.place import actor
from postroom.clock import SystemClock
from postroom.ids import public_id
from postroom.model import Action, Queue
from postroom.store.plans import commands as plans
from postroom.store.plans.run import run_now
from tests.cli.conftest import Gateway, Mail, Shell, ids
from tests.cli.test_actions import queue_of


def made(postroom: Shell, *words: str) -> str:
    return str(postroom.json("queue", "plan", *words)["id"])


def test_plan_apply_and_undo(gateway: Gateway, postroom: Shell, mail: Mail) -> None:
    shown = postroom("queue", "plan", "hold", "from:dave")
    assert shown.exit_code == 0
    assert "hold 2 entries" in shown.stdout
    assert "in: delivery (2)" in shown.stdout
    assert "example.org (1)" in shown.stdout
    assert "Invoice 7" in shown.stdout
    assert queue_of(gateway, mail.deferred) is Queue.DELIVERY
    (listed,) = postroom.json("queue", "plans")
    ident = listed["id"]
    assert f"postroom queue apply {ident} --reason" in shown.stdout
    applied = postroom("queue", "apply", ident, "--reason", "asked for by legal")
    assert applied.exit_code == 0
    assert "2 entries done" in applied.stdout
    assert f"postroom queue undo {ident}" in applied.stdout
    assert queue_of(gateway, mail.deferred) is queue_of(gateway, mail.maybe) is Queue.HELD
    event = gateway.store.read_now().events(mail.deferred)[-1]
    assert (event.kind, event.info, event.actor) == ("held", "Held by a person: asked for by legal", actor())
    undone = postroom("queue", "undo", ident)
    assert undone.exit_code == 0
    assert queue_of(gateway, mail.deferred) is Queue.DELIVERY
    report = postroom.json("queue", "plans", ident)
    assert (report["state"], report["undone"], report["kept"]) == ("undone", 2, 0)
    assert (report["actor"], report["reason"], report["query"]) == (actor(), "asked for by legal", "from:dave")


def test_deleted_mail_is_out_of_sight_until_it_is_taken_back(gateway: Gateway, postroom: Shell, mail: Mail) -> None:
    ident = made(postroom, "delete", *ids(mail.waiting, mail.notice))
    postroom("queue", "apply", ident, "--reason", "junk")
    assert [entry["id"] for entry in postroom.json("queue", "list", "--order", "oldest")] == ids(
        mail.deferred, mail.maybe, mail.working
    )
    ledger = postroom.json("ledger")
    assert (ledger["difference"], ledger["queued"]["leaving"]) == (0, 2)
    refused = postroom("queue", "release", *ids(mail.waiting))
    assert refused.exit_code == 1
    assert "undo the plan to keep it" in refused.stdout
    assert postroom("queue", "undo", ident).exit_code == 0
    assert len(postroom.json("queue", "list")) == 5


def test_what_is_left_out_and_what_is_left_alone_is_told(gateway: Gateway, postroom: Shell, mail: Mail) -> None:
    shown = postroom("queue", "plan", "reject", "from:corp.example", "--notify")
    assert "left out: being worked on just now: hold it first, or try again (1)" in shown.stdout
    ident = made(postroom, "hold", "queue:delivery")
    gateway.store.act_now(Action.RETRY, [mail.deferred], actor="ann")
    refused = postroom("queue", "apply", ident, "--reason", "x")
    assert refused.exit_code == 1
    assert "1 of 2 entries have changed since they were planned" in refused.stderr
    ident = made(postroom, "hold", "queue:delivery")
    assert postroom("queue", "apply", ident, "--reason", "x").exit_code == 0
    gateway.store.act_now(Action.RELEASE, [mail.maybe], actor="ann")
    undone = postroom("queue", "undo", ident)
    assert undone.exit_code == 1
    assert f"{public_id(mail.maybe)}  something has happened to it since" in undone.stdout
    assert "1 entry could not be restored" in undone.stderr


@pytest.mark.parametrize("action", ["reject", "bounce", "delete"])
def test_what_ends_entries_is_a_plan_of_its_own_that_can_be_undone(
    gateway: Gateway, postroom: Shell, mail: Mail, action: str
) -> None:
    shown = postroom("queue", action, *ids(mail.waiting, mail.deferred), "--reason", "a test")
    assert shown.exit_code == 0, shown.output
    assert "2 entries done" in shown.stdout
    assert len(postroom.json("queue", "list")) == 3
    reader = gateway.store.read_now()
    assert reader.leaving() == 2
    assert reader.queue_counts()[Queue.SYSTEM] == 1, "nobody is told before the window is over"
    (listed,) = postroom.json("queue", "plans")
    assert (listed["action"], listed["state"], listed["reason"]) == (action, "applied", "a test")
    assert f"postroom queue undo {listed['id']}" in shown.stdout
    assert postroom("queue", "undo", listed["id"]).exit_code == 0
    assert queue_of(gateway, mail.waiting) is Queue.PROCESSING
    assert queue_of(gateway, mail.deferred) is Queue.DELIVERY


def test_reject_tells_the_sender_when_asked_after_the_undo_window(
    gateway: Gateway, postroom: Shell, mail: Mail
) -> None:
    plan = postroom.json("queue", "reject", *ids(mail.waiting), "--notify", "--message", "against policy")
    assert (plan["action"], plan["notify"], plan["reason"], plan["done"]) == ("reject", True, "against policy", 1)
    gateway.store.write_now(lambda tx: tx.rows("UPDATE plan SET undo_until = 1"))
    run_now(gateway.store, plans.look_after(gateway.store, SystemClock(), 0))
    ended = gateway.store.read_now().ended(mail.waiting)
    assert ended is not None
    assert "against policy" in ended.reply
    assert gateway.store.read_now().queue_counts()[Queue.SYSTEM] == 2


def test_of_several_ids_what_cannot_be_bounced_is_told_and_the_rest_is_done(postroom: Shell, mail: Mail) -> None:
    told = postroom("queue", "bounce", *ids(mail.waiting, mail.working, mail.notice), "--reason", "x")
    assert told.exit_code == 1
    assert "1 entry done" in told.stdout
    assert "being worked on just now: hold it first, or try again (1)" in told.stdout
    assert "null sender: there is nobody to return it to (1)" in told.stdout
    assert "2 entries refused" in told.stderr
    gone = postroom("queue", "delete", *ids(mail.deferred), "00000000000000ff", "--reason", "x")
    assert (gone.exit_code, "1 entry not in the queue" in gone.stderr) == (1, True)
    assert len(postroom.json("queue", "list")) == 3


def test_a_query_is_shown_and_asked_about_and_a_no_does_nothing(
    postroom: Shell, mail: Mail, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = postroom("queue", "delete", "from:dave", "--reason", "x")
    assert (alone.exit_code, "add --yes to delete what the query matches" in alone.stderr) == (2, True)
    assert postroom.json("queue", "plans") == []
    somebody = SimpleNamespace(stdin=SimpleNamespace(isatty=lambda: True), stderr=sys.stderr)
    monkeypatch.setattr("postroom.cli.plans.sys", somebody)
    no = postroom("queue", "delete", "from:dave", "--reason", "x", input="n\n")
    assert no.exit_code == 1
    assert "in: delivery (2)" in no.stderr
    assert "Invoice 7" in no.stderr
    assert "Delete 2 entries?" in no.stderr
    assert len(postroom.json("queue", "list")) == 5
    (refused,) = postroom.json("queue", "plans")
    assert refused["state"] == "expired"
    yes = postroom("queue", "delete", "from:dave", "--reason", "x", input="y\n")
    assert (yes.exit_code, "2 entries done" in yes.stdout) == (0, True)
    assert len(postroom.json("queue", "list")) == 3
    (applied, _) = postroom.json("queue", "plans")
    assert (applied["query"], applied["state"], applied["done"]) == ("from:dave", "applied", 2)


def test_a_script_says_yes_and_reads_the_plan(postroom: Shell, mail: Mail) -> None:
    done = postroom.json("queue", "bounce", "queue:delivery", "--reason", "closed", "--yes")
    assert (done["action"], done["state"], done["done"], done["skipped"]) == ("bounce", "applied", 2, 0)
    nothing = postroom("queue", "bounce", "nobodywrotethis", "--reason", "x", "--yes")
    assert (nothing.exit_code, "nothing matches that this action applies to" in nothing.stderr) == (1, True)


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["plan", "hold"], 2, "which entries to hold"),
        (["plan", "burn", "queue:held"], 2, "'burn' is not one of"),
        (["plan", "hold", "colour:red"], 2, "colour"),
        (["plan", "hold", "queue:delivery", "--notify"], 2, "--notify: only for reject"),
        (["plan", "hold", "queue:delivery", "--limit", "1"], 2, "a plan takes every entry that matches"),
        (["plan", "hold", "nobodywrotethis"], 1, "nothing matches that this action applies to"),
        (["bounce", "--reason", "x"], 2, "which entries to bounce"),
        (["reject", "--reason", "x"], 2, "which entries to reject"),
        (["reject", "queue:held", "--yes"], 2, "Missing option '--reason'"),
        (["delete", "queue:held", "--yes"], 2, "Missing option '--reason'"),
        (["delete", "queue:held", "--yes", "--reason", "\x07"], 2, "1 to 200 printable"),
        (
            ["delete", "queue:delivery", "--yes", "--reason", "x", "--limit", "1"],
            2,
            "a plan takes every entry that matches",
        ),
        (["apply", "1a2b3c4d5e600001", "--reason", "x"], 1, "no plan 1a2b3c4d5e600001"),
        (["apply", "xyz!", "--reason", "x"], 2, "is not an id"),
        (["apply", "1a2b3c4d5e600001"], 2, "Missing option '--reason'"),
        (["apply", "1a2b3c4d5e600001", "--reason", " "], 2, "1 to 200 printable"),
        (["undo", "1a2b3c4d5e600001"], 1, "no plan 1a2b3c4d5e600001"),
    ],
)
def test_bad_input_is_named_and_nothing_is_done(
    postroom: Shell, mail: Mail, words: list[str], code: int, says: str
) -> None:
    before = postroom.json("queue", "list")
    result = postroom("queue", *words)
    assert (result.exit_code, says in result.stderr) == (code, True), result.output
    assert postroom.json("queue", "list") == before


def test_plans_are_listed_for_people(postroom: Shell, mail: Mail) -> None:
    assert postroom("queue", "plans").stderr == "no plans\n"
    ident = made(postroom, "retry", "queue:delivery")
    assert ident in postroom("queue", "plans").stdout
