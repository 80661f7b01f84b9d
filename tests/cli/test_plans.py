"""`postroom queue plan | apply | undo | plans`: a preview, the act, the way back, and what is refused."""

from __future__ import annotations

import pytest

from postroom.cli.place import actor
from postroom.ids import public_id
from postroom.model import Action, Queue
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
    assert "1 entry could not be taken back" in undone.stderr


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["plan", "hold"], 2, "say which entries to hold"),
        (["plan", "burn", "queue:held"], 2, "'burn' is not one of"),
        (["plan", "hold", "colour:red"], 2, "colour"),
        (["plan", "hold", "queue:delivery", "--notify"], 2, "only a rejection asks"),
        (["plan", "hold", "queue:delivery", "--limit", "1"], 2, "a plan has all that match"),
        (["plan", "hold", "nobodywrotethis"], 1, "nothing that this could be done to matches"),
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
