"""`postroom verify`: what it prints and how it exits, beside a store that a gateway holds open."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest

from postroom import facts
from postroom.cli.verify import NAMED, NUMBERED
from postroom.clock import SystemClock
from postroom.ids import public_id
from postroom.model import Client, Recipient, Route
from postroom.store.records import Accepted, NewMessage
from postroom.store.sqlite.writer import Batch
from postroom.store.verify.proof import KINDS
from tests.cli.conftest import Gateway, Shell

DATA = b"From: Alice <alice@corp.example>\r\nTo: bob@corp.example\r\nSubject: Lunch\r\n\r\nAt noon?\r\n"


def accept(gateway: Gateway) -> int:
    """Mail as reception describes it; its entry's id."""
    found = facts.scan(DATA)
    new = NewMessage(
        Client(ip="192.0.2.7"), "alice@corp.example", (Recipient("bob@corp.example", Route.INTERNAL),), found,
        len(DATA), SystemClock().now(), DATA, "", sha256(DATA[found.body_at :]).digest(),
    )  # fmt: skip
    answers: list[object] = []
    batch = Batch()
    batch.arrivals.append((new, None, answers.append))
    gateway.hand(batch)
    (answer,) = answers
    assert isinstance(answer, Accepted)
    return answer.entries[0]


def damage(gateway: Gateway, statement: str) -> None:
    gateway.store.write_now(lambda tx: tx.rows(statement))


def test_a_sound_store_is_told_in_two_lines(gateway: Gateway, postroom: Shell) -> None:
    accept(gateway)
    done = postroom("verify")
    assert (done.exit_code, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("checked ")
    assert lines[0].endswith(" a second, while the gateway was running")
    assert lines[1:] == ["everything agrees"]
    report = postroom.json("verify", "--deep")
    assert {
        "ok": True,
        "wrong": 0,
        "counts": {},
        "findings": [],
        "complete": True,
        "deep": True,
    }.items() <= report.items()
    assert report["serving"]


def test_each_kind_is_one_line_with_its_number_and_the_first_of_them(gateway: Gateway, postroom: Shell) -> None:
    entries = [accept(gateway) for _ in range(NAMED + 2)]
    damage(gateway, "UPDATE entry SET search = 'x'")
    damage(gateway, f"UPDATE entry SET subject = 'Dinner' WHERE id = {entries[0]}")
    done = postroom("verify")
    assert done.exit_code == 1
    lines = done.stdout.splitlines()
    assert lines[0] == "wrong: entries whose copied fields are not those of their message: 1"
    assert lines[1] == f"  {public_id(entries[0])}  not as in its message: subject='Dinner'"
    assert lines[2] == f"wrong: entries whose search text is not that of their fields: {NAMED + 2}"
    assert [line.split()[0] for line in lines[3 : 3 + NAMED]] == [public_id(entry) for entry in entries[:NAMED]]
    assert lines[3 + NAMED] == "  and 2 more; --json lists up to 10,000"
    assert "to repair: postroom verify --repair" in done.stderr
    assert done.stderr.endswith(f"postroom: {NAMED + 3} findings wrong\n")


def test_a_repair_tells_what_it_did_and_exits_0_when_nothing_is_left(gateway: Gateway, postroom: Shell) -> None:
    entry = accept(gateway)
    damage(gateway, "UPDATE entry SET search = 'x'")
    done = postroom("verify", "--repair")
    assert (done.exit_code, done.stderr) == (0, "")
    assert (
        f"  {public_id(entry)}  its search text is not that of its fields -> written again from its fields"
        in done.stdout
    )
    assert done.stdout.endswith("everything agrees, 1 finding repaired\n")
    assert postroom("verify").exit_code == 0


def test_what_is_left_exits_1_and_says_why(gateway: Gateway, postroom: Shell) -> None:
    entry = accept(gateway)
    damage(gateway, f"UPDATE entry SET lease = 7, locked_until = {SystemClock().now() + 60_000}")
    damage(gateway, "DELETE FROM body")
    report = postroom.json("verify", "--repair", exit_code=1)
    assert report["findings"] == [
        {
            "kind": "body-missing",
            "id": public_id(entry),
            "name": "",
            "what": "it has neither a row nor a file of bytes",
            "state": "left",
            "done": "it is being worked on: run this again",
        }
    ]
    assert postroom("verify", "--repair").stderr == "postroom: 1 finding left\n"


def test_what_a_message_holds_cannot_speak_to_the_terminal(gateway: Gateway, postroom: Shell) -> None:
    accept(gateway)
    damage(gateway, "UPDATE entry SET subject = 'Dinner' || char(27) || '[31m' || char(10) || 'x'")
    shown = postroom("verify").stdout
    assert "\x1b" not in shown
    assert "Dinner" in shown


def test_there_is_nothing_to_verify_where_there_is_no_store(postroom: Shell, tmp_path: Path) -> None:
    postroom.data = tmp_path / "nowhere"
    done = postroom("verify")
    assert done.exit_code == 1
    assert "no store at" in done.stderr


@pytest.mark.parametrize("kind", sorted(NUMBERED))
def test_kinds_without_an_id_are_kinds(kind: str) -> None:
    assert kind in KINDS
