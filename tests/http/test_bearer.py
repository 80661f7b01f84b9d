"""Calls with an access token, on the same addresses as signed ones (contract section 2)."""

from __future__ import annotations

from pathlib import Path

import pytest

from postroom.clock import DAY, MINUTE, SECOND, HandClock
from postroom.http.gateway.front import GatewayApi
from postroom.http.gateway.wire.envelope import Failure
from postroom.settings import Api
from postroom.store.access import identity, permissions, tokens
from postroom.store.keep import expiry
from tests.http.conftest import FIND, Answer, Serve, Served, golden, talk
from tests.http.keys import a_token, an_app, audit_told, carrying
from tests.http.test_server import a_scope

LIFETIME = 1799 * SECOND


async def find_with(served: Served, token: str) -> Answer:
    return await served.post(FIND, carrying(token), b"{}")


async def test_a_token_opens_what_a_signature_opens(served: Served) -> None:
    await served.put()
    token = await a_token(served, identity.MONITOR)
    answer = await find_with(served, token)
    assert len(answer.messages) == 1
    assert answer.headers["cache-control"] == "no-store"
    assert "x-ratelimit-remaining" in answer.headers
    for headers in ({"authorization": f"bearer {token}"}, {"Authorization": f"Bearer  {token} ", "x-request-id": "me"}):
        again = await served.post(FIND, headers)
        assert len(again.messages) == 1
    assert again.headers["x-request-id"] == "me"


async def test_a_token_lives_as_long_as_it_was_told(served: Served) -> None:
    assert isinstance(served.clock, HandClock)
    token = await a_token(served)
    served.clock.move(LIFETIME - 1)
    assert (await find_with(served, token)).status == 200
    served.clock.move(1)
    answer = await find_with(served, token)
    assert (answer.status, answer.body) == (401, golden("bearer_expired"))
    assert answer.headers["www-authenticate"] == "Bearer"
    assert "x-ratelimit-remaining" in answer.headers


async def test_expired_is_told_for_a_month(served: Served) -> None:
    """One client logs in again only when it reads this code."""
    assert isinstance(served.clock, HandClock)
    token = await a_token(served)

    async def reap() -> None:
        now = served.clock.now()
        while await served.store.write(lambda tx: expiry.reap(tx, now, 0)):
            pass

    served.clock.move(LIFETIME + tokens.REMEMBERED - 1)
    await reap()
    assert (await find_with(served, token)).body == golden("bearer_expired")
    served.clock.move(DAY)
    await reap()
    assert (await find_with(served, token)).body == golden("bearer_unknown")


@pytest.mark.parametrize(
    ("authorization", "name"),
    [("Bearer made-up", "bearer_unknown"), ("Bearer", "bearer_missing"), ("Bearer ", "bearer_missing"),
     ("Bearer " + "x" * 1000, "bearer_missing"), ("BEARER \xff", "bearer_unknown")],
)  # fmt: skip
async def test_what_is_no_token_of_ours_is_refused_flatly(served: Served, authorization: str, name: str) -> None:
    head = f"POST {FIND} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nAuthorization: {authorization}\r\n\r\n"
    answer = await talk(served.address, head.encode("latin-1"))
    assert (answer.status, answer.body) == (401, golden(name))


async def test_an_unknown_function_is_forbidden_in_the_recorded_words(served: Served) -> None:
    token = await a_token(served)
    answer = await served.post("/api/gateway/nothing", carrying(token), b"{}")
    assert (answer.status, answer.body) == (403, golden("app_forbidden"))
    bad = await served.post("/api/gateway/nothing", carrying("made-up"), b"{}")
    assert bad.status == 404  # nobody learns more than a signed call would


async def test_a_token_has_the_role_of_its_application(served: Served) -> None:
    await an_app(served, "guest", permissions.DASHBOARD_READ)
    answer = await find_with(served, await a_token(served, "guest"))
    assert (answer.status, answer.body) == (403, golden("forbidden"))


async def test_revoking_the_application_ends_its_tokens_within_a_second(served: Served) -> None:
    assert isinstance(served.clock, HandClock)
    token = await a_token(served)
    assert (await find_with(served, token)).status == 200
    app_id = served.keys[identity.ADMINISTRATOR].app_id
    await served.store.write(lambda tx: identity.revoke_app(tx, app_id))
    served.clock.move(SECOND)
    answer = await find_with(served, token)
    assert (answer.status, answer.body) == (401, golden("bearer_unknown"))


async def test_tokens_survive_a_restart(serve: Serve, tmp_path: Path) -> None:
    served = await serve()
    token = await a_token(served)
    await served.server.stop(1)
    served.store.close()
    again = await serve()
    assert (await find_with(again, token)).status == 200


async def test_a_hot_token_costs_no_query(served: Served) -> None:
    token = await a_token(served)
    assert (await find_with(served, token)).status == 200
    await served.store.write(lambda tx: tx.rows("ALTER TABLE oauth_token RENAME TO tokens_elsewhere"))
    assert (await find_with(served, token)).status == 200
    await served.store.write(lambda tx: tx.rows("ALTER TABLE tokens_elsewhere RENAME TO oauth_token"))


async def test_calls_with_tokens_count_as_the_applications(serve: Serve) -> None:
    served = await serve(api=Api(rate_limit=2))
    token = await a_token(served)
    assert (await find_with(served, token)).headers["x-ratelimit-remaining"] == "1"
    assert (await served.find()).headers["x-ratelimit-remaining"] == "0"
    answer = await find_with(served, token)
    assert (answer.status, answer.headers["retry-after"]) == (429, "5")


async def test_made_up_tokens_are_slowed_and_stop_no_good_one(serve: Serve) -> None:
    served = await serve(api=Api(refusal_limit=3, refusal_window=MINUTE))
    good = await a_token(served)
    assert (await find_with(served, good)).status == 200
    for _ in range(3):
        assert (await find_with(served, "made-up")).status == 401
    answer = await find_with(served, "made-up")
    assert (answer.status, answer.headers["retry-after"]) == (429, "60")
    assert (await find_with(served, good)).status == 200
    assert (await served.find()).status == 200


# -- for our own API


async def test_our_own_api_is_told_who_calls_or_why_not(served: Served) -> None:
    api = GatewayApi(served.services, served.server.guard)
    token = (await a_token(served, identity.MONITOR)).encode()

    def scope(*headers: tuple[bytes, bytes]) -> dict[str, object]:
        return a_scope("GET", "/v1/queues", *headers)

    mine = scope((b"authorization", b"Bearer " + token))
    caller, allowance = await api.callers.bearer(mine, "/v1/queues", permissions.PROCESSING_READ)
    assert (caller.actor, allowance.allowed) == ("app:monitor", True)
    with pytest.raises(Failure, match="lacks the permission") as refused:
        await api.callers.bearer(mine, "/v1/queues", permissions.PROCESSING_EDIT)
    assert refused.value.status == 403
    assert b"x-ratelimit-remaining" in dict(refused.value.headers)
    for headers in ([], [(b"authorization", b"MC key:signature")], [(b"authorization", b"Bearer made-up")]):
        with pytest.raises(Failure) as refused:
            await api.callers.bearer(scope(*headers), "/v1/queues", permissions.PROCESSING_READ)
        assert refused.value.status == 401


async def test_refusals_stand_in_the_audit_log_once_an_hour(served: Served) -> None:
    assert isinstance(served.clock, HandClock)
    for _ in range(3):
        await find_with(served, "made-up")
    served.clock.move(60 * MINUTE)
    await find_with(served, "made-up")
    refused = ("call", "", FIND, "refused", "401 token_verification_failed")
    assert await audit_told(served, kind="call") == [(*refused, 3), (*refused, 1)]
