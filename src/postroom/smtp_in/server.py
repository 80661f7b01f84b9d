"""The SMTP listeners: sockets, limits, time-outs, back-pressure. `session` has the protocol.

Promises: a peer that does not read, does not write or connects too often costs bounded memory and is cut; one tick a
second over all connections serves every time-out; a listener that the system closed is opened again; `stop` lets
messages in progress get their reply. Fails: `start` raises EnvironmentFailed naming the address; nothing raises later.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
import sys

from postroom.clock import SystemClock
from postroom.errors import EnvironmentFailed
from postroom.settings import Address, Settings
from postroom.smtp_in import replies
from postroom.smtp_in.connection import Connection
from postroom.smtp_in.pace import Patience
from postroom.smtp_in.receive import Receiver
from postroom.smtp_in.rejections import Rejections
from postroom.smtp_in.routing import place_of
from postroom.smtp_in.session import Session
from postroom.smtp_in.shared import MESSAGE, SessionConfig
from postroom.telemetry import Counts, Log

SWEEP = 1.0  # seconds between looks; time-outs are counted in looks, so that a clock that jumps ends no session
BACKLOG = 1024
# File descriptors, or a quarter of few, that are reserved for the store, deliveries and HTTP clients
SPARE_FILES = 64
OVER = 10  # looks without such a refusal, after which a condition of ours is over
RESERVED = 10  # one session in so many is kept for relay networks: strangers cannot lock our own mail out


class _Listener:
    """One bound address."""

    __slots__ = ("address", "family", "server", "socket")

    def __init__(self, family: socket.AddressFamily, address: Address) -> None:
        self.family = family
        self.address = address
        self.socket: socket.socket | None = None
        self.server: asyncio.AbstractServer | None = None

    def bind(self) -> socket.socket:
        """A fresh socket on the address; the port is fixed from then on."""
        listening = socket.socket(self.family, socket.SOCK_STREAM)
        try:
            listening.setblocking(False)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if self.family == socket.AF_INET6:  # "::" and "0.0.0.0" side by side
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listening.bind((self.address.host, self.address.port))
        except OSError:
            listening.close()
            raise
        self.address = Address(self.address.host, listening.getsockname()[1])
        self.socket = listening
        return listening

    @property
    def is_lost(self) -> bool:
        return self.socket is None or self.socket.fileno() < 0


class SmtpServer:
    """The listeners and their connections."""

    def __init__(
        self,
        settings: Settings,
        receiver: Receiver,
        *,
        log: Log,
        counts: Counts,
        loop: asyncio.AbstractEventLoop,
        rejections: Rejections | None = None,
    ) -> None:
        self.receiver = receiver
        self.rejections = rejections or Rejections(None, clock=SystemClock(), log=log)
        self.tick = 0  # looks so far: the server's notion of time
        self._log = log
        self._counts = counts
        self._loop = loop
        self._highest_file = sys.maxsize
        self._conditions: dict[bytes, list[int]] = {}  # reply -> (look of the last one, how many)
        self._listeners: list[_Listener] = []
        self._connections: set[Connection] = set()
        self._per_place: dict[str, int] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._reviving: asyncio.Task[None] | None = None
        self.stopping = False
        self._empty = asyncio.Event()
        self._empty.set()
        self.apply(settings)

    def __repr__(self) -> str:
        return f"SmtpServer({', '.join(map(str, self.addresses))}, {len(self._connections)} connections)"

    @property
    def addresses(self) -> list[Address]:
        """The listening addresses, with the ports really bound."""
        return [listener.address for listener in self._listeners]

    def apply(self, settings: Settings) -> None:
        """New settings for sessions from now on; the listeners stay."""
        receiver, limits = self.receiver, settings.smtp
        self._settings = limits
        self._config = SessionConfig(settings.gateway, limits, receiver.memory, receiver.admission)
        self._patience = Patience(limits)
        self._for_strangers = limits.max_sessions - limits.max_sessions // RESERVED

    @property
    def deaf(self) -> bool:
        """Whether an address is not listened on just now."""
        return not self.stopping and any(listener.is_lost for listener in self._listeners)

    async def start(self) -> None:
        """Listen on every address of the settings, or on none."""
        try:
            for wanted in self._settings.listen:
                await self._listen(wanted)
        except EnvironmentFailed:
            self._close_listeners()
            raise
        self._look_at_files()
        self._timer = self._loop.call_later(SWEEP, self._on_timer)

    async def _listen(self, wanted: Address) -> None:
        try:
            found = await self._loop.getaddrinfo(
                wanted.host or None, wanted.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
            for family, _, _, _, place in found:
                listener = _Listener(family, Address(str(place[0]), wanted.port))
                await self._open(listener)
                self._listeners.append(listener)
        except OSError as problem:
            raise EnvironmentFailed(
                f"cannot listen on {wanted} for SMTP: {problem.strerror or problem}; see [smtp] listen"
            ) from problem

    async def _open(self, listener: _Listener) -> None:
        listening = listener.bind()
        try:
            listener.server = await self._loop.create_server(lambda: Connection(self), sock=listening, backlog=BACKLOG)
        except OSError:
            listening.close()
            raise

    async def stop(self, grace: float) -> None:
        """Refuses new connections, answers 421 to idle ones, and gives messages in hand `grace` seconds."""
        self.stopping = True
        if self._timer is not None:
            self._timer.cancel()
        if self._reviving is not None:
            self._reviving.cancel()
        self._close_listeners()
        for connection in list(self._connections):
            connection.close_when_idle(replies.SHUTTING_DOWN)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._empty.wait(), grace)
        if self._connections:
            self._log.warning("smtp_cut_off", sessions=len(self._connections))
            for connection in list(self._connections):
                connection.abort()
            await self._empty.wait()

    def _close_listeners(self) -> None:
        for listener in self._listeners:
            if listener.server is not None:
                listener.server.close()

    # -- what connections ask and tell -------------------------------------------------------------------------------

    def admit(self, connection: Connection) -> Session | bytes:
        """A session for a new connection, or the reply that refuses it."""
        self._counts.smtp_sessions_total += 1
        ip = connection.ip
        trusted = self._config.routing.trusts(ip)
        if self.stopping:
            return replies.SHUTTING_DOWN
        if len(self._connections) >= (self._settings.max_sessions if trusted else self._for_strangers):
            return self._sent_away(ip, replies.TOO_MANY_SESSIONS)
        if connection.file > self._highest_file:
            return self._sent_away(ip, replies.TOO_MANY_FILES)
        place = connection.place = place_of(ip)
        of_this_place = self._per_place.get(place, 0)
        if of_this_place >= self._settings.max_sessions_per_ip and not trusted:
            return self._sent_away(ip, replies.TOO_MANY_SESSIONS_OF_YOU)
        self._per_place[place] = of_this_place + 1
        self._connections.add(connection)
        self._counts.smtp_sessions += 1
        self._empty.clear()
        return Session(self._config, ip, "", trusted)

    def _sent_away(self, ip: str, reply: bytes) -> bytes:
        self._note_refusal(ip, reply, "connect")
        self.rejections.note_connection(ip, place_of(ip), reply)
        return reply

    def gone(self, connection: Connection) -> None:
        """An admitted connection is lost."""
        if connection not in self._connections:
            return
        self._connections.discard(connection)
        self._counts.smtp_sessions -= 1
        left = self._per_place[connection.place] - 1
        if left:
            self._per_place[connection.place] = left
        else:
            del self._per_place[connection.place]
        if not self._connections:
            self._empty.set()

    def note_refusals(self, connection: Connection, refusals: list[tuple[bytes, bytes]]) -> None:
        """Count and log what a session refused."""
        for reply, line in refusals:
            if line is MESSAGE:
                self._counts.smtp_rejected_messages += 1
            self._note_refusal(connection.ip, reply, _shown(line))
        refusals.clear()

    def _note_refusal(self, ip: str, reply: bytes, command: str) -> None:
        code = int(reply[:3])
        refused = self._counts.smtp_refused
        refused[code] = refused.get(code, 0) + 1
        if reply in replies.CONDITIONS:
            condition = self._conditions.setdefault(reply, [0, 0])
            condition[0] = self.tick
            condition[1] += 1
            if condition[1] > 1:
                return
        self._log.info(
            "refused", code=code, reason=reply[4:].decode("ascii", "replace").strip(), command=command, ip=ip
        )

    # -- once a second -----------------------------------------------------------------------------------------------

    def _on_timer(self) -> None:
        self._timer = self._loop.call_later(SWEEP, self._on_timer)
        self.sweep()

    def sweep(self) -> None:
        """Once a second: cut silent and slow connections, reopen closed listeners."""
        self.tick += 1
        for connection in list(self._connections):
            connection.look(self.tick, self._patience)
        self._look_at_files()
        for reply, (last, number) in list(self._conditions.items()):
            if self.tick - last > OVER:
                del self._conditions[reply]
                self._log.info("refused_so_often", reason=reply[4:].decode("ascii").strip(), times=number)
        if self._reviving is None and self.deaf:
            self._reviving = self._loop.create_task(self._revive())

    def _look_at_files(self) -> None:
        """The limit can be set from outside. A new socket gets the smallest free number, which tells how many are in
        use."""
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._highest_file = sys.maxsize if limit < 0 else limit - min(SPARE_FILES, limit // 4)

    async def _revive(self) -> None:
        """Out of file descriptors the event loop may close a listener; it must not stay closed."""
        for listener in self._listeners:
            if listener.is_lost:
                try:
                    await self._open(listener)
                except OSError as problem:  # next second again
                    self._log.warning("listener_lost", address=listener.address, problem=str(problem))
                else:
                    self._log.warning("listener_opened_again", address=listener.address)
        self._reviving = None


def _shown(line: bytes) -> str:
    """A refused command for the log: whole for MAIL and RCPT, else the verb only (it could hold a password)."""
    if line[:4].upper() in (b"MAIL", b"RCPT"):
        return line.decode("ascii", "backslashreplace")
    verb = line.partition(b" ")[0][:12]
    return verb.decode("ascii") if verb.isalpha() and verb.isascii() else "?"
