"""A store with realistic mail in every state the console can show, and a console that serves it. No worker runs."""

from __future__ import annotations

import asyncio
import io
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime
from pathlib import Path

import msgspec

from postroom import facts
from postroom.clock import DAY, HOUR, MINUTE, SECOND, HandClock
from postroom.http.listener.server import HttpServer
from postroom.http.services import Services
from postroom.model import Client, Label, Outcome, Queue, Recipient, Route, Scope
from postroom.sealing import Sealer
from postroom.settings import Address, GatewaySettings, Http, Settings
from postroom.store.access import identity
from postroom.store.records import Accepted, EndedEntry, NewMessage, Waited
from postroom.store.sqlite.writer import Batch
from postroom.store.store import Store, open_store
from postroom.telemetry import Counts, Log

NOW = 1_795_342_020_000  # 2026-11-22 10:07:00 UTC
EMAIL = "admin@postroom.local"
PASSWORD = "correct horse battery"  # of a store that lives for one test

US = "corp.example"
PEOPLE = (
    ("Alice Hartmann", "alice.hartmann"), ("Bram de Wit", "bram.dewit"), ("Chiara Conti", "chiara.conti"),
    ("Dmitri Volkov", "dmitri.volkov"), ("Emma O’Brien", "emma.obrien"), ("Farid Haddad", "farid.haddad"),
    ("Grace Lindqvist", "grace.lindqvist"), ("Hiro Tanaka", "hiro.tanaka"),
)  # fmt: skip
OUTSIDE = (
    ("Northwind Billing", "billing@northwind.example"), ("Marta Nowak", "m.nowak@fabrikam.example"),
    ("Adventure Works", "orders@adventure-works.example"), ("Jonas Müller", "jonas@mueller-bau.example"),
    ("GitForge", "notifications@gitforge.example"), ("Ilse Brandt", "ilse.brandt@stadtwerke.example"),
    ("Contoso Travel", "itinerary@travel.contoso.example"), ("Ελένη Παππά", "e.pappa@limani.example"),
)  # fmt: skip
SUBJECTS = (
    "Quarterly report, second draft", "Invoice 2026-11873 from Northwind", "Re: Site visit on Thursday",
    "Your order 88213 has been shipped", "[postroom] Build 4112 passed", "Angebot für die Dacharbeiten",
    "Протокол совещания", "Signed contract attached", "Minutes of the works council", "Fwd: Access to the archive room",
    "Password of the printer has changed", "Lunch on Friday?", "Meter readings for November", "Re: Re: Budget 2027",
    "Flight LX 1092: check in now", "Security advisory: update your VPN client", "Delivery note 5567",
    "Résumé and cover letter", "Backup report: 14 of 14 jobs succeeded", "Draft press release, please comment",
)  # fmt: skip
# In the words of our checks, our SMTP client and next hops: pictures show nothing that the product cannot do.
AWAY = "Antivirus scanner is not answering (connection refused)"
SLOW = "Antivirus scanner is not answering (timeout)"
GREYLISTED = "451 4.7.1 Greylisted, try again in 5 minutes"
REFUSED = "connect to mx1.fabrikam.example:25: Connection refused"


class Mailroom:
    """Puts mail into a store, at times of its own choosing."""

    def __init__(self, store: Store, clock: HandClock) -> None:
        self.store, self.clock = store, clock
        self._number = 0

    def at(self, ago: int) -> None:
        """Only forwards: ids never go back."""
        self.clock.move(max(NOW - ago - self.clock.now(), 0))

    def hand(self, fill: Callable[[Batch], None]) -> None:
        batch = Batch()
        fill(batch)
        self.store._engine.hand(batch)
        self.store.write_now(lambda tx: None)

    def take(
        self, *, subject: str | None = None, route: Route = Route.INBOUND, into: Queue = Queue.PROCESSING,
        size: int = 0, attachment: bool = False, lease_for: int | None = None, sender: tuple[str, str] | None = None,
        recipients: int = 1, raw: bytes | None = None, env_from: str | None = None,
    ) -> Accepted:  # fmt: skip
        number = self._number = self._number + 1
        inside = [(name, f"{local}@{US}") for name, local in (PEOPLE[number % 8 :] + PEOPLE)[:8]]
        outside = list((OUTSIDE[number * 3 % 8 :] + OUTSIDE)[:8])
        froms, tos = {
            Route.INBOUND: (outside, inside), Route.OUTBOUND: (inside, outside), Route.INTERNAL: (inside, inside[1:]),
            Route.EXTERNAL: (outside, outside[1:]),
        }[route]  # fmt: skip
        name, address = sender or froms[0]
        to = tos[:recipients]
        data = raw or a_message(
            name,
            address,
            to,
            SUBJECTS[number * 7 % 20] if subject is None else subject,
            self.clock.now(),
            size,
            attachment,
        )
        found = facts.scan(data)
        client = Client(
            ip=f"192.0.2.{number % 200 + 7}",
            name=f"mail{number % 4}.{address.partition('@')[2].encode('idna').decode()}",
            helo="mail.example", tls="TLSv1.3 TLS_AES_256_GCM_SHA384",
        )  # fmt: skip
        new = NewMessage(
            client, address if env_from is None else env_from,
            tuple(Recipient(one, route, known) for known, one in to), found, len(data), self.clock.now(), data, "",
            b"\x01" * 16, queue=into,
        )  # fmt: skip
        lease = None if lease_for is None else self.clock.now() + lease_for
        answers: queue.SimpleQueue[object] = queue.SimpleQueue()  # on the console's event loop, when that runs
        self.hand(lambda batch: batch.arrivals.append((new, lease, answers.put)))
        answer = answers.get(timeout=60)
        assert isinstance(answer, Accepted), answer
        return answer

    def later(
        self,
        accepted: Accepted,
        info: str,
        tries: int,
        wait: int,
        *,
        label: int = 0,
        queue: Queue = Queue.PROCESSING,
    ) -> None:
        """Its attempts so far ended with "later"; the next is `wait` after NOW."""
        for ident in accepted.entries:
            held = Queue.PROCESSING if queue is Queue.HELD else None
            kind = "held" if held else "deferred"
            waited = Waited(ident, ident, queue, held, info, tries, NOW + wait, label, self.clock.now(), kind)
            self.hand(lambda batch, waited=waited: batch.waits.append(waited))


def a_message(
    name: str, address: str, to: list[tuple[str, str]], subject: str, at: int, size: int, attachment: bool
) -> bytes:  # fmt: skip
    message = EmailMessage()
    message["From"] = f'"{name}" <{address}>' if address.isascii() else f"<{address}>"
    message["To"] = ", ".join(f'"{known}" <{one}>' for known, one in to if one.isascii()) or "undisclosed-recipients:;"
    message["Subject"] = subject
    message["Date"] = format_datetime(datetime.fromtimestamp(at // 1000, UTC))
    message["Message-ID"] = f"<{at:x}.{len(subject)}@{address.partition('@')[2].encode('idna').decode()}>"
    message["X-Mailer"] = "Fabricated for a picture"
    message.set_content(
        "Hello,\n\nthis text is never shown in the console.\n" + "Lorem ipsum dolor sit amet.\n" * (size // 28)
    )
    if attachment:
        message.add_attachment(
            b"%PDF-1.7" + b"0" * 20_000, maintype="application", subtype="pdf", filename="report.pdf"
        )
    return message.as_bytes().replace(b"\n", b"\r\n")


def fill(store: Store, clock: HandClock) -> dict[str, int]:
    """The whole scene; the ids of entries that tests and pictures want to name."""
    room = Mailroom(store, clock)
    named: dict[str, int] = {}
    room.at(2 * DAY)
    for number in range(3):
        held = room.take(
            lease_for=60_000,
            attachment=True,
            subject=("Wire transfer today", "invoice.pdf.exe", "Re: contract")[number],
        )
        room.later(held, "MIME structure is suspect: more than 1000 parts", 1, 0, queue=Queue.HELD)
        named["held"] = held.entries[0]
    room.at(9 * HOUR)
    for number in range(7):
        sent = room.take(route=Route.OUTBOUND, into=Queue.DELIVERY, lease_for=60_000)
        label = Label.MAYBE_DELIVERED if number == 3 else 0
        room.later(
            sent,
            (GREYLISTED, REFUSED)[number % 2],
            4 + number,
            (number + 2) * 7 * MINUTE,
            label=label,
            queue=Queue.DELIVERY,
        )
        named["delivery"] = sent.entries[0]
    room.at(3 * HOUR)
    named["suspect"] = suspect(room)
    done = room.take(lease_for=60_000, subject="Already delivered")
    room.hand(
        lambda batch: batch.ends.append(
            EndedEntry(done.entries[0], done.entries[0], done.message.id, Queue.DELIVERY, Outcome.DELIVERED,
                       "250 2.0.0 Ok: queued as 4XyZ", 1, 0, clock.now() + 800)
        )
    )  # fmt: skip
    named["ended"] = done.entries[0]
    for number in range(12):
        room.at(40 * MINUTE - number * 30 * SECOND)
        room.take(
            into=Queue.BULK,
            route=Route.OUTBOUND,
            sender=("Newsletter", f"news@{US}"),
            subject="November newsletter: the new building",
        )
    room.at(25 * MINUTE)
    named["maybe"] = maybe_delivered(room)
    room.take(
        into=Queue.SYSTEM,
        route=Route.EXTERNAL,
        sender=("Mail Delivery", f"postmaster@{US}"),
        subject="Undelivered mail returned to sender",
        env_from="",
    )
    named["hostile"] = hostile(room)
    clock.move(1)
    store.pause_now(Scope.PROCESSING, actor="admin@postroom.local")
    for number in range(58):
        room.at(int(22 * MINUTE * (1 - number / 58) ** 1.6) + 9 * SECOND)
        route = (Route.INBOUND, Route.INBOUND, Route.OUTBOUND, Route.INBOUND, Route.INTERNAL)[number % 5]
        size = (1200, 5200, 900, 48_000, 3_000_000, 2100, 16_000)[number % 7]
        lease = 60_000 if number % 6 == 1 else None
        taken = room.take(
            route=route,
            attachment=number % 4 == 3,
            size=min(size, 900_000),
            lease_for=lease or (1_500_000 if number > 54 else None),
        )
        if lease:
            room.later(
                taken, (AWAY, SLOW)[number % 2 if number % 4 else 1], number % 5 + 1, (number % 9 + 1) * 23 * SECOND
            )
            named["later"] = taken.entries[0]
    room.at(4 * SECOND)
    named["newest"] = room.take(subject="Quarterly report, final", attachment=True).entries[0]
    room.at(0)
    return named


def hostile(room: Mailroom) -> int:
    """What a message may try: markup, direction overrides, controls, invisible characters."""
    raw = (
        'From: "<img src=x onerror=alert(1)>" <mallory@evil.example>\r\nTo: <alice.hartmann@corp.example>\r\n'
        "Subject: <script>document.title='owned'</script> Invoice \u202egpj.exe \u200b{{ 7*7 }}\r\n"
        "X-Evil: </pre><script>document.title='owned'</script>\r\n\r\nbody <script>document.title='owned'</script>\r\n"
    ).encode()
    return room.take(raw=raw, sender=("<b>Mallory</b>", "mallory@evil.example")).entries[0]


def maybe_delivered(room: Mailroom) -> int:
    taken = room.take(
        route=Route.OUTBOUND,
        into=Queue.DELIVERY,
        lease_for=60_000,
        subject="Signed contract, returned",
        attachment=True,
    )
    room.later(
        taken,
        "connection to mx1.fabrikam.example:25 lost while waiting for the reply to the content",
        3,
        4 * MINUTE + 12 * SECOND,
        label=Label.MAYBE_DELIVERED,
        queue=Queue.DELIVERY,
    )
    return taken.entries[0]


def suspect(room: Mailroom) -> int:
    taken = room.take(lease_for=60_000, subject="Meter readings, all halls", attachment=True)
    room.later(taken, "Suspect: 3 attempts in a row ended without a result", 4, 3 * MINUTE, label=Label.SUSPECT)
    return taken.entries[0]


class Console:
    """The HTTP server over a store without a worker, on an event loop of its own."""

    def __init__(self, data: Path, *, settings: Settings | None = None, clock: HandClock | None = None) -> None:
        self.base = ""
        base = settings or Settings(gateway=GatewaySettings(hostname="gw.corp.example", internal_domains=(US,)))
        self.settings = msgspec.structs.replace(base, data=str(data), http=Http(listen=(Address("127.0.0.1", 0),)))
        self.clock = clock or HandClock(NOW - 3 * DAY)
        self.logged = io.StringIO()
        self.log = Log(self.logged, clock=self.clock)
        self.store = open_store(self.settings, clock=self.clock, log=self.log)
        self.password_hash = identity.hash_password(PASSWORD)
        self.store.write_now(
            lambda tx: identity.create_user(
                tx, email=EMAIL, password_hash=self.password_hash, role=identity.ADMINISTRATOR
            )
        )
        self.services = Services(
            self.store, self.settings, self.clock, self.log, Counts(), Sealer(b"k" * 32), lambda: []
        )

    @contextmanager
    def serving(self) -> Iterator[Console]:
        ready, stop = threading.Event(), threading.Event()
        loop = asyncio.new_event_loop()

        async def main() -> None:
            self.store.attach(loop)
            server = HttpServer(self.settings, self.services, self.log)
            await server.start()
            self.base = f"http://{server.addresses[0]}"
            ready.set()
            await loop.run_in_executor(None, stop.wait)
            await server.stop(1.0)

        def run() -> None:
            try:
                loop.run_until_complete(main())
                loop.run_until_complete(loop.shutdown_default_executor())
            finally:
                loop.close()
                ready.set()

        thread = threading.Thread(target=run, name="console")
        thread.start()
        try:
            assert ready.wait(60)
            assert self.base, self.logged.getvalue()
            yield self
        finally:
            stop.set()
            thread.join(60)
            self.store.close()
            self.log.flush()
