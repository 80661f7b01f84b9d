"""Several senders at once, until the gateway dies; who got a 250 is written down the moment it came.

A mail's subject says everything about it (its size, and so its bytes), so that whoever meets it later can tell whether
it is whole. Every sixteenth is larger than what the database holds inline, some go to several recipients, one of whom
may be refused by the next hop.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable

from tests.system.wire import Sender, stuffed

Key = tuple[str, str]  # subject, recipient
SENDERS = 4
ALICE = "alice@corp.example"
STOPPING = (b"421 ", b"451 ", b"452 ")  # what a gateway that is being stopped may say


def mail_of(subject: str) -> bytes:
    """The one mail that has this subject; every line of it is its own, and some begin with dots."""
    head = f"From: Alice <{ALICE}>\r\nTo: Bob <bob@corp.example>\r\nSubject: {subject}\r\n\r\n"
    line = f"{subject}: the quick brown fox jumps over the lazy dog, and nobody minds at all"
    lines = int(subject.rpartition(" ")[2]) // len(line)
    return (head + "".join([f"{'.' * (at % 3)}{at} {line}\r\n" for at in range(lines)])).encode()


def recipients_of(subject: str) -> tuple[str, ...]:
    name, number = subject.split(" ")[1], int(subject.split(" ")[2])
    to = [f"bob-{name}@corp.example"]
    if number % 4 == 1:
        to += [f"carol-{name}@corp.example", f"dave-{name}@corp.example"]
    if number % 9 == 5:
        to.append(f"refused-{name}@corp.example")
    return tuple(to)


def notice_key(subject: str) -> Key:
    return f"Not delivered: {subject}", ALICE


class Load:
    """`begin`, `wait_for`, `join`; `acked` only grows."""

    def __init__(self) -> None:
        self.acked: list[str] = []
        self.ids: dict[bytes, str] = {}  # what the 250 called it -> subject
        self.problems: list[str] = []
        self._grown = threading.Condition()
        self._threads: list[threading.Thread] = []
        self._stopping = False
        self._sending = 0

    def begin(self, name: str, address: tuple[str, int], most: int | None = None, senders: int = SENDERS) -> None:
        """`most` mails of each sender; None = until the connection ends."""
        self._stopping = False
        self._sending = senders
        self._threads = [
            threading.Thread(target=self._send, args=(f"{name}-{number}", address, most)) for number in range(senders)
        ]
        for thread in self._threads:
            thread.start()

    def wait_for(self, more: int, limit: float) -> bool:
        """For so many acknowledgements from now on; True also when the senders have ended before."""
        with self._grown:
            enough = len(self.acked) + more
            return self._grown.wait_for(lambda: len(self.acked) >= enough or not self._sending, limit)

    def will_stop(self) -> None:
        """From now on a refusal for now is in order."""
        self._stopping = True

    def join(self, limit: float = 120) -> None:
        for thread in self._threads:
            thread.join(limit)
            assert not thread.is_alive(), f"{thread.name} hangs"
        self._threads = []

    def _send(self, name: str, address: tuple[str, int], most: int | None) -> None:
        number = 0
        try:
            with Sender(address) as sender:
                while most is None or number < most:
                    size = 2000 + 97 * (number % 7) if number % 16 != 7 else 150_000 + 20_000 * (number % 3)
                    subject = f"crash {name} {number} {size}"
                    number += 1
                    if not self._one(sender, subject):
                        return
        except OSError:
            pass  # the gateway was killed
        finally:
            with self._grown:
                self._sending -= 1
                self._grown.notify_all()

    def _one(self, sender: Sender, subject: str) -> bool:
        recipients = recipients_of(subject)
        commands: Iterable[bytes] = (
            f"MAIL FROM:<{ALICE}>".encode(),
            *(f"RCPT TO:<{recipient}>".encode() for recipient in recipients),
            b"DATA",
        )
        for command in commands:
            reply = sender.command(command)
            if reply[:1] not in b"23":
                return self._refused(subject, reply)
        data = stuffed(mail_of(subject))
        half = len(data) // 2
        sender.write(data[:half])
        sender.write(data[half:])
        reply = sender.reply()
        if not reply.startswith(b"250 "):
            return self._refused(subject, reply)
        with self._grown:
            self.acked.append(subject)
            self.ids[reply.split()[2]] = subject
            self._grown.notify_all()
        return True

    def _refused(self, subject: str, reply: bytes) -> bool:
        if not (self._stopping and reply.startswith(STOPPING)):
            self.problems.append(f"{subject}: {reply!r}")
        return False
