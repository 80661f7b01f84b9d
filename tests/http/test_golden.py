"""Every golden exchange, byte for byte: the request as a client sends it, the answer as it must be (contract sections 0 to 7)."""

from __future__ import annotations

import hashlib
from pathlib import Path

import apsw
import pytest

from postroom.clock import MINUTE, HandClock
from postroom.model import Action
from postroom.sealing import KEY_NAME, Sealer, write_private
from postroom.settings import Api
from postroom.store import tokens
from tests import exchange
from tests.exchange import Exchange
from tests.http.conftest import Serve, Served, talk

EXCHANGES = exchange.exchanges()
OWNER = "owner@corp.example"


def add_keys(connection: apsw.Connection, sealer: Sealer, role: str) -> None:
    """The application that all requests are signed for, a key from login that has run out, and two tokens."""

    def sealed(text: str, context: str) -> bytes:
        return sealer.seal(text.encode(), context.encode())

    now = exchange.NOW
    connection.execute("INSERT INTO role (name, permissions) VALUES ('golden', ?)", (role,))
    connection.execute(
        "INSERT INTO app (app_id, name, role, app_key_sealed, access_key, secret_key_sealed, client_id, client_secret_hash,"
        " created) VALUES (?, 'golden', 'golden', ?, ?, ?, ?, ?, ?)",
        (
            exchange.APP_ID, sealed(exchange.APP_KEY, f"app.app_key:{exchange.APP_ID}"), exchange.ACCESS_KEY,
            sealed(exchange.SECRET_KEY, f"app.secret_key:{exchange.APP_ID}"), exchange.CLIENT_ID,
            hashlib.sha256(exchange.CLIENT_SECRET.encode()).digest(), now,
        ),
    )  # fmt: skip
    connection.execute(
        "INSERT INTO console_user (email, password_hash, role, created) VALUES (?, 'none', 'golden', ?)", (OWNER, now)
    )
    connection.execute(
        "INSERT INTO binding (access_key, app_id, email, secret_key_sealed, created, refreshed) VALUES (?, ?, ?, ?, ?, ?)",
        (
            exchange.BINDING_KEY, exchange.APP_ID, OWNER,
            sealed(exchange.SECRET_KEY, f"binding.secret_key:{exchange.BINDING_KEY}"), now, now - 2 * MINUTE,
        ),
    )  # fmt: skip
    for token, expires in ((exchange.TOKEN, now + MINUTE), (exchange.OLD_TOKEN, now - 1)):
        connection.execute(
            "INSERT INTO oauth_token (token_hash, app_id, created, expires) VALUES (?, ?, ?, ?)",
            (tokens.hash_token(token.encode()), exchange.APP_ID, now - MINUTE, expires),
        )


async def play(serve: Serve, directory: Path, scene: str) -> Served:
    """A gateway of its own for one exchange."""
    write_private(directory / KEY_NAME, exchange.MASTER)
    served = await serve(clock=HandClock(exchange.NOW), api=Api(binding_lifetime=MINUTE))
    role = "[]" if scene == "no permissions" else '["*"]'
    await served.store.write(lambda connection: add_keys(connection, served.services.sealer, role))
    if scene in ("mail", "held"):
        await served.put(
            "bob@corp.example", sender="bounce+7@lists.example.org", header_from="carol@example.org",
            name='Carol "C" Müller <x>', to_name="Bob", subject="Fwd: 1 < 2 & 3 > 2", attachment=True,
        )  # fmt: skip
        second = await served.put("dave@corp.example", locked_until=exchange.NOW + MINUTE if scene == "mail" else None)
        if scene == "held":
            await served.store.act(Action.HOLD, second.entries, actor="app:golden", reason="looks odd")
    return served


@pytest.mark.parametrize("name", EXCHANGES)
async def test_the_answer_is_the_golden_one(serve: Serve, tmp_path: Path, name: str) -> None:
    wanted: Exchange = EXCHANGES[name]
    served = await play(serve, tmp_path, wanted.scene)
    answer = await talk(served.address, wanted.wire)
    assert exchange.without_tokens(answer.body).decode() == wanted.body.decode(), wanted.fact
    assert answer.status == wanted.status
    assert {header: answer.headers.get(header) for header in wanted.headers} == wanted.headers
    assert not set(wanted.absent) & answer.headers.keys()


def test_each_names_its_fact_and_how_it_is_known() -> None:
    assert len(EXCHANGES) >= 40
    for name, one in EXCHANGES.items():
        assert one.fact.startswith("Section "), name
        assert one.known in ("recorded", "documented", "inferred", "chosen"), name
        assert "x-request-id" in one.headers, name
    facts = [one.fact for one in EXCHANGES.values()]
    assert len(set(facts)) == len(facts)
