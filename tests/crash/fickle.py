"""A next hop of many moods, and its log: what it took is in `taken`, whatever it answered.

It takes most mail; defers some at the final dot and some recipients at RCPT; refuses recipients called refused-*; cuts
the connection after the final dot, having taken the message or not, with its 250 on the way or not; and is slow now and
then. Which of these is decided by the message, the attempt and the seed, not by the time.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections import Counter
from collections.abc import Sequence

from tests.crash.load import Key, mail_of
from tests.system.next_hop import TAKEN, NextHop
from tests.system.receiver import below_received, subject_of

MOODS = (
    ("take", 78), ("defer", 10), ("slow", 4), ("cut, taken", 3), ("cut, not taken", 2), ("cut behind the 250", 3),
)  # fmt: skip
TAKES = frozenset({"take", "slow", "cut, taken", "cut behind the 250"})
BUSY = 0.03  # of the recipients


class Fickle(NextHop):
    """`taken` and `problems` only grow."""

    name = "fickle"

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.odds: Sequence[tuple[str, int]] = MOODS
        self.taken: Counter[Key] = Counter()
        self.twice: list[Key] = []  # in the order in which it became so
        self.moods: Counter[str] = Counter()
        self.answers: dict[str, list[str]] = {}  # subject -> the moods it met, in order
        self.problems: list[str] = []
        self._seed = seed
        self._attempts: Counter[str] = Counter()

    def _to(self, recipient: str) -> bytes:
        if recipient.startswith("refused-"):
            return b"550 5.1.1 Nobody of this name\r\n"
        if self._chance("RCPT " + recipient).random() < BUSY:
            return b"450 4.2.1 Mailbox busy, try later\r\n"
        return TAKEN

    async def _content(
        self, sender: str, recipients: tuple[str, ...], content: bytes, writer: asyncio.StreamWriter
    ) -> bool:
        subject = subject_of(content)
        moods, weights = zip(*self.odds, strict=True)
        mood = self._chance(subject).choices(moods, weights)[0]
        self.moods[mood] += 1
        self.answers.setdefault(subject, []).append(mood)
        if mood == "defer":
            writer.write(b"451 4.3.0 Not now\r\n")
            return True
        if mood == "cut, not taken":
            return False
        if mood == "slow":
            await asyncio.sleep(0.05)
        self._take(subject, content, recipients)
        if mood == "cut, taken":
            return False
        writer.write(b"250 2.0.0 Taken\r\n")
        return mood != "cut behind the 250"

    def _chance(self, what: str) -> random.Random:
        """Other dice for each attempt."""
        self._attempts[what] += 1
        return random.Random(f"{self._seed} {what} {self._attempts[what]}")

    def _take(self, subject: str, content: bytes, recipients: tuple[str, ...]) -> None:
        if not subject.startswith("Not delivered: "):  # notices are the gateway's own words
            found, sent = below_received(content), mail_of(subject)
            if found != sent:
                digests = " but ".join(hashlib.sha256(text).hexdigest()[:16] for text in (found, sent))
                self.problems.append(f"{subject}: {len(found)} bytes came, {len(sent)} were sent ({digests})")
        for recipient in recipients:
            key = (subject, recipient)
            self.taken[key] += 1
            if self.taken[key] == 2:
                self.twice.append(key)
