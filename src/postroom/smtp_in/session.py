"""One SMTP session without sockets (RFC 5321): bytes in, replies and complete messages out.

Promises: the replies and messages do not depend on how the network split the bytes; a line that does not end in CRLF is
refused and never executed; commands pipelined behind a message wait for its reply; memory is bounded by the limits.
Fails: never raises for what a peer sends; calling `answer` without a message is a bug of the caller.

STARTTLS and AUTH would be two more rows in VERBS: STARTTLS hands the socket to the server, AUTH sets `trusted`.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice

from postroom.model import Client, Recipient, Route
from postroom.smtp_in import replies
from postroom.smtp_in.address import (
    MAX_DOMAIN,
    RECIPIENT_FAULTS,
    SENDER_FAULTS,
    BadPath,
    helo_name,
    mail_parameters,
    plain_recipient,
    plain_sender,
    postmaster_in,
    read_path,
    routes_inside,
)  # fmt: skip
from postroom.smtp_in.body import BodyReader
from postroom.smtp_in.shared import MESSAGE, NAMED, SessionConfig, TurnedAway
from postroom.smtp_in.transaction import Transaction

COMMAND_LINE = 2048  # with CRLF; 512 of RFC 5321 4.5.3.1.4 and room for parameters

_FIVE = 0x35
_TWO = 0x32


class Session:
    """One connection's conversation."""

    __slots__ = (
        "_body", "_broken", "_client", "_config", "_errors", "_kept", "_last_words", "_line", "_out", "_quiet",
        "_recipients", "_refused_recipients", "_routes", "_sender", "_skipping", "closing", "cut_short", "refusals",
        "transaction", "trusted", "turned_away",
    )  # fmt: skip

    def __init__(self, config: SessionConfig, client_ip: str, client_name: str, trusted: bool) -> None:
        self._config = config
        self.trusted = trusted
        self._client = Client(client_ip, client_name)
        self._out: list[bytes] = []
        self._line = b""  # the beginning of a command line
        self._broken = False  # a bare LF was seen: nothing up to the next CRLF may be obeyed
        self._skipping = False  # inside a line that is too long and refused already
        self._errors = 0
        self._quiet = 0  # commands since the last message
        self._sender: str | None = None  # None = no transaction
        self._routes = (Route.EXTERNAL, Route.INBOUND)
        self._recipients: dict[str, Recipient] = {}
        self._refused_recipients = False
        self._body: BodyReader | None = None  # while DATA is read, and until that message is answered
        self._kept = b""  # pipelined behind a message that waits for its answer
        self._last_words = b""  # the last reply, sent when the message being committed is done
        self.transaction: Transaction | None = None
        self.refusals: list[tuple[bytes, bytes]] = []  # reply and command, for the log; the reader empties it
        self.turned_away: list[TurnedAway] = []  # likewise, for the record: with the envelope as it was
        self.closing = False
        self.cut_short = False  # closing because of what the peer does: it may be sending still

    def __repr__(self) -> str:
        state = "message in hand" if self.transaction else "DATA" if self._body else "idle"
        return f"Session({self._client.ip}, {'closing' if self.closing else state})"

    # -- called by the server ----------------------------------------------------------------------------------------

    def greeting(self) -> bytes:
        return self._config.greeting

    @property
    def receiving(self) -> BodyReader | None:
        """The message whose bytes are being read."""
        return self._body if self.transaction is None else None

    @property
    def backlog(self) -> int:
        """Number of bytes behind the message in progress; the server stops reading when there are many."""
        return len(self._kept)

    def receive(self, data: bytes) -> None:
        """Take bytes from the network."""
        if self.transaction is not None:
            if not self.closing:
                self._kept += data
            return
        while data and not self.closing:
            data = self._read_commands(data) if self._body is None else self._read_body(self._body, data)

    def outgoing(self) -> bytes:
        """The replies since the last call."""
        out = self._out
        if not out:
            return b""
        said = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        return said

    def answer(self, reply: bytes) -> None:
        """Give the final reply to the message in `transaction`, and continue with pipelined commands."""
        assert self.transaction is not None, "an answer without a message"
        self.transaction = None
        kept, self._kept = self._kept, b""
        self._end_message(reply)
        if kept:
            self.receive(kept)

    def close_when_idle(self, reply: bytes) -> None:
        """Send this reply and end, after the message being received or committed."""
        if self._body is not None:
            self._last_words = reply
        else:
            self.close_now(reply)

    def close_now(self, reply: bytes) -> None:
        """Send this reply and end at once; a message being committed is still finished by its receiver."""
        if not self.closing:
            self._out.append(reply)
            self.abandon()

    def abandon(self) -> None:
        """The connection is lost. A message being committed keeps its memory until it is answered."""
        self.closing = True
        self._line = self._kept = b""
        if self._body is not None and self.transaction is None:
            self._body.release()
            self._body = None

    # -- DATA --------------------------------------------------------------------------------------------------------

    def _read_body(self, body: BodyReader, data: bytes) -> bytes:
        """Reads on. Returns the bytes after a message that was refused at once; after a good one they wait."""
        behind = body.feed(data)
        if body.endless:
            self._refuse_and_close(replies.too_big(self._config.limits.max_size), MESSAGE)
            return b""
        if behind < 0:
            return b""
        if (refusal := body.refusal()) is not None:
            self._end_message(refusal)
            return data[behind:]
        assert self._sender is not None
        recipients = tuple(self._recipients.values())
        self.transaction = Transaction(self._client, self._sender, recipients, body.parts(), body.size)
        self._kept = data[behind:]
        return b""

    def _end_message(self, reply: bytes) -> None:
        """Answer a message and prepare for the next, unless the session ends here."""
        assert self._body is not None
        self._body.release()
        self._body = None
        self._out.append(reply)
        if reply[0] == _TWO:
            self._errors = 0
            self._quiet = 0
        else:
            self._refuse(reply, MESSAGE)
        self._reset()
        if self._last_words:
            self.close_now(self._last_words)

    # -- command lines -----------------------------------------------------------------------------------------------

    def _read_commands(self, data: bytes) -> bytes:
        """Execute every complete line; returns the bytes behind an accepted DATA."""
        if self._line:
            data = self._line + data
            self._line = b""
        out = self._out
        at = 0
        while (end := data.find(b"\n", at)) >= 0:
            line = data[at:end]
            at = end + 1
            cr = line.find(b"\r")
            if cr < 0 or cr + 1 != len(line) or cr > _LONGEST or self._broken or self._skipping:
                reply = self._bad_line(line)
                if not reply:
                    continue
            else:
                line = line[:cr]
                obey = VERBS.get(line[:4].upper())
                reply = obey(self, line) if obey is not None and line[4:5] in b" " else replies.unknown(line)
            out.append(reply)
            if reply is replies.RECIPIENT_OK:  # counted by max_recipients alone: a long list is no abuse
                continue
            if reply[0] != _TWO:
                if reply is replies.GO_AHEAD:
                    return data[at:]
                self._refuse(reply, line)
            elif reply is replies.BYE:
                self.abandon()
            self._quiet += 1
            if self._quiet > self._config.limits.max_commands and not self.closing:
                self._refuse_and_close(replies.TOO_MANY_COMMANDS, line)
            if self.closing:
                return b""
        self._keep_line(data[at:])
        return b""

    def _keep_line(self, rest: bytes) -> None:
        """The beginning of a line waits for its end; of a line that is too long only whether a CR was last."""
        cr = rest.endswith(b"\r")
        if not self._skipping:
            if len(rest) - cr <= _LONGEST:
                self._line = rest
                return
            self._skipping = True
            self._out.append(replies.LINE_TOO_LONG)
            self._refuse(replies.LINE_TOO_LONG, rest)
            self._quiet += 1
        if not self.closing:
            self._line = b"\r" if cr else b""

    def _bad_line(self, line: bytes) -> bytes:
        """Refuses a line that is too long, or has a bare CR or LF in or before it.

        For a peer that only ends lines with CRLF, such a line may be harmless text with an LF inside; executing the
        part behind the LF would be command smuggling. So nothing is executed up to and including the next CRLF.
        """
        cr = line.endswith(b"\r")
        skipping, self._skipping = self._skipping, False
        self._broken = not cr
        if skipping:  # has its answer
            return b""
        return replies.LINE_TOO_LONG if len(line) - cr > _LONGEST else replies.BARE_LINE_END

    def _refuse(self, reply: bytes, line: bytes) -> None:
        """Count a refusal; too many end the session. 4xx do not count: they are not the peer's fault."""
        self._remember(reply, line)
        if reply[0] == _FIVE:
            self._errors += 1
            if self._errors >= self._config.limits.max_errors:
                self._refuse_and_close(replies.TOO_MANY_ERRORS, line)
        elif reply.startswith(b"421"):
            self.cut_short = True
            self.abandon()

    def _remember(self, reply: bytes, line: bytes) -> None:
        self.refusals.append((reply, line[:256]))
        named = tuple(islice(self._recipients, NAMED)) if line is MESSAGE else ()
        self.turned_away.append((reply, line[:256], self._client.helo, self._sender or "", named))

    def _refuse_and_close(self, reply: bytes, line: bytes) -> None:
        self._remember(reply, line)
        self.cut_short = True
        self.close_now(reply)

    # -- commands: each gets its whole line without CRLF and gives the reply -----------------------------------------

    def _ehlo(self, line: bytes) -> bytes:
        name = line[5:].strip(b" ")
        if helo_name(name) is None:
            return replies.HELO_SYNTAX
        esmtp = line[0] in b"Ee"
        self._client = Client(self._client.ip, self._client.name, name.decode("ascii"), esmtp)
        self._reset()  # RFC 5321 4.1.4
        return self._config.ehlo if esmtp else self._config.helo

    def _mail(self, line: bytes) -> bytes:
        if not self._client.helo:
            return replies.NO_HELO
        if self._sender is not None:
            return replies.NESTED_MAIL
        if (found := plain_sender(line)) is not None and len(found[2]) <= MAX_DOMAIN:
            sender, domain, rest = found[1].decode("ascii"), found[2].decode("ascii"), line[found.end() :]
        else:
            if line[:10].upper() != b"MAIL FROM:":
                return replies.MAIL_SYNTAX
            try:
                path = read_path(line[10:])
            except BadPath as bad:
                return SENDER_FAULTS[bad.fault]
            if path.local and not path.domain:
                return replies.BAD_SENDER
            sender, domain, rest = path.address, path.domain, path.rest
        if rest:
            number = rest[6:]  # " SIZE=123" and nothing else is what nearly everybody sends
            if len(number) < 20 and number.isdigit() and rest[:6] == b" SIZE=":
                return self._begin(sender, domain, int(number))
            declared = mail_parameters(rest)
            return declared if isinstance(declared, bytes) else self._begin(sender, domain, declared)
        return self._begin(sender, domain, 0)

    def _begin(self, sender: str, domain: str, declared: int) -> bytes:
        """MAIL FROM: starts a transaction, if there is room for it."""
        config = self._config
        if declared > config.limits.max_size:
            return replies.too_big(config.limits.max_size)  # RFC 1870 6.1: known before it is sent
        if (closed := config.admission()) is not None:
            return closed
        if config.memory.used + declared >= config.memory.bound:
            return replies.NO_MEMORY
        self._sender = sender
        self._routes = config.routing.routes_from(domain, self.trusted)
        return replies.SENDER_OK

    def _rcpt(self, line: bytes) -> bytes:
        if self._sender is None:
            return replies.NO_MAIL
        if (found := plain_recipient(line)) is not None and len(found[2]) <= MAX_DOMAIN:
            return self._add(found[1].decode("ascii"), found[2].decode("ascii"))
        if line[:8].upper() != b"RCPT TO:":
            return replies.RCPT_SYNTAX
        try:
            path = read_path(line[8:])
        except BadPath as bad:
            return self._bad_recipient(RECIPIENT_FAULTS[bad.fault])
        if path.rest.strip(b" "):
            return self._bad_recipient(replies.UNKNOWN_PARAMETER if path.rest[:1] == b" " else replies.RCPT_SYNTAX)
        routing = self._config.routing
        if not path.domain:
            named = postmaster_in(path.local)
            return self._add_postmaster(named) if named else self._bad_recipient(replies.BAD_RECIPIENT)
        if routes_inside(path.local) and routing.is_ours(path.domain):  # we would be the relay that is asked for
            return self._bad_recipient(replies.ROUTED_RECIPIENT)
        return self._add(path.address, path.domain)

    def _add(self, address: str, domain: str, ours: bool = False) -> bytes:
        """RCPT TO: adds a recipient, if the client may send there."""
        routing = self._config.routing
        lower = domain.lower()
        ours = ours or lower in routing.domains
        if not ours:
            if lower == routing.hostname and (named := postmaster_in(address[: -len(domain) - 1])):
                return self._add_postmaster(named)
            if not self.trusted:
                return self._bad_recipient(replies.RELAYING_DENIED)
        recipients = self._recipients
        key = address if lower == domain else address[: -len(domain)] + lower
        if key in recipients:  # one entry for one recipient, however often it is named
            return replies.RECIPIENT_ALREADY
        if len(recipients) >= self._config.limits.max_recipients:
            return replies.TOO_MANY_RECIPIENTS
        recipients[key] = Recipient(address, self._routes[ours])
        return replies.RECIPIENT_OK

    def _add_postmaster(self, local: str) -> bytes:
        """RFC 5321 4.5.1: there is one under our own name too, even when that is no domain of ours."""
        domain = self._config.routing.postmaster_domain
        return self._add(f"{local}@{domain}", domain, ours=True)

    def _bad_recipient(self, reply: bytes) -> bytes:
        self._refused_recipients = True
        return reply

    def _data(self, line: bytes) -> bytes:
        if len(line) > 4 and line[4:].strip(b" "):
            return replies.NO_ARGUMENT
        if self._sender is None:
            return replies.NO_MAIL
        if not self._recipients:
            return replies.NO_VALID_RECIPIENTS if self._refused_recipients else replies.NO_RCPT
        limits = self._config.limits
        self._body = BodyReader(limits.max_size, limits.max_header, self._config.memory)
        return replies.GO_AHEAD

    def _rset(self, line: bytes) -> bytes:
        if line[4:].strip(b" "):
            return replies.NO_ARGUMENT
        self._reset()
        return replies.OK

    def _vrfy(self, line: bytes) -> bytes:
        return replies.CANNOT_VERIFY if line[4:].strip(b" ") else replies.NEEDS_ARGUMENT

    def _quit(self, line: bytes) -> bytes:
        return replies.NO_ARGUMENT if line[4:].strip(b" ") else replies.BYE

    def _reset(self) -> None:
        self._sender = None
        self._recipients = {}
        self._refused_recipients = False


_LONGEST = COMMAND_LINE - 2
VERBS: dict[bytes, Callable[[Session, bytes], bytes]] = {
    b"EHLO": Session._ehlo,
    b"HELO": Session._ehlo,
    b"MAIL": Session._mail,
    b"RCPT": Session._rcpt,
    b"DATA": Session._data,
    b"RSET": Session._rset,
    b"NOOP": lambda session, line: replies.OK,
    b"VRFY": Session._vrfy,
    b"HELP": lambda session, line: replies.HELP,
    b"QUIT": Session._quit,
}
