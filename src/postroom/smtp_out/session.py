"""One SMTP client session without sockets, clock or event loop: reply bytes in, effects out (RFC 5321, RFC 2920).

The owner calls `give` while `room`, `receive`, `content_sent`, `quit` and `lost`. After each call it performs the
effects: write `out`, stream the content of `stream`, report `done`, take back `returned`, and close the connection when
`stage` is CLOSED.

Promises: each job comes back exactly once, in `done` with one result per recipient or in `returned`. Returned means
*not touched*: only its envelope was sent ahead, or the connection had served before, and its content was not begun.
`Deferred.maybe` is set exactly when the final dot was written and no valid reply to it arrived. With PIPELINING an
envelope is one group, and may be sent behind the content before it (RFC 2920 3.1). Content with bytes over 127 goes
unchanged to a peer without 8BITMIME, as most MTAs do: recoding would break signatures.
Fails: anything the peer sends ends in results, never in an exception; wrong use by the owner is an AssertionError.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from postroom.rules.lifecycle import Deferred, Delivered, Refused, SendResult
from postroom.smtp_out.body import ending, stuffed
from postroom.smtp_out.job import Job
from postroom.smtp_out.replies import Replies, printable, reply_text

# What the next reply answers. Plain integers: they are compared several times per message.
GREETING: Final = 0
EHLO: Final = 1
HELO: Final = 2
IDLE: Final = 3
MAIL: Final = 4
RCPT: Final = 5
DATA: Final = 6
CONTENT: Final = 7  # content is on its way, its final dot is not
DOT: Final = 8
RSET: Final = 9
QUIT: Final = 10
CLOSED: Final = 11
WAITING_FOR = (
    "the greeting", "the reply to EHLO", "the reply to HELO", "the next message", "the reply to MAIL",
    "the reply to RCPT", "the reply to DATA", "the content to be taken", "the reply to the content",
    "the reply to RSET", "the reply to QUIT", "nothing",
)  # fmt: skip

CLOSED_WELL: Final = "closed"  # the failure that is none

# What is allowed between < and > on the wire: nothing that ends the path or the line; a quoted local part may hold
# spaces.
_PATH = re.compile(r'(?:[^\x00-\x20\x7f-\x9f<>"\\\u2028\u2029]++|"(?:[^\x00-\x1f\x7f-\x9f"\\]|\\[ -~])*+")*+')


class _Transaction:
    """A job on this connection. `order`: the recipients that are sent; `at` counts their replies."""

    __slots__ = ("accepted", "at", "first", "job", "order", "results", "unfit")

    def __init__(self, job: Job, first: bool) -> None:
        self.job = job
        self.first = first  # of its connection: nothing came before it
        self.order: Sequence[int] = range(len(job.recipients))
        self.results: list[SendResult | None] = [None] * len(job.recipients)
        self.at = 0
        self.accepted = 0
        self.unfit = False  # MAIL was refused

    def settle(self, result: SendResult) -> None:
        """The result of every recipient that has none yet."""
        self.results = [result if known is None else known for known in self.results]


class Session:
    """See the module docstring."""

    __slots__ = (
        "_ahead", "_current", "_extensions", "_given", "_hostname", "_limit", "_pipelining", "_replies", "_size",
        "done", "failure", "out", "returned", "room", "stage", "stream",
    )  # fmt: skip

    def __init__(self, hostname: str, limit: int = 1000) -> None:
        self._hostname = hostname
        self._limit = limit  # messages
        self._given = 0
        self._replies = Replies()
        self._extensions: dict[str, str] = {}
        self._pipelining = False
        self._size = 0  # the most the peer takes; 0 = it did not say
        self._current: _Transaction | None = None
        self._ahead: _Transaction | None = None
        self.stage: int = GREETING
        self.room = False  # `give` may be called
        self.out: list[bytes] = []
        self.done: list[tuple[Job, tuple[SendResult, ...]]] = []
        self.returned: list[Job] = []
        self.stream: Job | None = None  # its content is to be sent by the owner, then content_sent()
        self.failure = ""  # why the session is CLOSED

    def __repr__(self) -> str:
        return f"<Session waiting for {WAITING_FOR[self.stage]}, {self._given} given, {self.in_hand} in hand>"

    @property
    def in_hand(self) -> int:
        """Number of jobs given that have not come back."""
        return (self._current is not None) + (self._ahead is not None)

    @property
    def spent(self) -> bool:
        """Whether it has carried its maximum of messages."""
        return self._given >= self._limit

    def give(self, job: Job) -> None:
        """Take one more job; only while `room`."""
        assert self.room
        assert job.recipients
        assert not job.prefix or job.prefix.endswith(b"\r\n")
        transaction = _Transaction(job, first=self._given == 0)
        if not self._check(transaction):
            return
        self._given += 1
        if self.stage == IDLE:
            self._current = transaction
            self.stage = MAIL
        else:
            self._ahead = transaction
        self.room = False
        self._send_envelope(transaction)

    def receive(self, data: bytes) -> int:
        """Bytes from the peer. Returns how many replies they completed (0 = no progress)."""
        replies = self._replies.feed(data)
        for code, lines in replies:
            if self.stage == CLOSED:
                break
            if not code:
                self.lost(f"not an SMTP reply: {reply_text(lines)}")
            elif code == 421 and self.stage != DOT:  # RFC 5321 3.8: at any time; to a final dot it is a usual reply
                self.lost(reply_text(lines))
            else:
                _HANDLERS[self.stage](self, code, lines)
        return len(replies)

    def content_sent(self) -> None:
        """The owner has written the whole content of `stream`; only the final dot is missing."""
        assert self.stage == CONTENT
        self.stream = None
        self.out.append(b".\r\n")
        self._await_verdict()

    def quit(self) -> None:
        """Send QUIT; only without jobs."""
        assert self.in_hand == 0
        if self.stage in (IDLE, RSET):
            self.out.append(b"QUIT\r\n")
            self.stage = QUIT
            self.room = False
        else:
            self.lost(CLOSED_WELL)

    def lost(self, reason: str, *, unsent: bool = False) -> None:
        """The connection is lost or unusable. `unsent`: not all of the last bytes had left this machine."""
        if self.stage == CLOSED:
            return
        current, ahead, stage = self._current, self._ahead, self.stage
        self._current = self._ahead = self.stream = None
        self.stage = CLOSED
        self.room = False
        self.failure = reason = printable(reason)
        if ahead is not None:
            self.returned.append(ahead.job)
        if current is None:
            return
        if stage < CONTENT and not current.first and None in current.results:
            self.returned.append(current.job)
            return
        # Behind a final dot that has not left this machine nothing was accepted; with an envelope behind it, the
        # unsent bytes may be that envelope's only.
        maybe = stage == DOT and current.accepted > 0 and not (unsent and ahead is None)
        current.settle(Deferred(reason, maybe))
        self._report(current)

    # --- opening -----------------------------------------------------------------------------------------------------

    def _on_greeting(self, code: int, lines: list[bytes]) -> None:
        if 200 <= code < 300:
            self.out.append(f"EHLO {self._hostname}\r\n".encode("ascii", "replace"))
            self.stage = EHLO
        else:  # RFC 5321 3.1: speaks of the connection, not of a message, and so defers
            self.lost(reply_text(lines))

    def _on_ehlo(self, code: int, lines: list[bytes]) -> None:
        if 200 <= code < 300:
            for line in lines[1:]:
                keyword, _, value = line[4:].strip().decode("ascii", "replace").partition(" ")
                self._extensions[keyword.upper()] = value
            self._pipelining = "PIPELINING" in self._extensions
            size = self._extensions.get("SIZE", "")
            self._size = int(size) if size.isascii() and size.isdigit() and len(size) <= 18 else 0
            self._open()
        elif code >= 500:
            self.out.append(f"HELO {self._hostname}\r\n".encode("ascii", "replace"))
            self.stage = HELO
        else:
            self.lost(reply_text(lines))

    def _on_helo(self, code: int, lines: list[bytes]) -> None:
        if 200 <= code < 300:
            self._open()
        else:
            self.lost(reply_text(lines))

    def _open(self) -> None:
        self.stage = IDLE
        self.room = self._given < self._limit

    # --- envelope ----------------------------------------------------------------------------------------------------

    def _check(self, transaction: _Transaction) -> bool:
        """Refuses recipients that this peer can never accept, without asking it. False = nothing is left to send."""
        job = transaction.job
        size = len(job.prefix) + job.size
        if self._size and size > self._size:
            transaction.settle(Refused(f"552 5.3.4 message of {size} bytes; the next hop takes at most {self._size}"))
        elif (problem := self._unfit(job.env_from)) is not None:
            transaction.settle(problem)
        else:
            results = transaction.results = [self._unfit(recipient) for recipient in job.recipients]
            if any(results):
                transaction.order = [at for at, result in enumerate(results) if result is None]
                if transaction.order:
                    return True
            else:
                return True
        self._report(transaction)
        return False

    def _unfit(self, address: str) -> SendResult | None:
        if not _PATH.fullmatch(address):
            return Refused(f"553 5.1.3 not an address that SMTP can carry: {printable(address)}")
        if not address.isascii() and "SMTPUTF8" not in self._extensions:
            return Refused(f"553 5.6.7 the next hop does not take addresses beyond ASCII: {address}")  # RFC 6531 3.5
        return None

    def _send_envelope(self, transaction: _Transaction) -> None:
        job, offered = transaction.job, self._extensions
        mail = f"MAIL FROM:<{job.env_from}>"
        if "SIZE" in offered:
            mail += f" SIZE={len(job.prefix) + job.size}"
        if "8BITMIME" in offered and job.announces_eightbit():
            mail += " BODY=8BITMIME"
        if "SMTPUTF8" in offered and not (job.env_from.isascii() and all(map(str.isascii, job.recipients))):
            mail += " SMTPUTF8"
        if not self._pipelining:
            self.out.append(f"{mail}\r\n".encode())
            return
        rcpt = ">\r\nRCPT TO:<".join([job.recipients[at] for at in transaction.order])
        self.out.append(f"{mail}\r\nRCPT TO:<{rcpt}>\r\nDATA\r\n".encode())

    def _on_mail(self, code: int, lines: list[bytes]) -> None:
        transaction = self._current
        assert transaction is not None
        if code >= 400:
            transaction.settle(_failed(code, lines))
            transaction.unfit = True
            if not self._pipelining:
                self._end()
                return
        elif code >= 300:
            self.lost(f"unexpected reply to MAIL: {reply_text(lines)}")
            return
        self.stage = RCPT
        if not self._pipelining:
            self._send_recipient(transaction)

    def _send_recipient(self, transaction: _Transaction) -> None:
        self.out.append(f"RCPT TO:<{transaction.job.recipients[transaction.order[transaction.at]]}>\r\n".encode())

    def _on_rcpt(self, code: int, lines: list[bytes]) -> None:
        transaction = self._current
        assert transaction is not None
        if code < 300:
            transaction.accepted += 1
        elif code < 400:
            self.lost(f"unexpected reply to RCPT: {reply_text(lines)}")
            return
        elif not transaction.unfit:
            # RFC 5321 4.5.3.1.10: 552 behind accepted recipients means "too many of them", and is to be read as 452.
            code = 452 if code == 552 and transaction.accepted else code
            transaction.results[transaction.order[transaction.at]] = _failed(code, lines)
        transaction.at += 1
        if transaction.at < len(transaction.order):
            if not self._pipelining:
                self._send_recipient(transaction)
        elif self._pipelining:
            self.stage = DATA
        elif transaction.accepted:
            self.out.append(b"DATA\r\n")
            self.stage = DATA
        else:
            self._end_with_reset()

    # --- content -----------------------------------------------------------------------------------------------------

    def _on_data(self, code: int, lines: list[bytes]) -> None:
        transaction = self._current
        assert transaction is not None
        if code >= 400:
            transaction.settle(_failed(code, lines))
            if transaction.unfit and not transaction.accepted:
                self._end()
            else:
                self._end_with_reset()
            return
        if code < 300 or (transaction.unfit and transaction.accepted):
            # MAIL refused, but the rest accepted: a dot now might deliver an empty message.
            self.lost(f"unexpected reply to DATA: {reply_text(lines)}")
            return
        job = transaction.job
        if not transaction.accepted:  # RFC 2920 3.1: a 354 without accepted recipients is answered with a single dot
            self.out.append(b".\r\n")
        elif isinstance(job.body, bytes):
            self.out += (stuffed(job.prefix), stuffed(job.body), ending(job.body))
        else:
            self.out.append(stuffed(job.prefix))
            self.stream = job
            self.stage = CONTENT
            return
        self._await_verdict()

    def _await_verdict(self) -> None:
        self.stage = DOT
        self.room = self._pipelining and self._given < self._limit

    def _on_content(self, code: int, lines: list[bytes]) -> None:
        """A reply before the final dot: an error counts (some peers refuse large content early), a success does not."""
        transaction = self._current
        assert transaction is not None
        if code < 400:
            self.lost(f"a reply before the end of the content: {reply_text(lines)}")
            return
        transaction.settle(_failed(code, lines))
        self.lost(reply_text(lines))

    def _on_dot(self, code: int, lines: list[bytes]) -> None:
        transaction = self._current
        assert transaction is not None
        if code < 300:
            transaction.settle(Delivered(reply_text(lines)))
        elif code < 400:
            self.lost(f"unexpected reply to the content: {reply_text(lines)}")
            return
        else:
            transaction.settle(_failed(code, lines))
        self._end()
        if code == 421:
            self.lost(reply_text(lines))

    def _end(self) -> None:
        """The current transaction has all its results; continues with the one sent ahead."""
        assert self._current is not None
        self._report(self._current)
        self._current, self._ahead = self._ahead, None
        if self._current is None:
            self._open()
        else:
            self.stage = MAIL
            self.room = False

    def _end_with_reset(self) -> None:
        """Sends RSET: the peer still has our sender, and many would refuse a second MAIL (RFC 5321 4.1.4)."""
        self._end()
        self.out.append(b"RSET\r\n")
        self.stage = RSET
        self.room = False

    def _report(self, transaction: _Transaction) -> None:
        results = tuple([result for result in transaction.results if result is not None])
        assert len(results) == len(transaction.job.recipients)
        self.done.append((transaction.job, results))

    # --- between and after -------------------------------------------------------------------------------------------

    def _on_idle(self, code: int, lines: list[bytes]) -> None:
        self.lost(f"a reply to nothing: {reply_text(lines)}")

    def _on_rset(self, code: int, lines: list[bytes]) -> None:
        if code < 300:
            self._open()
        else:
            self.lost(reply_text(lines))

    def _on_quit(self, code: int, lines: list[bytes]) -> None:
        self.lost(CLOSED_WELL)


def _failed(code: int, lines: list[bytes]) -> SendResult:
    return Refused(reply_text(lines)) if code >= 500 else Deferred(reply_text(lines))


_HANDLERS = (
    Session._on_greeting, Session._on_ehlo, Session._on_helo, Session._on_idle, Session._on_mail, Session._on_rcpt,
    Session._on_data, Session._on_content, Session._on_dot, Session._on_rset, Session._on_quit,
)  # fmt: skip
