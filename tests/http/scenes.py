"""The gateways that the golden exchanges are played against: what is in the queue, in the history, in the logs."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from postroom.clock import MINUTE, HandClock
from postroom.model import Action, Outcome, Queue, Route
from postroom.sealing import KEY_NAME, Sealer, write_private
from postroom.settings import Api
from postroom.store.access import identity, tokens
from postroom.store.engine import Tx
from postroom.store.keep import samples
from postroom.store.logs import rejections
from postroom.store.logs.rejections import NewRejection
from postroom.store.records import EndedEntry
from tests import exchange
from tests.http.conftest import Serve, Served

OWNER = "owner@corp.example"
NOW = exchange.NOW


@cache
def _password_hash() -> str:
    return identity.hash_password(exchange.PASSWORD)


def add_keys(tx: Tx, sealer: Sealer, role: str, password_hash: str) -> None:
    """The application that all requests are signed for, a key from login that has run out, and two tokens."""

    def sealed(text: str, context: str) -> bytes:
        return sealer.seal(text.encode(), context.encode())

    tx.rows("INSERT INTO role (name, permissions) VALUES ('golden', ?)", (role,))
    tx.rows(
        "INSERT INTO app (app_id, name, role, app_key_sealed, access_key, secret_key_sealed, client_id, "
        "client_secret_hash, created) VALUES (?, 'golden', 'golden', ?, ?, ?, ?, ?, ?)",
        (
            exchange.APP_ID, sealed(exchange.APP_KEY, f"app.app_key:{exchange.APP_ID}"), exchange.ACCESS_KEY,
            sealed(exchange.SECRET_KEY, f"app.secret_key:{exchange.APP_ID}"), exchange.CLIENT_ID,
            hashlib.sha256(exchange.CLIENT_SECRET.encode()).digest(), NOW,
        ),
    )  # fmt: skip
    tx.rows(
        "INSERT INTO console_user (email, password_hash, role, created) VALUES (?, ?, 'golden', ?)",
        (OWNER, password_hash, NOW),
    )
    tx.rows(
        "INSERT INTO binding (access_key, app_id, email, secret_key_sealed, created, refreshed) "
        "VALUES (?, ?, ?, ?, ?, ?)",
        (
            exchange.BINDING_KEY, exchange.APP_ID, OWNER,
            sealed(exchange.SECRET_KEY, f"binding.secret_key:{exchange.BINDING_KEY}"), NOW, NOW - 2 * MINUTE,
        ),
    )  # fmt: skip
    for token, expires in ((exchange.TOKEN, NOW + MINUTE), (exchange.OLD_TOKEN, NOW - 1)):
        tx.rows(
            "INSERT INTO oauth_token (token_hash, app_id, created, expires) VALUES (?, ?, ?, ?)",
            (tokens.hash_token(token.encode()), exchange.APP_ID, NOW - MINUTE, expires),
        )


async def play(serve: Serve, directory: Path, scene: str) -> Served:
    """A gateway of its own for one exchange."""
    write_private(directory / KEY_NAME, exchange.MASTER)
    api = Api(binding_lifetime=MINUTE, rate_limit=1 if scene == "busy" else Api().rate_limit)
    served = await serve(clock=HandClock(NOW), api=api)
    role = "[]" if scene == "no permissions" else '["*"]'
    password_hash = _password_hash() if scene == "person" else "none"
    await served.store.write(lambda tx: add_keys(tx, served.services.sealer, role, password_hash))
    if scene in ("mail", "three", "held", "decided", "history"):
        await _put_mail(served, scene)
    if scene == "history":
        await _add_history(served)
    if scene == "refused":
        await _add_refusals(served)
    if scene == "samples":
        counts = {
            (Queue.PROCESSING, Route.INBOUND): 2,
            (Queue.DELIVERY, Route.OUTBOUND): 1,
            (Queue.HELD, Route.INBOUND): 7,
        }
        for at in (NOW - 2 * samples.STEP, NOW - samples.STEP):
            await served.store.write(lambda tx, at=at: samples.write(tx, at, counts))
    return served


async def _put_mail(served: Served, scene: str) -> None:
    first = await served.put(
        "bob@corp.example", sender="bounce+7@lists.example.org", header_from="carol@example.org",
        name='Carol "C" Müller <x>', to_name="Bob", subject="Fwd: 1 < 2 & 3 > 2", attachment=True,
    )  # fmt: skip
    second = await served.put("dave@corp.example", locked_until=NOW + MINUTE if scene == "mail" else None)
    if scene == "three":
        await served.put("erin@corp.example", subject="The newest")
    if scene in ("held", "decided"):
        await served.store.act(Action.HOLD, second.entries, actor="app:golden", reason="looks odd")
    if scene == "decided":
        await served.store.act(Action.HOLD, first.entries, actor="app:golden")
        await served.store.act(Action.RELEASE, second.entries, actor=f"user:{OWNER}", reason="seen it")
        reason = "Inappropriate communication: not ours"
        await served.store.act(Action.REJECT, first.entries, actor="app:golden", reason=reason)


async def _add_history(served: Served) -> None:
    """One that was delivered, and one that was refused at the door."""
    accepted = await served.put("frank@corp.example", subject="Minutes", locked_until=NOW + MINUTE)
    (entry,) = accepted.entries
    reply = "250 2.0.0 Ok: queued as 4"
    served.store.end(EndedEntry(entry, entry, accepted.message.id, Queue.DELIVERY, Outcome.DELIVERED, reply, 1, 0, NOW))
    await _add_refusals(served)


async def _add_refusals(served: Served) -> None:
    relaying = NewRejection(
        NOW - MINUTE, "203.0.113.5", "mail.example.net", "eve@example.net", "x@elsewhere.example", "relaying",
        "550 5.7.1 Relaying denied", 3,
    )  # fmt: skip
    limit = NewRejection(NOW, "203.0.113.6", "", "", "", "limit", "421 4.7.0 Too many connections")
    await served.store.write(lambda tx: rejections.add(tx, [relaying, limit]))
