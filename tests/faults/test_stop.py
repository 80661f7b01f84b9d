"""A stop finishes or gives back what is in hand; a second signal ends at once; either way nothing is lost."""

from __future__ import annotations

import contextlib
import os
import signal
import threading

from tests.faults.conftest import all_delivered, logged, rows, send
from tests.faults.receiver import SlowReceiver
from tests.system.conftest import Starter, eventually
from tests.system.conftest import route_to as only_route_to
from tests.system.wire import Sender, a_mail

SENDERS = 4


def route_to(receiver: SlowReceiver) -> str:
    """What a stop cuts off is deferred: not for a minute."""
    return only_route_to(receiver) + '\n[retry.delivery]\nwaits = ["500 ms"]\n'


def test_a_stop_under_load_with_a_slow_receiver_loses_nothing(starting: Starter, slow_receiver: SlowReceiver) -> None:
    gateway = starting(route_to(slow_receiver))
    acked: set[str] = set()
    grown = threading.Condition()
    odd: list[bytes] = []

    def load(name: int) -> None:
        number = 0
        with contextlib.suppress(OSError), Sender(gateway.smtp) as sender:
            while True:
                subject = f"stop {name} {number}"
                reply = sender.mail(a_mail(subject, 150_000 if number % 8 == 7 else 2_000), "bob@corp.example")
                if not reply.startswith(b"250 "):
                    odd.append(reply)
                    return
                with grown:
                    acked.add(subject)
                    grown.notify_all()
                number += 1

    senders = [threading.Thread(target=load, args=(name,)) for name in range(SENDERS)]
    for sender in senders:
        sender.start()
    with grown:
        assert grown.wait_for(lambda: len(acked) > 100, 60)
    assert slow_receiver.wait_until(lambda taken: len(taken) >= 1, 30)
    assert gateway.stop() == 0
    for sender in senders:
        sender.join(30)
    assert all(reply.startswith(b"421 ") for reply in odd), odd
    assert rows(gateway, "SELECT count(*) FROM entry WHERE lease IS NOT NULL") == [(0,)], "given back"
    assert "Traceback" not in gateway.log.read_text()
    gateway.start()
    slow_receiver.let_go()
    all_delivered(gateway, slow_receiver, acked)


def test_a_second_signal_ends_at_once_and_what_was_in_hand_is_found_again(
    starting: Starter, slow_receiver: SlowReceiver
) -> None:
    gateway = starting(route_to(slow_receiver))
    assert send(gateway, "in hand").startswith(b"250 ")
    assert slow_receiver.wait_until(lambda taken: len(taken) == 1, 30)
    gateway.ask_to_stop()
    eventually(lambda: len(logged(gateway, "stopping")) == 1, "the stop has begun")
    os.kill(gateway.pid, signal.SIGTERM)
    assert gateway.wait_for_end(30) == 1
    gateway.start()
    slow_receiver.let_go()
    all_delivered(gateway, slow_receiver, {"in hand"})
    assert len(slow_receiver.taken) == 2, "labelled (all_delivered saw to that), and tried again"
