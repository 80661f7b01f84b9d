"""`kill -9` at any moment loses nothing that was acknowledged; what may have been delivered twice is labelled."""

from __future__ import annotations

import contextlib
import random
import sqlite3
import threading
from collections import Counter

from bench.gateway import Gateway

from postroom.model import Label, Outcome
from postroom.store.codes import OUTCOME
from tests.system.conftest import Starter, eventually, route_to
from tests.system.receiver import Receiver, Taken, subject_of
from tests.system.wire import Sender, a_mail

KILLS = 10
SENDERS = 4
SEED = 20_261_122


class Load:
    """Several senders at once, until the gateway dies; `acked` are the subjects that got their 250."""

    def __init__(self) -> None:
        self.acked: set[str] = set()
        self._grown = threading.Condition()
        self._threads: list[threading.Thread] = []
        self.problems: list[str] = []

    def begin(self, name: str, address: tuple[str, int]) -> None:
        self._threads = [
            threading.Thread(target=self._send, args=(f"{name}-{number}", address)) for number in range(SENDERS)
        ]
        for thread in self._threads:
            thread.start()

    def wait_for(self, more: int, limit: float = 30) -> None:
        with self._grown:
            before = len(self.acked)
            assert self._grown.wait_for(lambda: len(self.acked) >= before + more, limit), self.problems

    def join(self) -> None:
        for thread in self._threads:
            thread.join(30)
        assert not self.problems

    def _send(self, name: str, address: tuple[str, int]) -> None:
        number = 0
        with contextlib.suppress(OSError), Sender(address) as sender:  # it ends when the gateway is killed
            while True:
                subject = f"kill-{name}-{number}"
                number += 1
                size = 2000 if number % 16 else 150_000  # also bodies that are files of their own
                reply = sender.mail(a_mail(subject, size), "bob@corp.example")
                if not reply.startswith(b"250 "):
                    self.problems.append(f"{subject}: {reply!r}")
                    return
                with self._grown:
                    self.acked.add(subject)
                    self._grown.notify_all()


def test_ten_kills_under_load_lose_nothing_and_label_what_may_be_there_twice(
    starting: Starter, receiver: Receiver
) -> None:
    chance = random.Random(SEED)
    load = Load()
    gateway = starting(route_to(receiver))
    for kill in range(KILLS):
        load.begin(str(kill), gateway.smtp)
        load.wait_for(chance.randint(30, 300))
        gateway.kill()
        load.join()
        gateway.start()
        nothing_is_lost(gateway, receiver, load.acked)

    assert receiver.wait_until(lambda taken: load.acked <= subjects(taken), 60), "acknowledged, but never delivered"
    eventually(lambda: gateway.queued() == 0, "the queue is empty", 60)
    assert gateway.metrics()["postroom_ledger_difference"] == 0
    assert gateway.stop() == 0

    labels = {subject: label for subject, label, _ in history(gateway)}
    outcomes = {outcome for _, _, outcome in history(gateway)}
    assert outcomes == {OUTCOME[Outcome.DELIVERED]}
    assert load.acked <= set(labels)
    twice = {
        subject for subject, times in Counter(subject_of(one.content) for one in receiver.taken).items() if times > 1
    }
    unlabelled = {subject for subject in twice if not labels[subject] & Label.MAYBE_DELIVERED}
    assert not unlabelled, "delivered twice without a word"


def nothing_is_lost(gateway: Gateway, receiver: Receiver, acked: set[str]) -> None:
    """The queue is read first: what has left it by then is with the receiver by now."""
    queued = {subject for (subject,) in rows(gateway, "SELECT subject FROM entry")}
    assert acked - queued <= subjects(receiver.taken), "acknowledged, but neither queued nor delivered"


def subjects(taken: list[Taken]) -> set[str]:
    return {subject_of(one.content) for one in taken}


def history(gateway: Gateway) -> list[tuple[str, int, int]]:
    return rows(gateway, "SELECT subject, label, outcome FROM history")


def rows(gateway: Gateway, statement: str) -> list[tuple]:
    with contextlib.closing(sqlite3.connect(f"file:{gateway.data / 'postroom.db'}?mode=ro", uri=True)) as database:
        return database.execute(statement).fetchall()
