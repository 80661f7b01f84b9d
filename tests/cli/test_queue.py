"""`postroom queue list | count | show` against a store that a gateway holds open."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from postroom.cli import main
from postroom.cli.query import PAGE
from postroom.model import Queue, Scope
from tests.cli.conftest import Gateway, Mail, Shell, ids

ENTRY_KEYS = [
    "id", "messageId", "queue", "fromQueue", "route", "priority", "sender", "recipient", "recipientName", "fromAddress",
    "fromName", "to", "subject", "ip", "size", "attachment", "info", "attempts", "accepted", "nextAttempt",
    "lockedUntil", "maybeDelivered", "suspect",
]  # fmt: skip


def test_an_empty_queue_is_no_failure_but_a_filter_without_a_match_is(postroom: Shell) -> None:
    listed = postroom("queue", "list")
    assert (listed.exit_code, listed.stdout, listed.stderr) == (0, "", "the queue is empty\n")
    filtered = postroom("queue", "list", "--queue", "held")
    assert (filtered.exit_code, filtered.stdout) == (1, "")
    assert filtered.stderr == "postroom: nothing in the queue matches\n"
    assert postroom.json("queue", "list") == []
    assert postroom.json("queue", "list", "nobody", exit_code=1) == []


def test_the_list_shows_each_entry_with_what_happens_next_and_why(postroom: Shell, mail: Mail) -> None:
    lines = postroom("queue", "list").stdout.splitlines()
    assert lines[0].split() == ["ID", "QUEUE", "ACCEPTED", "AGE", "FROM", "TO", "SUBJECT", "TRIES", "NEXT", "WHY"]
    assert [line.split()[0] for line in lines[1:]] == ids(*reversed(mail.all))
    notice, working, maybe, deferred, waiting = lines[1:]
    assert " system " in notice
    assert " <> " in notice
    assert " working " in working
    assert "maybe delivered: connection lost after the final dot" in maybe
    assert "(in 4m)" in deferred
    assert "451 4.3.2 try again later" in deferred
    assert " now " in waiting


def test_what_a_message_says_cannot_speak_to_the_terminal(postroom: Shell, mail: Mail) -> None:
    for command in (("queue", "list"), ("queue", "list", "--json"), ("queue", "show", *ids(mail.notice))):
        output = postroom(*command).stdout
        assert not {"\x1b", "\x07", "\u202e"} & set(output), command
    (entry,) = postroom.json("queue", "list", "--queue", "system")
    assert entry["subject"].endswith("\u202e")


def test_json_has_the_documented_keys(postroom: Shell, mail: Mail) -> None:
    entries = postroom.json("queue", "list", "--order", "oldest")
    assert [entry["id"] for entry in entries] == ids(*mail.all)
    assert all(list(entry) == ENTRY_KEYS for entry in entries)
    deferred, working = entries[1], entries[3]
    assert deferred["queue"] == "delivery"
    assert deferred["nextAttempt"] > deferred["accepted"]
    assert deferred["lockedUntil"] is None
    assert working["lockedUntil"] > working["accepted"]
    assert [entry["maybeDelivered"] for entry in entries] == [False, False, True, False, False]
    page = (Path(__file__).parents[2] / "docs/operations.md").read_text()
    assert all(f"`{key}`" in page for key in ENTRY_KEYS)


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (["--queue", "delivery"], ["deferred", "maybe"]),
        (["--queue", "delivery", "--queue", "system"], ["deferred", "maybe", "notice"]),
        (["--route", "outbound"], ["deferred"]),
        (["--attachment"], ["deferred"]),
        (["--no-attachment", "--queue", "delivery"], ["maybe"]),
        (["--from", "DAVE@"], ["deferred", "maybe"]),
        (["--from", "äpfel", "--to", "carol"], ["deferred"]),
        (["--from", "carol"], []),
        (["--to", "example.org"], ["deferred"]),
        (["--subject", "invoice"], ["deferred", "maybe"]),
        (["--subject", "invoice", "--info", "dot"], ["maybe"]),
        (["--info", "451"], ["deferred"]),
        (["--ip", "192.0.2.7"], ["waiting", "maybe"]),
        (["--ip", "192.0.2."], ["waiting", "deferred", "maybe"]),
        (["--ip", "192.0.2.64/26"], ["deferred"]),
        (["--ip", "2001:0DB8::/32"], ["working"]),
        (["invoice"], ["deferred", "maybe"]),
        (["invoice", "erin"], ["maybe"]),
        (["invoice 8"], ["maybe"]),
        (['"8 invoice"'], []),
        (["final DOT"], ["maybe"]),
        (["from:dave -subject:7"], ["maybe"]),
        (["from:dave", "-subject:7"], ["maybe"]),
        (["-from:alice@", "-queue:system", "--order", "newest"], ["maybe", "deferred"]),
        (["queue:delivery|system", "--from", "dave"], ["deferred", "maybe"]),
        (["to:*@example.org has:attachment attempts>=1"], ["deferred"]),
        (["is:locked"], ["working"]),
        (["is:waiting label:maybe-delivered"], ["maybe"]),
        (["is:due"], ["waiting", "notice"]),
        (["next>1m next<1h"], ["deferred", "maybe"]),
        (["age>1h"], []),
        (["age<1h size<1KiB ip:2001:db8::/32"], ["working"]),
        (["error:451"], ["deferred"]),
        (["--since", "1 hour"], ["waiting", "deferred", "maybe", "working", "notice"]),
        (["--until", "1 hour"], []),
        (["--since", "2020-01-01", "--until", "2020-01-02 10:00Z"], []),
        (["--queue", "delivery", "--limit", "1"], ["deferred"]),
        (["--from", "dave", "--info", "t", "--limit", "1"], ["deferred"]),
    ],
)
def test_everything_given_must_hold(postroom: Shell, mail: Mail, options: list[str], found: list[str]) -> None:
    entries = postroom.json("queue", "list", "--order", "oldest", *options, exit_code=0 if found else 1)
    assert [entry["id"] for entry in entries] == ids(*[getattr(mail, name) for name in found])
    if "--limit" not in options:
        counted = postroom.json("queue", "count", *options, exit_code=0 if found else 1)
        assert counted["total"] == len(found)
        assert sum(queue["entries"] for queue in counted["queues"].values()) == len(found)


def test_ids_list_just_those(postroom: Shell, mail: Mail) -> None:
    wanted = ids(mail.maybe, mail.waiting)
    assert [entry["id"] for entry in postroom.json("queue", "list", *wanted)] == wanted
    assert postroom.json("queue", "count", *wanted)["total"] == 2
    missing = postroom("queue", "list", "00000000000000ff")
    assert missing.exit_code == 1
    assert "none of these ids is in the queue; postroom queue show ID also searches the history" in missing.stderr


def test_a_long_list_is_read_page_by_page_and_says_what_it_leaves_out(gateway: Gateway, postroom: Shell) -> None:
    made: list[int] = []
    for number in range(3):
        made += gateway.accept(*[f"r{number}-{part}@example.org" for part in range(PAGE // 2)])
    for order, expected in (("oldest", made), ("newest", made[::-1])):
        entries = postroom.json("queue", "list", "--limit", "0", "--order", order)
        assert [entry["id"] for entry in entries] == ids(*expected)
    entries = postroom.json("queue", "list", "--to", "r2-", "--from", "alice", "--limit", "0", "--order", "oldest")
    assert [entry["id"] for entry in entries] == ids(*made[PAGE:])
    shown = postroom("queue", "list")
    assert len(shown.stdout.splitlines()) == 51
    assert shown.stderr == "50 of 1,500 shown; --limit 0 for all\n"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["has:attachment", "--no-attachment"], "words and options together: with and without an attachment"),
        (["queue:held", "--queue", "system"], "words and options together: no queue is left that this could match"),
        (["--since", "yesterday"], "--since: expected a time like"),
        (["--until", "5 minuts"], 'did you mean "5 minutes"?'),
        (["--since", "25:00"], "--since: expected a time like"),
        (["--ip", "192.0.2.0/99"], "--ip: '192.0.2.0/99' is not a network"),
        (["--subject", ""], "--subject: expected 1 to 256 characters, got 0"),
        (["x" * 257], "expected a text of 1 to 256 characters, found 257"),
        (["0123456789abcdef", "word"], "give either ids or words to search for, not both: 'word' is not an id"),
        (["0123456789abcdef", "--queue", "held"], "give either ids or a filter, not both"),
        (["ffffffffffffffff"], "is not an id"),
        (["--queue", "nowhere"], "'nowhere' is not one of"),
    ],
)
def test_a_wrong_query_is_refused_with_what_is_right(postroom: Shell, options: list[str], said: str) -> None:
    for command in ("list", "count", "hold"):
        refused = postroom("queue", command, *options)
        assert refused.exit_code == 2
        assert said in refused.stderr
        assert refused.stdout == ""


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["report form:alice"], ["no field is called 'form'", "  report form:alice", "         ^ did you mean from:?"]),
        (["report", "-form:alice", "age:10m"], None),
        (["age:10m"], ["age is a number: compare it", "  age:10m", "  ^ did you mean age>10m?"]),
        (['from:"alice'], ['a quote is opened and not closed: add "', '  from:"alice', "       ^"]),
        (["日本 \x1b[31m queue:heldd"], [
            "queue: 'heldd' is not one of processing, bulk_processing, delivery, held, system",
            "  日本  [31m queue:heldd", "             ^ did you mean queue:held?",
        ]),
        (["x" * 200 + " is:late"], [
            "is: 'late' is not one of locked, waiting, due, tried", f"  {'x' * 59} is:late", f"  {' ' * 60}^",
        ]),
    ],
)  # fmt: skip
def test_a_wrong_query_is_shown_with_a_mark_under_the_place(
    postroom: Shell, mail: Mail, words: list[str], shown: list[str] | None
) -> None:
    for command in ("list", "count", "retry"):
        refused = postroom("queue", command, *words)
        assert (refused.exit_code, refused.stdout) == (2, "")
        if shown is not None:
            said = refused.stderr.partition("Error: ")[2].splitlines()
            assert said[0].startswith(shown[0])
            assert [line.rstrip() for line in said[1:]] == shown[1:]


def test_an_action_takes_the_language(postroom: Shell, mail: Mail) -> None:
    held = postroom.json("queue", "hold", "from:dave attempts>=1", "-to:erin", "--yes")
    assert held["done"] == ids(mail.deferred)
    assert postroom.json("queue", "count", "queue:held")["total"] == 1


def test_count_tells_each_queue_who_works_and_what_is_paused(gateway: Gateway, postroom: Shell, mail: Mail) -> None:
    gateway.store.pause_now(Scope.DELIVERY, actor="test")
    shown = postroom("queue", "count")
    table = [line.split() for line in shown.stdout.splitlines()]
    assert table[0] == ["QUEUE", "ENTRIES", "WORKING", "OLDEST"]
    assert [row[:3] for row in table[1:]] == [
        ["processing", "2", "1"], ["bulk_processing", "0", "0"], ["delivery", "2", "0"], ["held", "0", "0"],
        ["system", "1", "0"], ["total", "5", "1"],
    ]  # fmt: skip
    assert "delivery is paused since" in shown.stderr
    counted = postroom.json("queue", "count")
    assert counted["total"] == 5
    assert counted["queues"]["held"] == {"entries": 0, "working": 0, "oldest": None}
    assert counted["paused"]["processing"] is None
    assert counted["paused"]["delivery"].endswith("Z")
    narrowed = postroom("queue", "count", "--from", "dave")
    assert [line.split()[:2] for line in narrowed.stdout.splitlines()] == [["QUEUE", "ENTRIES"], ["delivery", "2"]]


def test_show_tells_everything_about_a_waiting_entry(postroom: Shell, mail: Mail) -> None:
    shown = postroom("queue", "show", *ids(mail.maybe)).stdout
    for expected in (
        f"entry {ids(mail.maybe)[0]}", "in delivery, next attempt at", "connection lost after the final dot",
        "may have been delivered", "dave@corp.example", "erin@example.net (Bob)", "Alice Äpfel <dave@corp.example>",
        "Invoice 8", "<1@corp.example>", "192.0.2.7 (client.example, HELO client.example, in clear)", "no attachment",
        "accepted", "deferred",
    ):  # fmt: skip
        assert expected in shown
    (document,) = postroom.json("queue", "show", *ids(mail.maybe))
    assert list(document) == [*ENTRY_KEYS, "state", "message", "events"]
    assert document["events"][0]["kind"] == "accepted"
    assert document["message"]["client"]["ip"] == "192.0.2.7"


@pytest.mark.parametrize(
    ("name", "state"),
    [
        ("waiting", "in processing, due now"), ("working", "in processing, locked by a worker until"),
        ("notice", "in system, due now"),
    ],
)  # fmt: skip
def test_show_says_what_happens_next(postroom: Shell, mail: Mail, name: str, state: str) -> None:
    assert state in postroom("queue", "show", *ids(getattr(mail, name))).stdout


def test_show_names_the_pause_that_an_entry_waits_for(gateway: Gateway, postroom: Shell, mail: Mail) -> None:
    gateway.store.pause_now(Scope.PROCESSING, actor="test")
    shown = postroom("queue", "show", *ids(mail.waiting)).stdout
    assert "in processing; processing is paused since" in shown
    assert "postroom queue resume processing" in shown


def test_show_finds_what_has_ended(gateway: Gateway, postroom: Shell) -> None:
    (entry,) = gateway.accept("bob@corp.example", leased=True)
    waiting = gateway.store.read_now().entry(entry)
    assert waiting is not None
    gateway.deliver(entry, waiting.message_id, "250 2.0.0 Ok: queued as 1")
    shown = postroom("queue", "show", *ids(entry)).stdout
    assert "delivered" in shown
    assert "250 2.0.0 Ok: queued as 1" in shown
    (document,) = postroom.json("queue", "show", *ids(entry))
    assert (document["outcome"], document["state"]) == ("delivered", "delivered")
    assert [event["kind"] for event in document["events"]][-1] == "delivered"


def test_show_shows_what_it_finds_and_names_what_it_does_not(postroom: Shell, mail: Mail) -> None:
    result = postroom("queue", "show", "00000000000000ff", *ids(mail.waiting))
    assert result.exit_code == 1
    assert f"entry {ids(mail.waiting)[0]}" in result.stdout
    assert "neither in the queue nor in the history: ff" in result.stderr
    wrong = postroom("queue", "show", "not-an-id")
    assert wrong.exit_code == 2
    assert "'not-an-id' is not an id" in wrong.stderr


def test_without_a_store_the_remedy_is_named(tmp_path: Path) -> None:
    for command in (["queue", "list"], ["queue", "pause", "delivery"], ["app", "list"]):
        result = CliRunner().invoke(main, [*command, "--data", str(tmp_path / "nowhere")])
        assert result.exit_code == 1
        assert result.stderr.startswith("postroom: no store at ")
        assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "nowhere").exists()


def test_a_file_that_is_no_store_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "postroom.db").write_bytes(b"not a database at all, but long enough to be read as one" * 20)
    result = CliRunner().invoke(main, ["queue", "list", "--data", str(tmp_path)])
    assert result.exit_code == 1
    assert "is not a Postroom store" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_store_of_a_newer_release_is_refused_in_one_line(gateway: Gateway, postroom: Shell) -> None:
    gateway.store.write_now(lambda tx: tx.rows("PRAGMA user_version=999"))
    result = postroom("queue", "list")
    assert result.exit_code == 1
    assert "has schema 999" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_every_queue_has_its_place_in_the_count(postroom: Shell) -> None:
    assert list(postroom.json("queue", "count")["queues"]) == [queue.value for queue in Queue]
