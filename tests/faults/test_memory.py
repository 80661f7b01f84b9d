"""Many large messages at once: what is received is bounded, the rest is told to come back."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path

from bench.gateway import Gateway

from tests.faults.conftest import all_delivered, logged
from tests.system.conftest import Starter, eventually, route_to
from tests.system.receiver import Receiver
from tests.system.wire import Sender, a_mail, stuffed

MIB = 1024 * 1024
SIZE = 8 * MIB
CALLERS = 48  # 384 MiB; 256 are allowed
SENT_FIRST = SIZE - 64 * 1024
ROOM = 2.0  # times the bytes that are allowed: pieces and what is joined of them


def memory(gateway: Gateway, what: str) -> int:
    """Bytes: VmRSS now, VmHWM at most so far."""
    for line in Path(f"/proc/{gateway.pid}/status").read_text().splitlines():
        if line.startswith(what):
            return int(line.split()[1]) * 1024
    raise AssertionError(what)


def test_the_bytes_that_are_received_at_once_are_bounded(starting: Starter, receiver: Receiver) -> None:
    gateway = starting(route_to(receiver) + '\n[limits]\nactive_bytes = "16 MiB"\n')
    idle = memory(gateway, "VmRSS")
    answers: dict[str, bytes] = {}
    half_way = threading.Barrier(CALLERS + 1)

    def call(number: int) -> None:
        subject, content = f"large {number}", stuffed(a_mail(f"large {number}", SIZE))
        with contextlib.suppress(ConnectionError), Sender(gateway.smtp) as sender:
            for line in (b"MAIL FROM:<alice@corp.example>", b"RCPT TO:<bob@corp.example>"):
                answers[subject] = sender.command(line)
            begun = answers[subject].startswith(b"250") and sender.command(b"DATA").startswith(b"354")
            if begun:
                sender.write(content[:SENT_FIRST])
            half_way.wait(60)  # all hold nearly a whole message each
            if begun:
                sender.write(content[SENT_FIRST:])
                answers[subject] = sender.reply()

    callers = [threading.Thread(target=call, args=(number,)) for number in range(CALLERS)]
    for caller in callers:
        caller.start()
    half_way.wait(60)
    for caller in callers:
        caller.join(120)
    taken = {subject for subject, reply in answers.items() if reply.startswith(b"250 2.0.0 ")}
    refused = {reply for subject, reply in answers.items() if subject not in taken}
    assert len(answers) == CALLERS
    assert 8 <= len(taken) < CALLERS
    assert refused <= {b"452 4.3.1 Too many messages are being received, try again later", b"503 5.5.1 Need MAIL first"}
    peak = memory(gateway, "VmHWM")
    assert peak < idle + ROOM * 256 * MIB, f"{peak // MIB} MiB at most, {idle // MIB} MiB before"
    all_delivered(gateway, receiver, taken)
    eventually(lambda: 0 < len(logged(gateway, "refused")) < 10, "logged when it begins, not for each message")
