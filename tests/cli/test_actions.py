"""`postroom queue retry | hold | release | pause | resume`: what they do, refuse and ask."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from postroom.cli.place import actor
from postroom.model import Queue, Scope
from tests.cli.conftest import Gateway, Mail, Shell, ids


@pytest.fixture
def on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if somebody sat there: CliRunner's streams say they are no terminal."""
    monkeypatch.setattr(
        "postroom.cli.actions.sys", SimpleNamespace(stdin=SimpleNamespace(isatty=lambda: True), stderr=sys.stderr)
    )


def queue_of(gateway: Gateway, entry: int) -> Queue:
    found = gateway.store.read_now().entry(entry)
    assert found is not None
    return found.queue


def test_hold_and_release_by_id_leave_their_events(gateway: Gateway, postroom: Shell, mail: Mail) -> None:
    held = postroom("queue", "hold", *ids(mail.waiting, mail.deferred), "--reason", "asked for by legal")
    assert (held.exit_code, held.stdout) == (0, "2 entries held\n")
    assert queue_of(gateway, mail.waiting) is Queue.HELD
    assert (
        "held until a person releases it (back to processing)" in postroom("queue", "show", *ids(mail.waiting)).stdout
    )
    released = postroom("queue", "release", *ids(mail.waiting))
    assert (released.exit_code, released.stdout) == (0, "1 entry released\n")
    assert queue_of(gateway, mail.waiting) is Queue.PROCESSING
    events = gateway.store.read_now().events(mail.waiting)
    assert [event.kind for event in events] == ["accepted", "held", "released"]
    assert "asked for by legal" in events[1].info
    assert events[1].actor == actor()
    assert actor().startswith("cli:")


def test_retry_makes_an_entry_due(gateway: Gateway, postroom: Shell, mail: Mail) -> None:
    assert postroom("queue", "retry", *ids(mail.deferred)).stdout == "1 entry due now\n"
    (entry,) = postroom.json("queue", "list", *ids(mail.deferred))
    assert entry["nextAttempt"] < postroom.json("queue", "list", *ids(mail.maybe))[0]["nextAttempt"]


def test_what_is_refused_is_told_with_its_reason_and_the_rest_is_done(postroom: Shell, mail: Mail) -> None:
    result = postroom("queue", "release", *ids(mail.waiting), "00000000000000ff")
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["REFUSED", "WHY"]
    assert lines[1].split(maxsplit=1) == [ids(mail.waiting)[0], "not held: it is in processing"]
    assert lines[2].split(maxsplit=1) == ["ff", "not in the queue: it has ended or never existed"]
    assert result.stderr == "postroom: 2 entries refused\n"
    report = postroom.json("queue", "hold", *ids(mail.waiting, mail.working), "00000000000000ff", exit_code=1)
    assert report == {
        "action": "hold",
        "done": ids(mail.waiting),
        "requested": ids(mail.working),
        "refused": [{"id": "ff", "why": "not in the queue: it has ended or never existed"}],
    }


def test_an_entry_in_work_takes_the_request(postroom: Shell, mail: Mail) -> None:
    result = postroom("queue", "hold", *ids(mail.working))
    assert (result.exit_code, result.stdout) == (
        0,
        "1 entry being worked on: held as soon as the worker is done\n",
    )


@pytest.mark.parametrize("action", ["retry", "hold", "release"])
def test_without_ids_and_filter_nothing_is_touched(postroom: Shell, mail: Mail, action: str) -> None:
    for options in ([], ["--yes"], ["--limit", "5", "--yes"]):
        result = postroom("queue", action, *options)
        assert result.exit_code == 2
        assert f"which entries to {action}" in result.stderr


def test_a_filter_needs_a_person_or_yes(gateway: Gateway, postroom: Shell, mail: Mail) -> None:
    result = postroom("queue", "hold", "--queue", "delivery")
    assert result.exit_code == 2
    assert "2 entries match, and there is no terminal to confirm on: add --yes to hold them" in result.stderr
    assert queue_of(gateway, mail.deferred) is Queue.DELIVERY
    assert postroom("queue", "hold", "--queue", "delivery", "--yes").stdout == "2 entries held\n"
    assert queue_of(gateway, mail.deferred) is Queue.HELD


@pytest.mark.usefixtures("on_a_terminal")
def test_on_a_terminal_the_count_is_asked_about(gateway: Gateway, postroom: Shell, mail: Mail) -> None:
    no = postroom("queue", "hold", "--from", "dave", input="n\n")
    assert no.exit_code == 1
    assert "Hold 2 entries? [y/N]" in no.stderr
    assert queue_of(gateway, mail.deferred) is Queue.DELIVERY
    yes = postroom("queue", "hold", "--from", "dave", input="y\n")
    assert (yes.exit_code, yes.stdout.splitlines()[-1]) == (0, "2 entries held")
    assert queue_of(gateway, mail.deferred) is Queue.HELD


def test_a_filter_without_a_match_changes_nothing(postroom: Shell, mail: Mail) -> None:
    result = postroom("queue", "retry", "--queue", "held", "--yes")
    assert (result.exit_code, result.stderr) == (1, "postroom: nothing in the queue matches\n")
    assert postroom.json("queue", "retry", "--queue", "held", "--yes", exit_code=1)["done"] == []


def test_a_limit_bounds_an_action(gateway: Gateway, postroom: Shell, mail: Mail) -> None:
    report = postroom.json("queue", "hold", "--queue", "delivery", "--order", "oldest", "--limit", "1", "--yes")
    assert report["done"] == ids(mail.deferred)


def test_thousands_are_acted_on_in_one_go(gateway: Gateway, postroom: Shell) -> None:
    made = gateway.accept(*[f"r{number}@example.org" for number in range(900)])
    made += gateway.accept(*[f"s{number}@example.org" for number in range(900)])
    assert postroom("queue", "hold", "--to", "example.org", "--yes").stdout == "1,800 entries held\n"
    assert gateway.store.read_now().queue_counts()[Queue.HELD] == len(made)
    few = postroom("queue", "hold", "--queue", "held", "--limit", "30", "--yes")
    assert few.exit_code == 1
    assert few.stdout.splitlines()[-1] == "and 10 more; --json lists all"


@pytest.mark.parametrize("reason", ["x" * 201, "two\nlines"])
def test_a_reason_is_one_short_line(postroom: Shell, mail: Mail, reason: str) -> None:
    result = postroom("queue", "hold", *ids(mail.waiting), "--reason", reason)
    assert result.exit_code == 2
    assert "--reason: expected at most 200 printable characters" in result.stderr


@pytest.mark.parametrize("scope", ["processing", "delivery"])
def test_pause_and_resume_may_be_said_twice(gateway: Gateway, postroom: Shell, scope: str) -> None:
    resume = f"mail is still accepted. To resume: postroom queue resume {scope}\n"
    assert postroom("queue", "pause", scope).stdout == f"{scope} is paused; {resume}"
    again = postroom("queue", "pause", scope)
    assert again.exit_code == 0
    assert again.stdout.startswith(f"{scope} is paused already, since ")
    assert set(gateway.store.read_now().pauses()) == {Scope(scope)}
    document = postroom.json("queue", "pause", scope)
    assert (document["scope"], document["paused"], document["changed"]) == (scope, True, False)
    assert postroom("queue", "resume", scope).stdout == f"{scope} is resumed\n"
    assert postroom("queue", "resume", scope).stdout == f"{scope} was not paused\n"
    assert postroom.json("queue", "resume", scope) == {"scope": scope, "paused": False, "changed": False, "since": None}


def test_what_a_pause_keeps_is_told_after_a_retry(gateway: Gateway, postroom: Shell, mail: Mail) -> None:
    gateway.store.pause_now(Scope.DELIVERY, actor="test")
    result = postroom("queue", "retry", *ids(mail.deferred))
    assert (result.exit_code, result.stdout) == (0, "1 entry due now\n")
    assert "delivery is paused since" in result.stderr
    assert postroom("queue", "hold", *ids(mail.deferred)).stderr == ""


def test_only_a_stage_can_be_paused(postroom: Shell) -> None:
    assert postroom("queue", "pause", "held").exit_code == 2
