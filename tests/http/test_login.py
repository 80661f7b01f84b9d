"""Login, refresh, discovery (contract section 1.4)."""

from __future__ import annotations

import asyncio
import json
import threading

import pytest

from postroom.clock import DAY, SECOND, HandClock
from postroom.http.gateway.calls.login import DISCOVER, LOGIN
from postroom.sealing import Sealer
from postroom.settings import Api, Console
from postroom.store import access
from postroom.store.access import bindings, identity, people, permissions
from postroom.store.engine import Tx
from tests.http.conftest import FIND, Serve, Served, golden, talk
from tests.http.keys import EMAIL, PASSWORD, a_person, an_app, audit_told, basic, find_with, issued, log_in

THREE_DAYS = Api(binding_lifetime=3 * DAY)


@pytest.mark.parametrize("realm", ["Basic-Cloud", "Basic-AD", "basic-cloud"])
async def test_a_person_gets_keys_and_they_sign(served: Served, realm: str) -> None:
    await a_person(served)
    answer = await log_in(served, realm=realm)
    assert answer.status == 200
    assert answer.json["meta"] == {"status": 200}
    (keys,) = answer.json["data"]
    assert list(keys) == ["accessKey", "secretKey"]
    assert answer.headers["cache-control"] == "no-store"
    assert "x-ratelimit-remaining" in answer.headers
    found = await find_with(served, {"access_key": keys["accessKey"], "secret_key": keys["secretKey"]})
    assert found.messages == []


async def test_login_needs_no_date_no_request_id_and_no_body(served: Served) -> None:
    """As one platform sends it, and as leniently as every body is read."""
    await a_person(served)
    headers = {"Authorization": basic(EMAIL, PASSWORD), "x-mc-app-id": served.keys[identity.MONITOR].app_id}
    for body in (b"", b"{}", b"{'data': [{'userName': '%b', 'accessKey': None}]}" % EMAIL.upper().encode()):
        answer = await served.post(LOGIN, headers, body)
        assert answer.json["fail"] == [], body
        assert answer.json["data"][0]["accessKey"]


async def test_the_secrets_are_kept_sealed(served: Served) -> None:
    await a_person(served)
    keys = await issued(served)
    kept = b"".join([path.read_bytes() for path in served.store.path.parent.glob("postroom.db*")])
    assert keys["access_key"].encode() in kept
    assert keys["secret_key"].encode() not in kept


async def test_keys_that_were_sealed_with_another_secrets_key_are_as_if_not_there(served: Served) -> None:
    """As after a restore without it: 401 and a new login, no failure of ours."""
    await a_person(served)
    keys = await issued(served)
    other = Sealer(bytes(32))

    def reseal(tx: Tx) -> None:
        sealed = other.seal(b"c2VjcmV0", f"binding.secret_key:{keys['access_key']}".encode())
        tx.rows("UPDATE binding SET secret_key_sealed = ?", (sealed,))

    await served.store.write(reseal)
    answer = await find_with(served, keys)
    assert (answer.status, answer.body) == (401, golden("invalid_signature"))
    refreshed = await log_in(served, accessKey=keys["access_key"])
    assert refreshed.json["fail"][0]["errors"][0]["code"] == "err_xdk_binding_unknown"
    assert (await find_with(served, await issued(served))).status == 200


async def test_keys_of_one_application_do_not_sign_for_another(served: Served) -> None:
    await a_person(served)
    keys = await issued(served, app=identity.ADMINISTRATOR)
    answer = await find_with(served, keys, role=identity.MONITOR)
    assert (answer.status, answer.body) == (401, golden("invalid_signature"))


async def test_a_wrong_secret_with_known_keys_is_told_like_every_other(served: Served) -> None:
    await a_person(served)
    keys = await issued(served)
    for wrong in ({**keys, "secret_key": "c2VjcmV0"}, {**keys, "app_key": "other"}, {**keys, "access_key": "x" * 128}):
        answer = await find_with(served, wrong)
        assert (answer.status, answer.body) == (401, golden("invalid_signature"))


async def test_a_person_may_do_what_both_they_and_the_application_may(served: Served) -> None:
    await an_app(served, "guest", permissions.DASHBOARD_READ)
    await a_person(served, "admin@corp.example")
    await a_person(served, "monitor@corp.example", role=identity.MONITOR)
    through_guest = await issued(served, email="admin@corp.example", app="guest")
    answer = await find_with(served, through_guest, role="guest")
    assert (answer.status, answer.body) == (403, golden("forbidden"))
    monitor = await issued(served, email="monitor@corp.example")
    assert (await find_with(served, monitor)).status == 200
    edit = await served.post(RELEASE, served.signed(RELEASE, **monitor), b"{}")
    assert edit.status == 403
    assert b"role monitor lacks the permission Account | Monitoring | Held | Edit" in edit.body


RELEASE = "/api/gateway/hold-release"


# -- refusals


async def test_a_wrong_name_and_a_wrong_password_cannot_be_told_apart(served: Served) -> None:
    await a_person(served)
    wrong = await log_in(served, password="wrong password")
    assert (wrong.status, wrong.body) == (401, golden("login_refused").replace(b"NAME", EMAIL.encode()))
    nobody = await log_in(served, email="nobody@corp.example")
    assert (nobody.status, nobody.body) == (401, golden("login_refused").replace(b"NAME", b"nobody@corp.example"))
    assert wrong.headers["content-type"] == "application/json"


@pytest.mark.parametrize("authorization", ["Basic-Cloud", "Basic-Cloud !!!", "Basic-Cloud bm9jb2xvbg=="])
async def test_what_cannot_be_read_as_name_and_password_is_said(served: Served, authorization: str) -> None:
    answer = await log_in(served, headers={"Authorization": authorization})
    assert answer.status == 401
    assert b"expected base64 of name:password" in answer.body


async def test_another_name_in_the_body_is_refused(served: Served) -> None:
    await a_person(served)
    headers = {"Authorization": basic(EMAIL, PASSWORD), "x-mc-app-id": served.keys[identity.MONITOR].app_id}
    answer = await served.post(LOGIN, headers, b'{"data":[{"userName":"bob@corp.example"}]}')
    assert answer.status == 401
    assert b"userName differs" in answer.body


@pytest.mark.parametrize(
    "body",
    [b'{"data":[{},{}]}', b'{"data":["alice"]}', b'{"data":[{"userName":1}]}', b'{"data":[{"accessKey":["x"]}]}'],
)
async def test_an_item_of_another_form_is_a_fail_with_its_field(served: Served, body: bytes) -> None:
    headers = {"Authorization": basic(EMAIL, PASSWORD), "x-mc-app-id": served.keys[identity.MONITOR].app_id}
    answer = await served.post(LOGIN, headers, body)
    assert answer.status == 200
    (error,) = answer.json["fail"][0]["errors"]
    assert error["field"] in ("data", "userName", "accessKey")
    assert answer.json["data"] == []


async def test_the_application_is_judged_first(served: Served) -> None:
    answer = await log_in(served, headers={"x-mc-app-id": "INVALID", "Authorization": "nonsense"})
    assert (answer.status, answer.body) == (200, golden("invalid_app_id"))
    answer = await log_in(served, headers={"Authorization": ""})
    assert (answer.status, answer.body) == (400, golden("missing_credentials").replace(b"NAME", b"authorization"))
    answer = await log_in(served, headers={"Authorization": "Bearer x"})
    assert (answer.status, answer.body) == (401, golden("login_realm"))
    answer = await served.get(LOGIN)
    assert (answer.status, answer.headers["allow"]) == (405, "POST")


async def test_a_role_without_api_login_gets_no_keys(served: Served) -> None:
    await an_app(served, "reader", permissions.PROCESSING_READ)
    await a_person(served, role="reader")
    answer = await log_in(served)
    assert (answer.status, answer.body) == (401, golden("login_not_permitted"))


async def test_guessing_is_slowed_per_address_and_account_and_a_good_login_costs_nothing(serve: Serve) -> None:
    served = await serve(console=Console(login_attempts=2, login_window=60 * SECOND))
    await a_person(served)
    for _ in range(4):
        assert (await log_in(served)).status == 200
    for _ in range(2):
        assert (await log_in(served, password="wrong password")).status == 401
    answer = await log_in(served)
    assert (answer.status, answer.body) == (429, golden("login_slowed"))
    assert (answer.headers["retry-after"], answer.headers["x-ratelimit-reset"]) == ("30", "30000")
    assert isinstance(served.clock, HandClock)
    served.clock.move(30 * SECOND)
    assert (await log_in(served)).status == 200


async def test_console_and_api_count_the_same_tries(serve: Serve) -> None:
    served = await serve(console=Console(login_attempts=2, login_window=60 * SECOND))
    for _ in range(2):
        assert (await log_in(served)).status == 401
    assert served.server.guard.logins.wait("127.0.0.1", "other@corp.example") > 0


# -- expiry and refresh


async def test_expired_keys_are_told_in_the_recorded_words_and_a_refresh_revives_them(serve: Serve) -> None:
    served = await serve(api=THREE_DAYS)
    assert isinstance(served.clock, HandClock)
    await a_person(served)
    answer = await log_in(served)
    assert answer.json["data"][0]["duration"] == 3 * DAY
    keys = {"access_key": answer.json["data"][0]["accessKey"], "secret_key": answer.json["data"][0]["secretKey"]}
    served.clock.move(3 * DAY - SECOND)
    assert (await find_with(served, keys)).status == 200
    served.clock.move(SECOND)
    expired = await find_with(served, keys)
    assert (expired.status, expired.body) == (418, golden("binding_expired"))
    assert b"AccessKey Has Expired" in expired.body
    wrong = await find_with(served, {**keys, "secret_key": "c2VjcmV0"})
    assert wrong.status == 401  # nobody else learns that these keys exist
    revived = await log_in(served, accessKey=keys["access_key"])
    assert revived.json["data"] == [
        {"accessKey": keys["access_key"], "secretKey": keys["secret_key"], "duration": 3 * DAY}
    ]
    assert (await find_with(served, keys)).status == 200


async def test_keys_never_expire_by_default(served: Served) -> None:
    assert isinstance(served.clock, HandClock)
    await a_person(served)
    keys = await issued(served)
    served.clock.move(3000 * DAY)
    assert (await find_with(served, keys)).status == 200


async def test_only_the_owner_refreshes_and_only_through_the_same_application(served: Served) -> None:
    await a_person(served)
    await a_person(served, "bob@corp.example")
    keys = await issued(served)
    for given in ({"email": "bob@corp.example"}, {"app": identity.MONITOR}, {"accessKey": "unknown"}):
        answer = await log_in(served, **({"accessKey": keys["access_key"]} | given))
        assert answer.status == 401
        assert answer.json["fail"][0]["errors"][0]["code"] == "err_xdk_binding_unknown"


async def test_a_person_holds_a_limited_number_of_keys(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bindings, "MOST", 2)
    assert isinstance(served.clock, HandClock)
    await a_person(served)
    made = []
    for _ in range(2):
        made.append(await issued(served))
        served.clock.move(SECOND)
    await log_in(served, accessKey=made[0]["access_key"])  # refreshed: now the other one is the oldest
    served.clock.move(SECOND)
    made.append(await issued(served))
    assert [(await find_with(served, keys)).status for keys in made] == [200, 401, 200]
    other = await issued(served, app=identity.MONITOR)  # counted for each application
    assert (await find_with(served, other, role=identity.MONITOR)).status == 200
    assert (await find_with(served, made[0])).status == 200


async def test_who_is_shut_out_deleted_or_given_a_new_password_loses_keys_within_a_second(served: Served) -> None:
    assert isinstance(served.clock, HandClock)
    now = served.clock.now()
    hashed = identity.hash_password("another password")
    await a_person(served, "last@corp.example")
    for email, change in (
        ("a@corp.example", lambda tx: people.disable(tx, "a@corp.example", now)),
        ("b@corp.example", lambda tx: people.delete(tx, "b@corp.example")),
        ("c@corp.example", lambda tx: people.set_password(tx, "c@corp.example", hashed)),
    ):
        await a_person(served, email)
        keys = await issued(served, email=email)
        assert (await find_with(served, keys)).status == 200
        await served.store.write(change)
        served.clock.move(SECOND)
        assert (await find_with(served, keys)).status == 401
        assert (await log_in(served, email=email)).status == 401
    assert (await log_in(served, email="c@corp.example", password="another password")).status == 200


async def test_revoking_the_application_ends_the_keys_that_came_through_it(served: Served) -> None:
    assert isinstance(served.clock, HandClock)
    await a_person(served)
    keys = await issued(served)
    app_id = served.keys[identity.ADMINISTRATOR].app_id
    await served.store.write(lambda tx: identity.revoke_app(tx, app_id))
    served.clock.move(SECOND)
    assert b"err_developer_key" in (await find_with(served, keys)).body


async def test_password_checks_do_not_stop_the_event_loop(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """One stands still until another call has been answered."""
    await a_person(served)
    began, answered = threading.Event(), threading.Event()
    check = identity.verify_password
    waited: list[bool] = []

    def slowly(user: identity.User | None, password: str) -> bool:
        if user is not None:  # the first check of all is nobody's
            began.set()
            waited.append(answered.wait(30))
        return check(user, password)

    monkeypatch.setattr(access, "verify_password", slowly)
    login = asyncio.create_task(log_in(served))
    assert await asyncio.to_thread(began.wait, 30)
    assert (await served.get("/health/live")).status == 200
    answered.set()
    assert (await login).status == 200
    assert waited == [True]


# -- discovery


async def test_discovery_names_this_gateway_for_any_address(served: Served) -> None:
    """Some send no content type, and no date."""
    headers = {"x-mc-app-id": served.keys[identity.MONITOR].app_id}
    body = json.dumps({"data": [{"emailAddress": EMAIL}]}).encode()
    answer = await served.post(DISCOVER, headers, body)
    assert answer.status == 200
    (found,) = answer.json["data"]
    assert (found["authenticate"], found["emailAddress"]) == (["Basic-Cloud", "Basic-AD"], EMAIL)
    assert found["region"]["api"] == "http://gw.corp.example"  # the Host header that the client sent
    assert found["emailToken"]
    await a_person(served)
    assert (await served.post(DISCOVER, headers, body)).json["data"] == [found]


async def test_discovery_repeats_no_host_that_is_none(served: Served) -> None:
    headers = {"x-mc-app-id": served.keys[identity.MONITOR].app_id, "Content-Type": "application/json"}
    body = json.dumps({"data": [{"emailAddress": EMAIL}]}).encode()
    lines = [f"POST {DISCOVER} HTTP/1.1", 'Host: x"onload=evil', *[f"{k}: {v}" for k, v in headers.items()]]
    request = "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body
    answer = await talk(served.address, request)
    assert answer.json["data"][0]["region"]["api"] == f"http://{served.address}"


@pytest.mark.parametrize(
    ("item", "code"),
    [
        ({}, "err_validation_null"),
        ({"emailAddress": None}, "err_validation_null"),
        ({"emailAddress": ""}, "err_validation_blank"),
        ({"emailAddress": " "}, "err_validation_blank"),
        ({"emailAddress": "nobody"}, "err_validation_invalid_email_address"),
        ({"emailAddress": 7}, "err_validation_invalid_email_address"),
        ("text", "err_validation_value_not_allowed"),
    ],
)
async def test_discovery_without_an_address_is_a_fail_with_its_field(served: Served, item: object, code: str) -> None:
    headers = {"x-mc-app-id": served.keys[identity.MONITOR].app_id}
    answer = await served.post(DISCOVER, headers, json.dumps({"data": [item]}).encode())
    assert (answer.status, answer.json["data"]) == (200, [])
    assert answer.json["fail"][0]["errors"][0]["code"] == code


async def test_discovery_needs_a_known_application(served: Served) -> None:
    body = json.dumps({"data": [{"emailAddress": EMAIL}]}).encode()
    assert (await served.post(DISCOVER, {"x-mc-app-id": "INVALID"}, body)).body == golden("invalid_app_id")
    assert (await served.post(DISCOVER, {}, body)).status == 400


# -- what is written down


async def test_logins_and_refusals_stand_in_the_audit_log(served: Served) -> None:
    await a_person(served)
    await issued(served)
    await issued(served)
    await log_in(served, password="wrong password")
    await log_in(served, email="Tr0ub4dor&3")
    assert await audit_told(served, kind="login") == [
        ("login", f"user:{EMAIL}", "API, application administrator", "done", "new keys", 2),
        ("login", "", "API, application administrator", "refused", f"401 err_xdk_invalid_credentials for {EMAIL}", 1),
        (
            "login", "", "API, application administrator", "refused",
            "401 err_xdk_invalid_credentials for not an address", 1,
        ),
    ]  # fmt: skip


async def test_calls_with_keys_from_login_are_the_persons(served: Served) -> None:
    await a_person(served)
    keys = await issued(served)
    await served.post(RELEASE, served.signed(RELEASE, **keys), b'{"data":[{"id":"nonsense"}]}')
    (line,) = await audit_told(served, kind="call")
    assert line[:4] == ("call", f"user:{EMAIL}", RELEASE, "refused")  # an id that is none
    assert FIND not in str(line)
