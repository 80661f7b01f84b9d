"""A log that nobody reads: mail goes on, and the lines come when somebody reads again."""

from __future__ import annotations

import fcntl
import os
import select
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench.gateway import Gateway

from tests.faults.conftest import all_delivered, logged, readiness, send
from tests.system.conftest import SETTINGS, eventually, need, route_to
from tests.system.receiver import Receiver
from tests.system.wire import Sender, a_mail

SMALL = 4096  # bytes: the least that a pipe can hold
MAILS = 40  # some 10 KiB of log


class Reader(threading.Thread):
    """Copies what comes through a pipe to a file, as a log collector does, while it `may` read."""

    def __init__(self, pipe: Path, copy: Path) -> None:
        super().__init__()
        self._pipe, self._copy = pipe, copy
        self.may = threading.Event()
        self.may.set()

    def run(self) -> None:
        with self._pipe.open("rb", buffering=0) as pipe, self._copy.open("ab", buffering=0) as copy:
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, SMALL)
            while True:
                self.may.wait()
                data = pipe.read(SMALL)
                if not data:
                    return
                copy.write(data)

    def is_full(self) -> bool:
        """Whether whoever writes has to wait."""
        writer = os.open(self._pipe, os.O_WRONLY | os.O_NONBLOCK)
        try:
            return not select.select([], [writer], [], 0)[1]
        finally:
            os.close(writer)


@pytest.fixture
def piped(tmp_path: Path, receiver: Receiver) -> Iterator[tuple[Gateway, Reader]]:
    """A gateway whose log goes through a pipe."""
    gateway = Gateway(tmp_path / "gateway", SETTINGS + route_to(receiver))
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    gateway.program = [need("sh"), "-c", f'exec "$0" "$@" 2> "{pipe}"', *gateway.program]
    reader = Reader(pipe, gateway.log)
    reader.start()
    try:
        gateway.start()
        yield gateway, reader
    finally:
        gateway.kill()
        reader.may.set()
        reader.join(60)


def test_a_log_that_nobody_reads_does_not_stop_mail(piped: tuple[Gateway, Reader], receiver: Receiver) -> None:
    gateway, reader = piped
    reader.may.clear()
    acked = {f"unread {number}" for number in range(MAILS)}
    with Sender(gateway.smtp) as sender:
        for subject in sorted(acked):
            assert sender.mail(a_mail(subject), "bob@corp.example").startswith(b"250 ")
    eventually(reader.is_full, "the log has nowhere to go")
    assert send(gateway, "afterwards").startswith(b"250 ")
    all_delivered(gateway, receiver, acked | {"afterwards"})
    assert readiness(gateway) == (200, [])
    assert len(logged(gateway, "delivered")) < MAILS, "nobody has read them"
    reader.may.set()
    eventually(lambda: len(logged(gateway, "delivered")) == MAILS + 1, "every line comes when somebody reads again", 60)
    assert gateway.metrics()["postroom_log_dropped_total"] == 0


def test_a_gateway_whose_log_nobody_reads_can_be_stopped(piped: tuple[Gateway, Reader]) -> None:
    gateway, reader = piped
    reader.may.clear()
    with Sender(gateway.smtp) as sender:
        for number in range(MAILS):
            assert sender.mail(a_mail(f"last {number}"), "bob@corp.example").startswith(b"250 ")
    eventually(reader.is_full, "the log has nowhere to go")
    assert gateway.stop() == 0
