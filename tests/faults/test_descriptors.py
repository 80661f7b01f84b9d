"""Out of file descriptors: sessions are sent away in time, what is in hand goes on, and nothing spins."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import resource
import threading
import time
from collections.abc import Iterator

from bench.gateway import Gateway

from tests.faults.conftest import all_delivered, logged, ready_again, send
from tests.system.conftest import Starter, eventually, route_to
from tests.system.receiver import Receiver
from tests.system.wire import Sender, a_mail

WINDOW = 1.0  # seconds over which the processor's time is measured


def open_files(gateway: Gateway) -> int:
    return len(os.listdir(f"/proc/{gateway.pid}/fd"))


@contextlib.contextmanager
def only(gateway: Gateway, more: int) -> Iterator[None]:
    """The process may open so many more files."""
    before = resource.prlimit(gateway.pid, resource.RLIMIT_NOFILE)
    highest = max(int(name) for name in os.listdir(f"/proc/{gateway.pid}/fd"))
    resource.prlimit(gateway.pid, resource.RLIMIT_NOFILE, (highest + 1 + more, before[1]))
    yield
    resource.prlimit(gateway.pid, resource.RLIMIT_NOFILE, before)


def cpu(gateway: Gateway) -> float:
    """Seconds of the processor so far."""
    with open(f"/proc/{gateway.pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_the_soft_limit_is_raised_at_the_start(starting: Starter) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        gateway = starting()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert resource.prlimit(gateway.pid, resource.RLIMIT_NOFILE)[0] == min(hard, 65_536)


def test_sessions_are_sent_away_before_the_descriptors_are_used_up(starting: Starter, receiver: Receiver) -> None:
    gateway = starting(route_to(receiver))
    acked = set()
    with contextlib.ExitStack() as stack, only(gateway, 250):
        senders: list[Sender] = []
        refused: list[bytes] = []

        def is_refused() -> bool:
            try:
                senders.append(stack.enter_context(Sender(gateway.smtp)))
            except ConnectionError:  # it said its reply in place of a greeting, and hung up
                refused.append(b"")
            return bool(refused)

        eventually(is_refused, "a session too many is refused")
        assert 10 < len(senders) < 250
        for number, sender in enumerate(senders[:5]):
            assert sender.mail(a_mail(f"open {number}"), "bob@corp.example").startswith(b"250 ")
            acked.add(f"open {number}")
        assert sender.mail(a_mail("large", 300_000), "bob@corp.example").startswith(b"250 "), (
            "files can be opened still"
        )
        acked.add("large")
        ready_again(gateway)
        all_delivered(gateway, receiver, acked)
    assert gateway.metrics()['postroom_smtp_refused_total{code="421"}'] >= 1
    eventually(lambda: len(logged(gateway, "refused")) > 0, "it is logged")
    assert 'reason="4.3.2 Too many open files here, try again later"' in logged(gateway, "refused")[0]
    eventually(lambda: call(gateway, "after", acked), "mail is taken: the limit is looked at once a second")


def test_without_any_descriptor_left_nothing_spins_and_all_goes_on_afterwards(
    starting: Starter, receiver: Receiver
) -> None:
    gateway = starting(route_to(receiver))
    assert send(gateway, "before").startswith(b"250 ")
    assert receiver.wait_until(lambda taken: len(taken) == 1, 30)
    health = http.client.HTTPConnection(*gateway.http, timeout=30)

    def reasons() -> list[str]:
        health.request("GET", "/health/ready")
        return json.loads(health.getresponse().read())["reasons"]

    assert reasons() == []  # the connection stays open: a new one could not be accepted
    acked = {"before"}
    with only(gateway, -1):
        callers = [threading.Thread(target=call, args=(gateway, f"in line {number}", acked)) for number in range(5)]
        for caller in callers:
            caller.start()
        eventually(lambda: any("file descriptors" in reason for reason in reasons()), "/health/ready says why")
        begin, used = time.monotonic(), cpu(gateway)
        threading.Event().wait(WINDOW)
        share = (cpu(gateway) - used) / (time.monotonic() - begin)
        assert share < 0.3, "it spins"
        assert len(gateway.log.read_text().splitlines()) < 50
    for caller in callers:
        caller.join(60)
    eventually(lambda: reasons() == [], "ready again")
    health.close()
    eventually(lambda: call(gateway, "after", acked), "mail is taken: the limit is looked at once a second")
    all_delivered(gateway, receiver, acked)


def call(gateway: Gateway, subject: str, acked: set[str]) -> bool:
    """A caller in that time: the event loop hangs up on it, or it waits until there is room again."""
    with contextlib.suppress(ConnectionError):
        if send(gateway, subject).startswith(b"250 "):
            acked.add(subject)
    return subject in acked
