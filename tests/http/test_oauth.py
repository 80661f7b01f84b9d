"""`POST /oauth/token` (contract sections 2 and 6.5)."""

from __future__ import annotations

import json
from urllib.parse import urlencode

import msgspec
import pytest

from postroom.clock import SECOND, HandClock
from postroom.http.gateway.calls.oauth import PATH
from postroom.settings import Api
from postroom.store.access import identity, tokens
from tests.http.conftest import Answer, Serve, Served, golden
from tests.http.keys import a_token, ask_token, audit_told, basic

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
GRANT = "grant_type=client_credentials"


def is_granted(answer: Answer) -> None:
    assert answer.status == 200, answer.body
    told = answer.json
    assert list(told) == ["access_token", "token_type", "expires_in", "scope"]
    assert (told["token_type"], told["expires_in"], told["scope"]) == ("Bearer", 1799, "")
    assert len(told["access_token"]) == 28
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["pragma"] == "no-cache"
    assert "x-ratelimit-remaining" in answer.headers


async def test_a_form_in_any_order_and_with_a_scope(served: Served) -> None:
    keys = served.keys[identity.ADMINISTRATOR]
    secret = urlencode({"client_secret": keys.client_secret})
    for body in (
        f"{GRANT}&client_id={keys.client_id}&{secret}",
        f"{secret}&scope=everything&client_id={keys.client_id}&{GRANT}",
    ):
        is_granted(await served.post(PATH, FORM, body.encode()))
        is_granted(await served.post(PATH, {}, body.encode()))  # without a content type
        is_granted(await served.post(PATH, {"Content-Type": "application/json"}, body.encode()))  # a lie


async def test_http_basic_the_query_and_json(served: Served) -> None:
    keys = served.keys[identity.ADMINISTRATOR]
    headers = {**FORM, "Authorization": basic(keys.client_id, keys.client_secret, "Basic")}
    is_granted(await served.post(PATH, headers, GRANT.encode()))
    is_granted(await served.post(f"{PATH}?{GRANT}", headers))
    fields = {"grant_type": "client_credentials", "client_id": keys.client_id, "client_secret": keys.client_secret}
    is_granted(await served.post(f"{PATH}?{urlencode(fields)}", {}))
    is_granted(await served.post(PATH, {"Content-Type": "application/json"}, json.dumps(fields).encode()))


async def test_the_lifetime_is_a_setting(serve: Serve) -> None:
    served = await serve(api=Api(token_lifetime=60 * SECOND))
    assert (await ask_token(served)).json["expires_in"] == 60


@pytest.mark.parametrize("wrong", [{"client_secret": "guess"}, {"client_id": "unknown"}, {"client_id": "x" * 500}])
async def test_a_wrong_client_gets_every_shape_that_some_client_reads(served: Served, wrong: dict[str, str]) -> None:
    answer = await ask_token(served, **wrong)
    assert (answer.status, answer.body) == (401, golden("oauth_invalid_client"))
    assert "www-authenticate" not in answer.headers
    headers = {"Authorization": basic("unknown", "guess", "Basic")}
    challenged = await served.post(f"{PATH}?{GRANT}", headers)
    assert (challenged.status, challenged.body) == (401, golden("oauth_invalid_client"))
    assert challenged.headers["www-authenticate"].startswith("Basic ")


async def test_what_is_missing_is_said(served: Served) -> None:
    for missing in ("client_id", "client_secret"):
        answer = await ask_token(served, **{missing: ""})
        assert (answer.status, answer.json["error"]) == (401, "invalid_client")
        assert f"no {missing}" in answer.json["error_description"]
    answer = await ask_token(served, grant_type="")
    assert (answer.status, answer.json["error"]) == (400, "invalid_request")
    answer = await ask_token(served, grant_type="password")
    assert (answer.status, answer.body) == (400, golden("oauth_grant_type"))
    answer = await served.get(f"{PATH}?{GRANT}")
    assert (answer.status, answer.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff\xfe=&&", b"&".join(b"a=%d" % number for number in range(100)), b'{"client_id":7}']
)
async def test_any_bytes_get_an_answer(served: Served, body: bytes) -> None:
    answer = await served.post(PATH, FORM, body)
    assert answer.status == 400
    assert answer.json["meta"] == {"status": 400}


async def test_a_revoked_application_gets_no_token(served: Served) -> None:
    app_id = served.keys[identity.ADMINISTRATOR].app_id
    await served.store.write(lambda tx: identity.revoke_app(tx, app_id))
    assert (await ask_token(served)).status == 401


async def test_tokens_are_kept_as_hashes_and_bounded_in_number(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "MOST", 3)
    assert isinstance(served.clock, HandClock)
    made = []
    for _ in range(5):
        made.append(await a_token(served))
        served.clock.move(1)
    await a_token(served, identity.MONITOR)  # counted for each application
    kept = await served.store.read(
        lambda reader: {row[0] for row in reader.tx.rows("SELECT token_hash FROM oauth_token")}
    )
    assert len(kept) == 4
    assert [tokens.hash_token(token.encode()) in kept for token in made] == [False, False, True, True, True]
    stored = b"".join([path.read_bytes() for path in served.store.path.parent.glob("postroom.db*")])
    assert not [token for token in made if token.encode() in stored]


async def test_whoever_is_refused_again_and_again_is_told_to_wait_and_nobody_else(serve: Serve) -> None:
    served = await serve(api=Api(refusal_limit=3, refusal_window=60 * SECOND))
    for _ in range(3):
        assert (await ask_token(served, client_secret="guess")).status == 401
    answer = await ask_token(served, client_secret="guess")
    assert (answer.status, answer.json["error"], answer.headers["retry-after"]) == (429, "slow_down", "60")
    assert answer.headers["x-ratelimit-reset"] == "60000"
    assert (await ask_token(served)).status == 200
    assert isinstance(served.clock, HandClock)
    served.clock.move(60 * SECOND)
    assert (await ask_token(served, client_secret="guess")).status == 401


async def test_tokens_given_and_refused_stand_in_the_audit_log(served: Served) -> None:
    await a_token(served)
    await a_token(served)
    await ask_token(served, client_secret="guess")
    assert await audit_told(served, kind="token") == [
        ("token", "app:administrator", "", "done", "", 2),
        ("token", "", "", "refused", "401 invalid_client", 1),
    ]


async def test_answers_escape_what_was_sent(served: Served) -> None:
    """Whatever stands in a body of ours is harmless in a page."""
    answer = await ask_token(served, grant_type="<script>")
    assert b"<" not in answer.body
    assert msgspec.json.decode(answer.body)["error"] == "unsupported_grant_type"
