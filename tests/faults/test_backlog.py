"""A queue that is as long as it may be: senders are slowed down, then told to come back, until it is shorter."""

from __future__ import annotations

from tests.faults.conftest import logged, not_ready_because, readiness, ready_again, send
from tests.faults.test_disk import command
from tests.system.conftest import Starter, eventually, route_to
from tests.system.receiver import Receiver
from tests.system.wire import Sender, a_mail

PAUSED = "\n[processing]\npaused = true\n[limits]\nqueued_entries = 20\n"


def test_a_full_backlog_closes_intake_until_it_is_shorter(starting: Starter, receiver: Receiver) -> None:
    gateway = starting(PAUSED + route_to(receiver))
    kept = 0
    refused = b""
    with Sender(gateway.smtp) as sender:

        def is_refused() -> bool:
            nonlocal kept, refused
            refused = sender.mail(a_mail(f"backlog {kept}"), "bob@corp.example")
            if refused.startswith(b"250 "):
                kept += 1
                return False
            return True

        eventually(is_refused, "intake closes", 60)
        assert refused == b"452 4.3.1 Too many messages are queued, try again later"
        assert gateway.queued() == kept >= 20
        not_ready_because(gateway, f"backlog: {kept} entries queued, 20 allowed")
        assert len(logged(gateway, "backlog_full")) == 1
        command(gateway, "queue", "resume", "processing")  # what is there is worked on, though nothing comes in
        assert receiver.wait_until(lambda taken: len(taken) == kept, 60)
        ready_again(gateway)
        assert len(logged(gateway, "backlog_fine")) == 1
        assert sender.mail(a_mail("after"), "bob@corp.example").startswith(b"250 ")
    assert receiver.wait_until(lambda taken: len(taken) == kept + 1, 60)


def test_no_bound_is_no_bound(starting: Starter) -> None:
    gateway = starting("\n[processing]\npaused = true\n[limits]\nqueued_entries = 0\n")
    for number in range(5):
        assert send(gateway, f"more {number}").startswith(b"250 ")
    assert readiness(gateway) == (200, [])
