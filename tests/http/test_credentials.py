"""Refusals before a function runs, byte for byte, in the recorded order (contract section 1.3)."""

from __future__ import annotations

import pytest

from postroom.clock import MINUTE, SECOND
from postroom.http.door import auth, callers, remembered
from postroom.settings import Api
from postroom.store.access import identity
from tests.http.conftest import FIND, Answer, HandClock, Serve, Served, golden
from tests.http.test_signature import KEYS

RATE = {"x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"}
FRESH = {"cache-control": "no-store", "pragma": "no-cache", "x-robots-tag": "noindex, nofollow"}


def is_golden(answer: Answer, status: int, name: str) -> None:
    assert (answer.status, answer.body) == (status, golden(name))
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers.keys() >= RATE | {"x-request-id", "x-content-type-options"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"secret_key": "c2VjcmV0"},
        {"app_key": "00000000-0000-0000-0000-000000000000"},
        {"access_key": "nobody's"},
        {"signs": "/api/gateway/other"},
    ],
)
async def test_wrong_keys_cannot_be_told_apart(served: Served, wrong: dict[str, str]) -> None:
    answer = await served.post(FIND, served.signed(**wrong), b"{}")
    is_golden(answer, 401, "invalid_signature")
    assert not answer.headers.keys() & FRESH.keys()


async def test_an_unknown_application_is_named_with_http_200(served: Served) -> None:
    answer = await served.post(FIND, served.signed(app_id="INVALID"), b"{}")
    is_golden(answer, 200, "invalid_app_id")
    assert not answer.headers.keys() & FRESH.keys()


async def test_the_application_is_judged_before_the_signature(served: Served) -> None:
    answer = await served.post(FIND, served.signed(app_id="INVALID", secret_key="c2VjcmV0"), b"{}")
    is_golden(answer, 200, "invalid_app_id")


async def test_the_application_is_judged_before_the_form_of_the_signature(served: Served) -> None:
    headers = served.signed(app_id="INVALID") | {"Authorization": "MC nocolon"}
    is_golden(await served.post(FIND, headers, b"{}"), 200, "invalid_app_id")


async def test_what_was_sent_as_application_id_comes_back_harmless(served: Served) -> None:
    answer = await served.post(FIND, served.signed(app_id="<script>" + "x" * 500), b"{}")
    assert b"<" not in answer.body
    assert len(answer.body) < 400


async def test_a_function_that_ran_is_marked_as_not_to_be_kept(served: Served) -> None:
    answer = await served.find()
    assert answer.status == 200
    assert FRESH.items() <= answer.headers.items()


@pytest.mark.parametrize("left_out", ["Authorization", "x-mc-app-id", "x-mc-date", "x-mc-req-id"])
async def test_missing_credentials_are_named(served: Served, left_out: str) -> None:
    headers = served.signed()
    del headers[left_out]
    answer = await served.post(FIND, headers, b"{}")
    assert answer.status == 400
    assert answer.body == golden("missing_credentials").replace(b"NAME", left_out.lower().encode())


async def test_another_kind_of_authorization_is_refused(served: Served) -> None:
    headers = served.signed() | {"Authorization": "Basic YTpi"}
    is_golden(await served.post(FIND, headers, b"{}"), 401, "auth_type_not_allowed")


async def test_a_role_without_the_permission_is_refused(served: Served) -> None:
    store, sealer = served.store, served.services.sealer
    await store.write(lambda tx: identity.create_role(tx, "guest", ("Account | Dashboard | Read",)))
    served.keys["guest"] = await store.write(lambda tx: identity.create_app(tx, sealer, name="guest", role="guest"))
    is_golden(await served.post(FIND, served.signed(role="guest"), b"{}"), 403, "forbidden")


async def test_a_monitor_may_look(served: Served) -> None:
    answer = await served.post(FIND, served.signed(role=identity.MONITOR), b"{}")
    assert answer.messages == []


@pytest.mark.parametrize("apart", [-15 * MINUTE, 15 * MINUTE, 0])
async def test_a_clock_within_the_tolerance_will_do(served: Served, apart: int) -> None:
    assert isinstance(served.clock, HandClock)
    headers = served.signed()
    served.clock.move(apart)
    assert (await served.post(FIND, headers, b"{}")).status == 200


@pytest.mark.parametrize(
    ("apart", "name"), [(15 * MINUTE + SECOND, "date_behind"), (-15 * MINUTE - SECOND, "date_ahead")]
)
async def test_a_clock_too_far_off_is_told_how_far(served: Served, apart: int, name: str) -> None:
    assert isinstance(served.clock, HandClock)
    headers = served.signed()
    served.clock.move(apart)
    is_golden(await served.post(FIND, headers, b"{}"), 401, name)


async def test_an_unreadable_date_is_shown(served: Served) -> None:
    is_golden(await served.post(FIND, served.signed(date="today"), b"{}"), 401, "date_unreadable")


@pytest.mark.parametrize(
    "date",
    ["Fri, 15 Jan 2027 08:00:00 GMT", "Fri, 15 Jan 2027 08:00:00 -0000", "Fri, 15 Jan 2027 09:00:00 BST",
     "Fri, 15 Jan 2027 8:00:00 UTC"],
)  # fmt: skip
async def test_the_date_is_checked_as_sent_whatever_its_form(served: Served, date: str) -> None:
    assert (await served.post(FIND, served.signed(date=date), b"{}")).status == 200


async def test_path_with_query_may_be_signed_and_so_may_the_path_alone(served: Served) -> None:
    target = FIND + "?trace=1"
    assert (await served.post(target, served.signed(target), b"{}")).status == 200
    assert (await served.post(target, served.signed(FIND), b"{}")).status == 200
    assert (await served.post(target, served.signed(FIND + "?trace=2"), b"{}")).status == 401


async def test_a_doubled_slash_finds_its_way(served: Served) -> None:
    assert (await served.post("/" + FIND, served.signed("/" + FIND), b"{}")).status == 200
    assert (await served.post("/" + FIND, served.signed(FIND), b"{}")).status == 200


async def test_a_request_id_may_be_used_again(served: Served) -> None:
    headers = served.signed()
    await served.put()
    for body in (b"{}", b"{'meta': {'pagination': {'pageSize': 1}}}"):
        assert len((await served.post(FIND, headers, body)).messages) == 1


async def test_header_names_in_any_case(served: Served) -> None:
    headers = {name.upper(): value for name, value in served.signed().items()}
    assert (await served.post(FIND, headers, b"{}")).status == 200


async def test_a_revoked_application_is_refused_within_a_second(served: Served) -> None:
    assert isinstance(served.clock, HandClock)
    assert (await served.find()).status == 200
    app_id = served.keys[identity.ADMINISTRATOR].app_id
    assert await served.store.write(lambda tx: identity.revoke_app(tx, app_id))
    served.clock.move(SECOND)
    assert b"err_developer_key" in (await served.find()).body


async def test_the_rate_is_limited_in_a_fixed_window(serve: Serve) -> None:
    served = await serve(api=Api(rate_limit=2))
    assert isinstance(served.clock, HandClock)
    first = await served.find()
    assert [first.headers[name] for name in sorted(RATE)] == ["2", "1", "5000"]
    served.clock.move(1_400)
    second = await served.find({"type": "no such"})  # a refused call counts too
    assert [second.headers[name] for name in sorted(RATE)] == ["2", "0", "3600"]
    third = await served.find()
    assert third.headers["retry-after"] == "4"
    assert "retry-after" not in second.headers
    is_golden(third, 429, "rate_limited")
    served.clock.move(3_600)
    assert (await served.find()).status == 200


@pytest.mark.parametrize("wrong", [{"secret_key": "c2VjcmV0"}, {"date": "Fri, 01 Jan 2027 00:00:00 UTC"}])
async def test_who_knows_an_application_id_cannot_use_up_its_calls(serve: Serve, wrong: dict[str, str]) -> None:
    served = await serve(api=Api(rate_limit=2))
    assert (await served.find()).headers["x-ratelimit-remaining"] == "1"
    for left in ("4999", "4998", "4997"):
        answer = await served.post(FIND, served.signed(**wrong), b"{}")
        assert answer.status == 401
        assert [answer.headers[name] for name in sorted(RATE)] == ["5000", left, "5000"]
    last = await served.find()
    assert (last.status, last.headers["x-ratelimit-remaining"]) == (200, "0")


async def test_calls_of_an_address_that_nobody_signed_have_a_window_of_their_own(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callers, "STRANGERS", (3, 5 * SECOND))
    served = await serve()
    for headers in (served.signed(app_id="made-up"), {}, served.signed(secret_key="c2VjcmV0")):
        answer = await served.post(FIND, headers, b"{}")
        assert answer.headers["x-ratelimit-limit"] == "3"
        assert answer.status != 429
    for headers in (served.signed(app_id="another"), {}, served.signed(secret_key="c2VjcmV0")):
        answer = await served.post(FIND, headers, b"{}")
        assert answer.headers["retry-after"] == "5"
        is_golden(answer, 429, "rate_limited_stranger")


async def test_strangers_over_their_limit_cost_no_query_and_stop_no_application(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind a proxy all callers have one address."""
    monkeypatch.setattr(callers, "STRANGERS", (3, 5 * SECOND))
    served = await serve()
    assert isinstance(served.clock, HandClock)
    assert (await served.find()).status == 200
    served.clock.move(SECOND)  # what is remembered of the application is too old to be used
    for number in range(3):
        await served.post(FIND, served.signed(app_id=f"made-up {number}"), b"{}")
    await served.store.write(lambda tx: tx.rows("ALTER TABLE app RENAME TO app_elsewhere"))
    assert (await served.post(FIND, served.signed(app_id="made-up 3"), b"{}")).status == 429
    await served.store.write(lambda tx: tx.rows("ALTER TABLE app_elsewhere RENAME TO app"))
    assert (await served.find()).status == 200


async def test_made_up_ids_are_remembered_apart_and_bounded() -> None:
    clock = HandClock()
    asked: list[str] = []

    async def find(app_id: str) -> identity.AppKeys | None:
        asked.append(app_id)
        return KEYS if app_id == KEYS.app_id else None

    applications = auth.Applications(clock, find)
    real = KEYS.app_id.encode()
    assert not applications.met(real)
    assert await applications.find(real) is KEYS
    for number in range(remembered.MAX_KNOWN * 2):
        assert await applications.find(b"made-up %d" % number) is None
    assert len(applications._known._unknown) == remembered.MAX_KNOWN
    assert len(asked) == remembered.MAX_KNOWN * 2 + 1
    assert await applications.find(real) is KEYS  # nothing pushed it out
    assert await applications.find(b"made-up %d" % number) is None
    assert len(asked) == remembered.MAX_KNOWN * 2 + 1
    clock.move(remembered.KNOWN_FOR)
    assert await applications.find(b"made-up %d" % number) is None
    assert len(asked) == remembered.MAX_KNOWN * 2 + 2
    for nonsense in (b"\xff", b"x" * 101, b" "):
        assert await applications.find(nonsense) is None
        assert not applications.met(nonsense)
    assert len(asked) == remembered.MAX_KNOWN * 2 + 2


async def test_one_application_does_not_use_up_what_another_may(serve: Serve) -> None:
    served = await serve(api=Api(rate_limit=1))
    assert (await served.find()).status == 200
    assert (await served.find()).status == 429
    assert (await served.post(FIND, served.signed(role=identity.MONITOR), b"{}")).status == 200


async def test_the_body_is_not_read_before_the_signature_is_good(served: Served) -> None:
    answer = await served.post(FIND, served.signed(secret_key="c2VjcmV0"), b"no json at all")
    is_golden(answer, 401, "invalid_signature")
