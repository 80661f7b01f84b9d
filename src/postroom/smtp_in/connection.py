"""One TCP connection: moves bytes between a transport and a session, and messages to the receiver.

Promises: one write for everything that one read caused; reading stops while the peer does not read our replies, or has
pipelined too much behind a message that waits for its reply. Fails: never raises; a lost connection ends quietly, and a
message being stored is still stored.
"""

from __future__ import annotations

import asyncio
from typing import Protocol, cast

from postroom.smtp_in import replies
from postroom.smtp_in.pace import Pace, Patience
from postroom.smtp_in.receive import Receiver
from postroom.smtp_in.rejections import Rejections
from postroom.smtp_in.session import Session

KEPT = 64 * 1024  # pipelined bytes behind a message, above which we stop reading
LINGER = 10  # ticks that a peer has to read our last words


class Host(Protocol):
    """What a connection needs from the server that accepted it."""

    tick: int  # looks so far: the server's notion of time
    stopping: bool
    receiver: Receiver
    rejections: Rejections

    def admit(self, connection: Connection) -> Session | bytes:
        """A session, or the reply with which the peer is sent away."""
        ...

    def gone(self, connection: Connection) -> None: ...

    def note_refusals(self, connection: Connection, refusals: list[tuple[bytes, bytes]]) -> None: ...


class Connection(asyncio.Protocol):
    """STARTTLS would replace the transport here (`loop.start_tls`) and the session's client facts."""

    __slots__ = (
        "_ends", "_eof", "_handing_over", "_in_hand", "_not_reading", "_pace", "_seen", "_server", "_session",
        "_transport", "_write_full", "file", "ip", "place",
    )  # fmt: skip

    def __init__(self, server: Host) -> None:
        self._server = server
        self._session: Session | None = None
        self._transport: asyncio.Transport | None = None
        self._in_hand = False  # the receiver has a message of this connection
        self._handing_over = False  # inside the call that gives it to the receiver
        self._not_reading = False
        self._write_full = False
        self._eof = False  # the peer will say no more
        self._seen = server.tick  # when the peer last got on: a byte of a command line is nothing yet, its end is
        self._pace: Pace | None = None  # of the message that was being received at the last look
        self._ends = 0  # the tick after which a closing connection is cut
        self.file = -1  # descriptor
        self.ip = ""
        self.place = ""  # what the server counts it under

    def __repr__(self) -> str:
        return f"Connection({self.ip}, {self._session!r})"

    # -- called by the event loop ------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self.ip = str(peer[0]).removeprefix("::ffff:") if peer else ""
        connected = transport.get_extra_info("socket")
        self.file = connected.fileno() if connected is not None else -1
        session = self._server.admit(self)
        if isinstance(session, bytes):
            transport.write(session)
            transport.close()
            return
        self._session = session
        transport.write(session.greeting())

    def data_received(self, data: bytes) -> None:
        session = self._session
        if session is None:
            return
        if b"\n" in data or session.receiving is not None:
            self._seen = self._server.tick
        try:
            session.receive(data)
        except MemoryError:
            self._lose(session)
        self._go_on(session)

    def eof_received(self) -> bool:
        """A peer that closed its side may still read: it gets the reply to its message."""
        self._eof = True
        return self._in_hand

    def pause_writing(self) -> None:
        self._write_full = True
        self._adjust_reading()

    def resume_writing(self) -> None:
        self._write_full = False
        self._adjust_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._session is not None:
            self._session.abandon()
            self._server.gone(self)

    # -- messages ----------------------------------------------------------------------------------------------------

    def _go_on(self, session: Session) -> None:
        """Called after anything that may have advanced the session."""
        # Not recursive: a receiver that answers at once may meet any number of pipelined messages here
        while session.transaction is not None and not self._in_hand:
            self._in_hand = self._handing_over = True
            self._server.receiver.take(session.transaction, self._answered)
            self._handing_over = False
        said = session.outgoing()
        transport = self._transport
        if transport is not None:
            if said:
                transport.write(said)
            if session.closing or (self._eof and not self._in_hand):
                self._close(transport, linger=session.cut_short and not self._eof)
            elif self._not_reading or session.backlog > KEPT:
                self._adjust_reading()
        if session.refusals:
            self._server.note_refusals(self, session.refusals)
            self._server.rejections.note(self.ip, self.place, session.turned_away)
            session.turned_away.clear()

    def _answered(self, reply: bytes) -> None:
        session = self._session
        assert session is not None
        self._in_hand = False
        self._seen = self._server.tick
        try:
            session.answer(reply)
        except MemoryError:  # in what was pipelined behind
            self._lose(session)
        if not self._handing_over:
            self._go_on(session)

    def _lose(self, session: Session) -> None:
        """No memory for the input: we no longer know the peer's position in it. A message in hand is answered first."""
        session.cut_short = True
        if self._in_hand:
            session.close_when_idle(replies.OUT_OF_MEMORY)
        else:
            session.transaction = None
            session.close_now(replies.OUT_OF_MEMORY)

    # -- the end -----------------------------------------------------------------------------------------------------

    def close_when_idle(self, reply: bytes) -> None:
        """Send this reply and close, after the message being stored."""
        if self._session is not None:
            self._session.close_when_idle(reply)
            self._go_on(self._session)

    def abort(self) -> None:
        """Close without waiting."""
        if self._transport is not None:
            self._transport.abort()

    def look(self, tick: int, patience: Patience) -> None:
        """Once a second: whether this connection was silent, or slow, for too long."""
        session = self._session
        assert session is not None
        if self._ends:
            if tick > self._ends:
                self.abort()
        elif not self._in_hand and self._is_too_slow(session, tick, patience):
            session.close_now(replies.TIMEOUT)
            session.refusals.append((replies.TIMEOUT, b"timeout"))
            self._go_on(session)

    def _is_too_slow(self, session: Session, tick: int, patience: Patience) -> bool:
        body = session.receiving
        if body is None:
            self._pace = None
            return tick - self._seen > patience.idle
        pace = self._pace
        if pace is None or pace.body is not body:
            pace = self._pace = Pace(body, tick)
        return tick - self._seen > patience.data or pace.is_too_slow(tick, patience)

    def _close(self, transport: asyncio.Transport, *, linger: bool) -> None:
        """Say no more. `linger`: read on and forget, until the peer closes too or LINGER is over; closing over bytes
        that were not read would reset the connection and take our last words from the peer."""
        if self._ends:
            return
        self._ends = self._server.tick + LINGER
        if linger and not self._server.stopping:
            transport.write_eof()
        else:
            transport.close()

    def _adjust_reading(self) -> None:
        session, transport = self._session, self._transport
        if session is None or transport is None or transport.is_closing():
            return
        stop = self._write_full or session.backlog > KEPT
        if stop and not self._not_reading:
            transport.pause_reading()
        elif not stop and self._not_reading:
            transport.resume_reading()
        self._not_reading = stop
