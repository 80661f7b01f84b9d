"""The kernel gives no more memory (RLIMIT_AS): what does not fit gets a 4xx, what was acknowledged is kept."""

from __future__ import annotations

import contextlib
import resource
import threading

from tests.faults.conftest import all_delivered, ready_again, send
from tests.faults.test_clock import PATIENT
from tests.faults.test_memory import MIB, memory
from tests.system.conftest import Starter, route_to
from tests.system.receiver import Receiver
from tests.system.wire import Sender, a_mail

SIZE = 12 * MIB
CALLERS = 16  # 192 MiB, of which ...
MORE = 96 * MIB  # ... no more than this is to be had


def test_a_bound_of_the_kernel_refuses_what_does_not_fit_and_loses_nothing(
    starting: Starter, receiver: Receiver
) -> None:
    gateway = starting(route_to(receiver) + PATIENT)
    acked = {"before"}
    assert send(gateway, "before").startswith(b"250 ")
    answers = {}

    def call(number: int) -> None:
        subject = f"large {number}"
        with contextlib.suppress(OSError), Sender(gateway.smtp) as sender:
            answers[subject] = sender.mail(a_mail(subject, SIZE), "bob@corp.example")

    unlimited = resource.prlimit(gateway.pid, resource.RLIMIT_AS)
    resource.prlimit(gateway.pid, resource.RLIMIT_AS, (memory(gateway, "VmSize") + MORE, unlimited[1]))
    callers = [threading.Thread(target=call, args=(number,)) for number in range(CALLERS)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(120)
    resource.prlimit(gateway.pid, resource.RLIMIT_AS, unlimited)
    acked |= {subject for subject, reply in answers.items() if reply.startswith(b"250 ")}
    refused = {reply for subject, reply in answers.items() if subject not in acked}
    assert refused <= {
        b"421 4.3.1 Not enough memory, try again later",
        b"452 4.3.1 Too many messages are being received, try again later",
        b"452 4.3.1 The message could not be stored, try again later",
    }
    ready_again(gateway)
    assert send(gateway, "after").startswith(b"250 ")
    all_delivered(gateway, receiver, acked | {"after"})
