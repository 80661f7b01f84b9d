"""The table of moves is what the rules do, all of it and nothing else; docs/lifecycle.md shows the same table."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from postroom.model import Action, Label, Outcome, Queue, Verdict, VerdictKind
from postroom.rules import lifecycle
from postroom.rules.lifecycle import (
    ACTIONS,
    CHECKED,
    ENDED,
    ENDING,
    EVENTS,
    HELD_INFO,
    LEAVING,
    MOVES,
    NEW,
    SENDING,
    STRIKES,
    WORKED_ON,
    Cause,
    Change,
    Deferred,
    Delivered,
    Due,
    Ends,
    Held,
    LostLease,
    Moves,
    Place,
    Refused,
    Standing,
    Waits,
    after_check,
    after_lost_lease,
    after_move,
    after_person,
    after_send,
    asked,
    cut_short,
    fits,
    given_back,
    has_notice,
    honoured,
    left_out,
    lost_lease_label,
    may,
    notifies,
    shift_of,
    unreadable,
)
from postroom.rules.retry import DELIVERY, PROCESSING

NOW = 1_800_000_000_000
LONG_AGO = NOW - DELIVERY.age
PLACES: dict[str, Place] = {place.value: place for place in (*Queue, NEW, LEAVING, ENDED)}


def place(change: Change | Due, queue: Queue) -> Place:
    """Where the entry is after this."""
    match change:
        case Moves(to):
            return to
        case Held():
            return Queue.HELD
        case Ends():
            return ENDED
        case Waits() | Due():
            return queue


def standings(queue: Queue) -> Iterator[Standing]:
    for since, null, ours in itertools.product((NOW, LONG_AGO), (False, True), (False, True)):
        yield Standing(queue, 1, since, null, ours)


VERDICTS = {
    Cause.PASSED: VerdictKind.PASS,
    Cause.BULKED: VerdictKind.BULK,
    Cause.CHECK_HELD: VerdictKind.HOLD,
    Cause.CHECK_REJECTED: VerdictKind.REJECT,
    Cause.CHECK_DROPPED: VerdictKind.DROP,
    Cause.CHECK_RETRY: VerdictKind.RETRY,
}
RESULTS = {
    Cause.DELIVERED: (Delivered("250 ok"),),
    Cause.REFUSED: (Refused("550 no"),),
    Cause.DEFERRED: (Deferred("450 later"), Deferred("lost", maybe=True)),
}


@pytest.mark.parametrize("cause", VERDICTS)
def test_checks_do_what_the_table_says(cause: Cause) -> None:
    verdict = Verdict(VERDICTS[cause], "a check", "a reason")
    for queue in Queue:
        found: set[Place] = set()
        for entry in standings(queue):
            if queue not in MOVES[cause]:
                with pytest.raises(AssertionError):
                    after_check(entry, verdict, PROCESSING, NOW)
                continue
            found.add(place(after_check(entry, verdict, PROCESSING, NOW), queue))
        assert found == set(MOVES[cause].get(queue, ()))


@pytest.mark.parametrize("cause", RESULTS)
def test_attempts_to_deliver_do_what_the_table_says(cause: Cause) -> None:
    for queue in Queue:
        found: set[Place] = set()
        for entry, result, hold in itertools.product(standings(queue), RESULTS[cause], (False, True)):
            if queue not in SENDING:
                with pytest.raises(AssertionError):
                    after_send(entry, result, DELIVERY, NOW, hold_maybe=hold)
                continue
            found.add(place(after_send(entry, result, DELIVERY, NOW, hold_maybe=hold), queue))
        assert found == set(MOVES[cause].get(queue, ()))


def lost(queue: Queue, **changed: object) -> LostLease:
    facts = {"attempts": 1, "since": NOW, "strikes": 1, "label": 0, "request": None}
    return LostLease(1, queue, **{**facts, **changed})


@pytest.mark.parametrize("queue", WORKED_ON)
def test_leases_without_a_result_do_what_the_table_says(queue: Queue) -> None:
    found: set[Place] = set()
    for strikes, label, request, hold in itertools.product(
        (1, STRIKES), (0, Label.MAYBE_DELIVERED), (None, *Action), (False, True)
    ):
        left = lost(queue, strikes=strikes, label=int(label), request=request)
        change = after_lost_lease(left, DELIVERY, NOW, hold_maybe=hold)
        found.add(place(change, queue))
        if request is Action.HOLD:
            assert change == Held(HELD_INFO, int(label), requested=True)
        elif label and hold:
            assert change == Held(lifecycle.MAYBE_HELD_INFO, int(label))
        elif strikes < STRIKES:
            assert isinstance(change, Due)
        else:
            assert isinstance(change, Waits)
            assert change.at > NOW
            assert change.label == label | Label.SUSPECT
    assert found == set(MOVES[Cause.LEASE_LOST][queue])


def test_while_stopping_an_attempt_is_given_back_only_if_it_cannot_have_delivered() -> None:
    given = [Delivered("250"), Refused("550"), Deferred("450"), Deferred("lost", maybe=True)]
    assert [cut_short(result) for result in given] == [False, False, True, False]


@pytest.mark.parametrize("queue", WORKED_ON)
def test_what_is_given_back_cannot_be_read_or_was_asked_for_goes_where_the_table_says(queue: Queue) -> None:
    back = given_back(queue, NOW)
    assert (place(back, queue), back.at) == (queue, NOW)
    assert (queue,) == MOVES[Cause.GIVEN_BACK][queue]
    found = {place(unreadable(queue, "why", NOW, passing=passing), queue) for passing in (False, True)}
    assert found == set(MOVES[Cause.UNREADABLE][queue])
    found = set()
    for request in (None, *Action):
        change, moved = honoured(request, queue), after_move(request)
        assert change is not None
        found.add(place(change, queue))
        assert isinstance(change, Held) == (moved is not None) == (request is Action.HOLD)
    assert found == set(MOVES[Cause.REQUEST_HONOURED][queue])


def test_a_result_that_holds_comes_before_a_request() -> None:
    assert {honoured(request, Queue.HELD) for request in (None, *Action)} == {None}


def test_a_lease_that_could_have_reached_the_next_hop_labels_its_entry() -> None:
    labelled = {(queue, born) for queue in Queue for born in (False, True) if lost_lease_label(queue, born=born)}
    assert labelled == {(queue, True) for queue in Queue} | {(queue, False) for queue in SENDING}


# -- people

WORKED, WAIT = "being worked on just now: hold it first, or try again", "request"
SENT = "being sent just now: it may be on its way already"


def of(action: Action, queue: Queue, leased: bool) -> str:
    answer = asked(action, queue, leased=leased)
    assert not (answer.refused and answer.request)
    return answer.refused or ("request" if answer.request else "")


@pytest.mark.parametrize(
    ("action", "waiting", "leased"),
    [  # in processing, bulk_processing, delivery, held, system
        (
            Action.RETRY,
            ["", "", "", "held: release it instead", ""],
            [WAIT, WAIT, WAIT, "held: release it instead", WAIT],
        ),
        (Action.HOLD, ["", "", "", "held already", ""], [WAIT, WAIT, SENT, "held already", SENT]),
        (
            Action.RELEASE,
            [f"not held: it is in {queue}" if queue is not Queue.HELD else "" for queue in Queue],
            [f"not held: it is in {queue}" if queue is not Queue.HELD else WAIT for queue in Queue],
        ),
        (Action.REJECT, [""] * 5, [WORKED] * 5),
        (Action.BOUNCE, [""] * 5, [WORKED] * 5),
        (Action.DELETE, [""] * 5, [WORKED] * 5),
        (
            Action.BULK,
            [f"not in processing: it is in {queue}" if queue is not Queue.PROCESSING else "" for queue in Queue],
            [f"not in processing: it is in {queue}" if queue is not Queue.PROCESSING else WORKED for queue in Queue],
        ),
        (
            Action.UNBULK,
            [f"not in bulk_processing: it is in {queue}" if queue is not Queue.BULK else "" for queue in Queue],
            [f"not in bulk_processing: it is in {queue}" if queue is not Queue.BULK else WORKED for queue in Queue],
        ),
    ],
)
def test_what_people_ask_for(action: Action, waiting: list[str], leased: list[str]) -> None:
    assert [of(action, queue, False) for queue in Queue] == waiting
    assert [of(action, queue, True) for queue in Queue] == leased
    assert (
        {queue for queue in Queue if not of(action, queue, False)} == set(MOVES[action]) == set(ACTIONS[action].where)
    )


def test_what_is_leaving_or_has_left_is_refused() -> None:
    for action in Action:
        assert asked(action, LEAVING, leased=False).refused.startswith("leaving: it ends when")
        assert asked(action, ENDED, leased=False).refused == "not in the queue: it has ended or never existed"


@pytest.mark.parametrize("action", list(Action))
def test_who_may_act_on_held_mail_alone_or_on_all_but_that_is_refused_the_rest(action: Action) -> None:
    for queue, leased in itertools.product(Queue, (False, True)):
        free, only, rest = (asked(action, queue, leased=leased, held=held) for held in (None, True, False))
        if queue is Queue.HELD:
            assert (only, rest.refused) == (free, "held: not permitted to you")
        else:
            assert (only.refused, rest) == (f"not held: it is in {queue}", free)


@pytest.mark.parametrize("action", list(Action))
def test_a_plan_takes_what_could_be_done_now_and_waits_for_no_lease(action: Action) -> None:
    for queue, leased in itertools.product(Queue, (False, True)):
        answer = asked(action, queue, leased=leased)
        why = left_out(action, queue, leased=leased, null_sender=False)
        assert why == (answer.refused or ("being worked on just now" if leased else ""))
        assert left_out(action, queue, leased=leased, null_sender=False, permitted=False) == "not permitted to you"
        if action is not Action.BOUNCE:
            assert left_out(action, queue, leased=leased, null_sender=True) == why
    assert left_out(action, LEAVING, leased=False, null_sender=False) == "leaving: another plan ends it"
    takes = {queue for queue in Queue if not left_out(action, queue, leased=False, null_sender=queue is Queue.SYSTEM)}
    assert {queue for queue in Queue if fits(action, queue)} == takes


def test_every_action_has_its_word_in_the_timeline_and_its_place() -> None:
    assert ACTIONS.keys() == set(Action)
    assert {rule.event for rule in ACTIONS.values()} <= set(EVENTS)
    assert {action: outcome.value for action, outcome in ENDING.items()} == {
        action: ACTIONS[action].event for action in Action if ACTIONS[action].to == (ENDED,)
    }
    assert [action for action in Action if ACTIONS[action].priority is not None] == [Action.BULK, Action.UNBULK]
    for action in (Action.BULK, Action.UNBULK):
        queue, _ = shift_of(action)
        assert ACTIONS[action].to == (queue,)


# -- notices


def test_who_gets_a_notice() -> None:
    by_itself = {outcome for outcome in Outcome if has_notice(outcome, null_sender=False)}
    assert by_itself == {Outcome.BOUNCED, Outcome.EXPIRED}
    to_ours = {outcome for outcome in Outcome if has_notice(outcome, null_sender=False, our_sender=True)}
    assert to_ours == {*by_itself, Outcome.REJECTED}
    for outcome, ours, chosen in itertools.product(Outcome, (False, True), (None, False, True)):
        assert not has_notice(outcome, null_sender=True, our_sender=ours, chosen=chosen)
    assert {(action, chosen) for action in Action for chosen in (False, True) if notifies(action, chosen=chosen)} == {
        (Action.BOUNCE, False), (Action.BOUNCE, True), (Action.REJECT, True),
    }  # fmt: skip


@pytest.mark.parametrize("action", ENDING)
def test_a_person_who_ends_an_entry_decides_about_the_notice(action: Action) -> None:
    for null_sender, notify in itertools.product((False, True), (False, True)):
        end = after_person(action, "said", null_sender=null_sender, notify=notify)
        assert (end.outcome, end.reply) == (ENDING[action], "said")
        assert end.notice == (not null_sender and notifies(action, chosen=notify))


def test_the_gateway_ends_entries_with_the_notice_that_the_rule_says() -> None:
    ends = [
        (
            Outcome.REJECTED,
            CHECKED,
            lambda entry: after_check(entry, Verdict(VerdictKind.REJECT, "c"), PROCESSING, NOW),
        ),
        (Outcome.DROPPED, CHECKED, lambda entry: after_check(entry, Verdict(VerdictKind.DROP, "c"), PROCESSING, NOW)),
        (Outcome.DELIVERED, SENDING, lambda e: after_send(e, Delivered("250"), DELIVERY, NOW, hold_maybe=False)),
        (Outcome.BOUNCED, SENDING, lambda e: after_send(e, Refused("550"), DELIVERY, NOW, hold_maybe=False)),
    ]
    for outcome, queues, decide in ends:
        for queue in queues:
            for entry in standings(queue):
                change = decide(entry)
                told = has_notice(outcome, null_sender=entry.null_sender, our_sender=entry.our_sender)
                assert isinstance(change, Ends)
                assert (change.outcome, change.notice) == (outcome, told)
    expired = after_send(Standing(Queue.DELIVERY, 1, LONG_AGO, False), Deferred("450"), DELIVERY, NOW, hold_maybe=False)
    assert expired == Ends(Outcome.EXPIRED, "450", notice=True)


# -- the table itself


def test_the_table_is_complete() -> None:
    assert MOVES.keys() == {*Cause, *Action}
    assert all(MOVES.values())
    reached, new = {NEW}, {NEW}
    while new:
        new = {to for row in MOVES.values() for at in new for to in row.get(at, ())} - reached
        reached |= new
    assert reached == set(PLACES.values())
    for queue in (*Queue, LEAVING):  # nothing is stuck
        assert any(may(cause, queue, ENDED) for cause in MOVES)
    assert not any(ENDED in row for row in MOVES.values()), "nothing comes back from the history"


def test_what_a_plan_does_can_be_undone() -> None:
    for action, at in itertools.product(Action, Queue):
        for to in MOVES[action].get(at, ()):
            assert may(Cause.UNDONE, LEAVING if to is ENDED else to, at)


def test_the_documentation_shows_this_table() -> None:
    text = (Path(__file__).parents[2] / "docs/lifecycle.md").read_text()
    shown: dict[str, dict[Place, set[Place]]] = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("| `") or len(cells) != 4:
            continue
        row = shown.setdefault(cells[0].strip("`"), {})
        for at in cells[1].split(", "):
            to = {PLACES[at] if name == "same" else PLACES[name] for name in cells[2].split(", ")}
            row[PLACES[at]] = to
    assert shown == {cause.value: {at: set(to) for at, to in row.items()} for cause, row in MOVES.items()}
