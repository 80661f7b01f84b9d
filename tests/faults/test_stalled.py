"""A process that stands still, or works for longer than a lease lasts: nobody is given its mail, nothing goes twice."""

from __future__ import annotations

import os
import signal
import time

from bench.gateway import Gateway

from tests.faults.conftest import all_delivered, logged, rows, send
from tests.faults.receiver import SlowReceiver
from tests.faults.test_disk import command
from tests.system.conftest import Starter, eventually, route_to
from tests.system.wire import Sender, a_mail

LEASE = 1_000  # milliseconds
SETTINGS = '\n[limits]\nlease = "1 second"\n'
MAILS = 5


def leases(gateway: Gateway) -> list[int]:
    """When the leases that are out would end."""
    return [until for (until,) in rows(gateway, "SELECT locked_until FROM entry WHERE locked_until IS NOT NULL")]


def in_hand(gateway: Gateway, receiver: SlowReceiver) -> set[str]:
    """Some mail that the receiver has, and has not answered for."""
    acked = {f"in hand {number}" for number in range(MAILS)}
    for subject in acked:
        assert send(gateway, subject).startswith(b"250 ")
    assert receiver.wait_until(lambda taken: len(taken) >= 1, 30)
    assert len(leases(gateway)) == MAILS
    return acked


def nothing_was_taken_over(gateway: Gateway) -> None:
    metrics = gateway.metrics()
    assert metrics["postroom_taken_over_total"] == 0
    assert metrics["postroom_leases_lost_total"] == 0
    assert metrics["postroom_maybe_delivered_total"] == 0


def test_stopped_for_longer_than_its_leases_it_goes_on_where_it_was(
    starting: Starter, slow_receiver: SlowReceiver
) -> None:
    gateway = starting(route_to(slow_receiver) + SETTINGS)
    acked = in_hand(gateway, slow_receiver)
    with Sender(gateway.smtp) as sender:
        os.kill(gateway.pid, signal.SIGSTOP)
        try:
            eventually(lambda: max(leases(gateway)) + LEASE < time.time() * 1000, "every lease has run out")
        finally:
            os.kill(gateway.pid, signal.SIGCONT)
        assert sender.mail(a_mail("afterwards"), "bob@corp.example").startswith(b"250 ")
    eventually(lambda: min(leases(gateway)) > time.time() * 1000, "the leases are renewed")
    slow_receiver.let_go()
    all_delivered(gateway, slow_receiver, acked | {"afterwards"})
    assert len(slow_receiver.taken) == MAILS + 1, "delivered twice"
    nothing_was_taken_over(gateway)


def test_work_that_takes_longer_than_three_leases_keeps_its_own(starting: Starter, slow_receiver: SlowReceiver) -> None:
    gateway = starting(route_to(slow_receiver) + SETTINGS)
    acked = in_hand(gateway, slow_receiver)
    for stage in ("processing", "delivery"):  # nothing is claimed: what renews a lease now is the heartbeat alone
        command(gateway, "queue", "pause", stage)
    first = max(leases(gateway))
    eventually(lambda: min(leases(gateway)) > first + 3 * LEASE, "every lease was renewed for three of its lengths")
    slow_receiver.let_go()
    all_delivered(gateway, slow_receiver, acked)
    assert len(slow_receiver.taken) == MAILS, "delivered twice"
    nothing_was_taken_over(gateway)
    assert logged(gateway, "heartbeat_failed") == []


def test_killed_while_it_stood_still_its_mail_is_labelled_when_it_goes_again(
    starting: Starter, slow_receiver: SlowReceiver
) -> None:
    gateway = starting(route_to(slow_receiver) + SETTINGS)
    acked = in_hand(gateway, slow_receiver)
    os.kill(gateway.pid, signal.SIGSTOP)
    gateway.kill()
    gateway.start()
    slow_receiver.let_go()
    all_delivered(gateway, slow_receiver, acked)
