"""What happens to entries: accepted, claimed, moved, waiting, ended, found, acted on."""

from __future__ import annotations

import pytest

from postroom.clock import MINUTE, SECOND, HandClock
from postroom.errors import StoreUnusable
from postroom.model import (
    Action,
    Event,
    Field,
    Filter,
    Label,
    Order,
    Origin,
    Outcome,
    Queue,
    Route,
    Scope,
    Verdict,
    VerdictKind,
)
from postroom.store import EndedEntry, Moved, Store, Waited, access
from tests.conformance.conftest import Opener
from tests.conformance.driven import a_message, accepted, claimed, deferred, hand


def test_an_accepted_message_is_there_for_each_recipient_after_its_commit(store: Store) -> None:
    got = accepted(store, a_message("bob@corp.example", "carol@corp.example"))
    assert got.message.id == got.entries[0] < got.entries[1]
    assert not got.born
    entries = store.read_now().find(Filter(queues=(Queue.PROCESSING,)), limit=10)
    assert [entry.recipient for entry in entries] == ["carol@corp.example", "bob@corp.example"]
    entry = entries[-1]
    assert (entry.info, entry.attempts, entry.locked_until, entry.lease) == ("Queued for Processing", 0, None, None)
    assert entry.created == 1_800_000_000_000
    message = store.read_now().message(got.message.id)
    assert message is not None
    assert message.body == b"Subject: Quarterly report\r\n\r\nHello\r\n"
    assert message.facts.subject == "Quarterly report"
    assert store.read_now().ledger() == ({"accepted": 2}, {}, 2)


def test_ids_grow_though_the_clock_goes_back(store: Store, clock: HandClock) -> None:
    first = accepted(store, a_message()).message.id
    clock.move(-5 * MINUTE)
    second = accepted(store, a_message()).message.id
    assert second > first


def test_ids_grow_across_a_restart_with_the_clock_set_back(opening: Opener, clock: HandClock) -> None:
    store = opening()
    first = accepted(store, a_message()).message.id
    store.close()
    clock.move(-5 * MINUTE)
    assert accepted(opening(), a_message()).message.id > first


def test_a_born_leased_entry_cannot_be_claimed_while_its_lease_lasts(store: Store, clock: HandClock) -> None:
    accepted(store, a_message(), lease_until=clock.now() + MINUTE)
    assert claimed(store) == []
    clock.move(MINUTE)
    assert len(claimed(store)) == 1


def test_a_claim_counts_the_attempt_and_schedules_the_next_as_if_it_had_failed(store: Store, clock: HandClock) -> None:
    accepted(store, a_message())
    (lease,) = claimed(store)
    assert lease.attempts == 1
    assert lease.next_attempt == clock.now() + 10 * SECOND
    entry = store.read_now().entry(lease.entry)
    assert entry is not None
    assert (entry.attempts, entry.locked_until) == (1, clock.now() + MINUTE)
    assert claimed(store) == []


def test_a_passing_entry_ends_in_the_history_and_its_message_goes(store: Store, clock: HandClock) -> None:
    got = accepted(store, a_message(), lease_until=clock.now() + MINUTE)
    entry = got.entries[0]
    hand(
        store, EndedEntry(entry, entry, got.message.id, Queue.DELIVERY, Outcome.DELIVERED, "250 ok", 1, 0, clock.now())
    )
    reader = store.read_now()
    assert reader.entry(entry) is None
    assert reader.message(got.message.id) is None
    ended = reader.ended(entry)
    assert ended is not None
    assert (ended.outcome, ended.reply, ended.queue) == (Outcome.DELIVERED, "250 ok", Queue.DELIVERY)
    assert reader.ledger() == ({"accepted": 1}, {"delivered": 1}, 0)
    assert [event.kind for event in reader.events(entry)] == ["accepted", "delivered"]


def test_the_message_stays_until_its_last_recipient_has_ended(store: Store, clock: HandClock) -> None:
    got = accepted(store, a_message("a@x.example", "b@x.example"), lease_until=clock.now() + MINUTE)
    for number, entry in enumerate(got.entries, 1):
        ended = EndedEntry(entry, entry, got.message.id, Queue.DELIVERY, Outcome.DELIVERED, "250", 1, 0, clock.now())
        hand(store, ended)
        assert (store.read_now().message(got.message.id) is None) == (number == 2)


def test_many_ends_in_one_batch_and_one_lost_lease_among_them(store: Store, clock: HandClock) -> None:
    lost: list[int] = []
    store.on_lost = lost.append
    got = [accepted(store, a_message(), lease_until=clock.now() + MINUTE) for _ in range(37)]
    wrong = got[20].entries[0]
    ends = []
    for one in got:
        entry = one.entries[0]
        lease = 5 if entry == wrong else entry
        ends.append(
            EndedEntry(entry, lease, one.message.id, Queue.DELIVERY, Outcome.DELIVERED, "250", 1, 0, clock.now())
        )
    hand(store, *ends)
    assert lost == [wrong]
    assert store.read_now().entry(wrong) is not None
    assert store.read_now().message(wrong) is not None
    assert store.read_now().ledger() == ({"accepted": 37}, {"delivered": 36}, 1)


def test_a_late_result_is_refused_after_another_took_the_entry_over(store: Store, clock: HandClock) -> None:
    lost: list[int] = []
    store.on_lost = lost.append
    accepted(store, a_message())
    (old,) = claimed(store)
    clock.move(2 * MINUTE)
    (new,) = claimed(store)
    hand(
        store, Waited(old.entry, old.lease, Queue.PROCESSING, None, "late", 1, clock.now(), 0, clock.now(), "deferred")
    )
    assert lost == [old.entry]
    entry = store.read_now().entry(old.entry)
    assert entry is not None
    assert entry.lease == new.lease


def test_waiting_keeps_info_time_and_verdicts_and_writes_an_event(store: Store, clock: HandClock) -> None:
    accepted(store, a_message())
    (lease,) = claimed(store)
    verdicts = (Verdict(VerdictKind.PASS, "size"),)
    hand(store, deferred(lease, clock.now(), clock.now() + MINUTE, "Scanner down", verdicts=verdicts))
    entry = store.read_now().entry(lease.entry)
    assert entry is not None
    assert (entry.info, entry.lease, entry.next_attempt) == ("Scanner down", None, clock.now() + MINUTE)
    message = store.read_now().message(lease.message_id)
    assert message is not None
    assert message.verdicts == verdicts
    assert store.read_now().events(lease.entry)[1:] == [
        Event(clock.now(), "deferred", Queue.PROCESSING, "Scanner down")
    ]
    assert claimed(store) == []
    clock.move(MINUTE)
    assert len(claimed(store)) == 1


@pytest.mark.parametrize(
    ("queue", "born", "labelled"),
    [(Queue.PROCESSING, False, False), (Queue.PROCESSING, True, True), (Queue.DELIVERY, False, True)],
)
def test_a_restart_ends_leases_at_once_and_labels_what_may_have_been_delivered(
    opening: Opener, clock: HandClock, queue: Queue, born: bool, labelled: bool
) -> None:
    store = opening()
    got = accepted(store, a_message(), lease_until=clock.now() + MINUTE if born else None)
    if not born:
        (lease,) = claimed(store)
        if queue is Queue.DELIVERY:
            hand(
                store,
                Moved(lease.entry, lease.lease, queue, "Queued for Delivery", 1, clock.now() + MINUTE, clock.now()),
            )
    store.close()
    again = opening()
    entry = again.read_now().entry(got.entries[0])
    assert entry is not None
    assert entry.lease is None
    assert bool(entry.label & Label.MAYBE_DELIVERED) == labelled
    assert again.recovered == (1, int(labelled))
    assert len(claimed(again, queue)) == 1


def test_three_leases_in_a_row_without_a_result_make_an_entry_suspect_and_scheduled(
    store: Store, clock: HandClock
) -> None:
    got = accepted(store, a_message())
    for _ in range(3):
        assert len(claimed(store)) == 1
        clock.move(2 * MINUTE)
    assert claimed(store) == []
    entry = store.read_now().entry(got.entries[0])
    assert entry is not None
    assert entry.label & Label.SUSPECT
    assert entry.next_attempt > clock.now()
    assert "Suspect" in entry.info


def test_policy_hold_keeps_what_may_have_been_delivered_for_a_person(opening: Opener, clock: HandClock) -> None:
    from postroom.settings import Delivery

    store = opening(delivery=Delivery(maybe_delivered="hold"))
    got = accepted(store, a_message(), lease_until=clock.now() + MINUTE)
    store.close()
    entry = opening(delivery=Delivery(maybe_delivered="hold")).read_now().entry(got.entries[0])
    assert entry is not None
    assert (entry.queue, entry.from_queue) == (Queue.HELD, Queue.PROCESSING)


def test_a_bounce_is_accepted_in_the_transaction_that_ends_the_failed_entry(store: Store, clock: HandClock) -> None:
    import msgspec

    got = accepted(store, a_message(), lease_until=clock.now() + MINUTE)
    entry = got.entries[0]
    notice = msgspec.structs.replace(
        a_message("alice@corp.example", sender=""), origin=Origin.NOTICE, queue=Queue.SYSTEM
    )
    hand(
        store,
        EndedEntry(
            entry, entry, got.message.id, Queue.DELIVERY, Outcome.BOUNCED, "550", 1, 0, clock.now(), notice=notice
        ),
    )
    assert store.read_now().queue_counts()[Queue.SYSTEM] == 1
    assert store.read_now().ledger() == ({"accepted": 1, "notice": 1}, {"bounced": 1}, 1)


def test_pages_follow_each_other_both_ways_and_ignore_newer_mail(store: Store, clock: HandClock) -> None:
    ids = []
    for _ in range(25):
        clock.move(1)
        ids.append(accepted(store, a_message(received=clock.now())).entries[0])
    reader = store.read_now()
    everything = Filter(queues=(Queue.PROCESSING,))
    newest = ids[::-1]
    first = [entry.id for entry in reader.find(everything, limit=10)]
    assert first == newest[:10]
    accepted(store, a_message())
    second = [entry.id for entry in reader.find(everything, limit=10, after=first[-1], top=first[0])]
    assert second == newest[10:20]
    assert [e.id for e in reader.find(everything, limit=10, before=second[0], top=first[0])] == newest[:10]
    oldest = [e.id for e in reader.find(everything, limit=10, order=Order.OLDEST)]
    assert oldest == ids[:10]
    assert [e.id for e in reader.find(everything, limit=5, order=Order.OLDEST, after=oldest[-1])] == ids[10:15]
    assert [e.id for e in reader.find(everything, limit=5, order=Order.OLDEST, before=ids[10])] == ids[5:10]
    assert reader.count(everything, top=first[0]) == 25


@pytest.mark.parametrize(
    ("field", "text", "hits"),
    [
        (Field.ALL, "QUARTERLY", 1), (Field.SUBJECT, "arterly rep", 1), (Field.SUBJECT, "alice", 0),
        (Field.FROM, "ÄPFEL", 1), (Field.FROM, "bob", 0), (Field.TO, "bob", 1), (Field.IP, "192.0.2", 1),
        (Field.INFO, "queued for", 1), (Field.SUBJECT, "%", 0), (Field.ALL, "_", 0),
        (Field.FROM, "example\x1falice", 0),
        (Field.SUBJECT, "192", 0), (Field.ALL, "queued for", 1), (Field.ALL, "nothing such", 0),
    ],
)  # fmt: skip
def test_search_is_literal_substring_in_any_case(store: Store, field: Field, text: str, hits: int) -> None:
    accepted(store, a_message())
    assert store.read_now().count(Filter(text=text, field=field)) == hits


def test_filters_hold_together(store: Store, clock: HandClock) -> None:
    accepted(store, a_message(route=Route.INBOUND, attachment=True))
    clock.move(MINUTE)
    accepted(store, a_message(route=Route.OUTBOUND, attachment=True, received=clock.now()))
    accepted(store, a_message(route=Route.OUTBOUND, queue=Queue.BULK, received=clock.now()))
    count = store.read_now().count
    one = (Queue.PROCESSING,)
    assert count(Filter(queues=one, routes=(Route.OUTBOUND,), attachment=True)) == 1
    assert count(Filter(queues=one, attachment=True)) == 2
    assert count(Filter(queues=(Queue.PROCESSING, Queue.BULK), routes=(Route.OUTBOUND,))) == 2
    assert count(Filter(queues=one, until=clock.now() - 1)) == 1
    assert count(Filter(since=clock.now())) == 2
    (bulk,) = store.read_now().find(Filter(queues=(Queue.BULK,)), limit=5)
    assert bulk.priority == "low"


def test_a_person_holds_releases_and_retries(store: Store, clock: HandClock) -> None:
    entry = accepted(store, a_message()).entries[0]
    assert store.act_now(Action.RELEASE, [entry], actor="ann").refused[0][1].startswith("not held")
    assert store.act_now(Action.HOLD, [entry], actor="ann", reason="looks odd").done == (entry,)
    held = store.read_now().entry(entry)
    assert held is not None
    assert (held.queue, held.from_queue, held.info) == (Queue.HELD, Queue.PROCESSING, "Held by a person: looks odd")
    assert claimed(store) == []
    assert store.act_now(Action.RETRY, [entry], actor="ann").refused
    assert store.act_now(Action.RELEASE, [entry], actor="ann").done == (entry,)
    events = store.read_now().events(entry)
    assert [(event.kind, event.actor) for event in events] == [("accepted", ""), ("held", "ann"), ("released", "ann")]
    (lease,) = claimed(store)
    hand(
        store,
        Waited(
            lease.entry,
            lease.lease,
            Queue.PROCESSING,
            None,
            "x",
            1,
            clock.now() + MINUTE,
            0,
            clock.now(),
            "deferred",
        ),
    )
    assert store.act_now(Action.RETRY, [entry], actor="ann").done == (entry,)
    assert len(claimed(store)) == 1
    assert store.act_now(Action.HOLD, [123], actor="ann").refused == (
        (123, "not in the queue: it has ended or never existed"),
    )


def test_an_action_on_a_leased_entry_is_a_request_that_the_end_of_the_lease_honours(
    store: Store, clock: HandClock
) -> None:
    accepted(store, a_message())
    (lease,) = claimed(store)
    assert store.act_now(Action.HOLD, [lease.entry], actor="ann").requested == (lease.entry,)
    hand(
        store,
        Waited(
            lease.entry,
            lease.lease,
            Queue.PROCESSING,
            None,
            "x",
            1,
            clock.now() + MINUTE,
            0,
            clock.now(),
            "deferred",
        ),
    )
    entry = store.read_now().entry(lease.entry)
    assert entry is not None
    assert entry.queue is Queue.HELD


def test_a_hold_is_refused_once_sending_may_have_started(store: Store, clock: HandClock) -> None:
    accepted(store, a_message())
    (lease,) = claimed(store)
    hand(store, Moved(lease.entry, lease.lease, Queue.DELIVERY, "Queued for Delivery", 1, clock.now(), clock.now()))
    ((_, why),) = store.act_now(Action.HOLD, [lease.entry], actor="ann").refused
    assert "being sent" in why


def test_pauses_are_kept(opening: Opener) -> None:
    store = opening()
    assert store.pause_now(Scope.DELIVERY, actor="ann")
    assert not store.pause_now(Scope.DELIVERY, actor="ann")
    store.close()
    again = opening()
    assert list(again.read_now().pauses()) == [Scope.DELIVERY]
    assert again.resume_now(Scope.DELIVERY, actor="ann")
    assert not again.resume_now(Scope.DELIVERY, actor="ann")


def test_a_second_gateway_on_the_same_directory_is_refused(opening: Opener) -> None:
    opening()
    with pytest.raises(StoreUnusable, match="in use by another gateway") as refused:
        opening()
    assert isinstance(refused.value.__cause__, OSError), "what the lock said, not the refusal itself"


def test_a_command_beside_the_gateway_writes_and_the_gateway_sees_it(opening: Opener) -> None:
    store = opening()
    entry = accepted(store, a_message()).entries[0]
    beside = opening(beside=True)
    assert beside.act_now(Action.HOLD, [entry], actor="ann").done == (entry,)
    assert store.read_now().queue_counts()[Queue.HELD] == 1


def test_a_call_that_fails_takes_nobody_down(store: Store) -> None:
    def wrong(made: access.Role) -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        store.write_now(access.create_role("reader", ["*"]).then(wrong))
    assert "reader" not in [role.name for role in store.read_now().ask(access.list_roles())]
    accepted(store, a_message())
