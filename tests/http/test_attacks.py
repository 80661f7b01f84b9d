"""What an attacker would try at the doors: races, replays, the exact millisecond, windows begun anew, odd bytes."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from postroom.clock import MINUTE, SECOND, HandClock
from postroom.http.admin.operations import OPERATIONS
from postroom.http.door.throttle import Throttle
from postroom.http.gateway.calls.login import DISCOVER, LOGIN
from postroom.http.gateway.calls.oauth import PATH as TOKEN
from postroom.http.gateway.calls.release import RELEASE
from postroom.http.gateway.front import functions
from postroom.settings import Api, Console
from postroom.store import access
from postroom.store.access import identity, people, permissions
from tests.http.conftest import FIND, Answer, Serve, Served, connected, read_answer, request_bytes, talk
from tests.http.console.test_login import log_in as log_in_to_console
from tests.http.keys import (
    EMAIL,
    PASSWORD,
    a_person,
    a_token,
    an_app,
    audit_told,
    basic,
    carrying,
    find_with,
    issued,
    log_in,
)
from tests.http.test_replay_guard import held, releasing

# -- what changes while a password is being checked

Change = Callable[[Any], object]
CHANGES: dict[str, Change] = {
    "another password": lambda tx: people.set_password(tx, EMAIL, identity.hash_password("something else")),
    "shut out": lambda tx: people.disable(tx, EMAIL, 1),
    "deleted": lambda tx: people.delete(tx, EMAIL),
}


def changing_meanwhile(served: Served, change: Change, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check of the right password ends after the change."""
    loop, check = asyncio.get_running_loop(), identity.verify_password

    def slowly(user: identity.User | None, password: str) -> bool:
        found = check(user, password)
        if user is not None:
            asyncio.run_coroutine_threadsafe(served.store.write(change), loop).result(60)
        return found

    monkeypatch.setattr(access, "verify_password", slowly)


@pytest.mark.parametrize("name", CHANGES)
async def test_a_password_that_ends_while_it_is_checked_gives_no_keys_and_no_session(
    served: Served, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await a_person(served)
    await a_person(served, "other@corp.example")
    changing_meanwhile(served, CHANGES[name], monkeypatch)
    answer = await log_in(served)
    assert (answer.status, answer.json["fail"][0]["errors"][0]["code"]) == (401, "err_xdk_invalid_credentials")
    (line,) = await audit_told(served, kind="login")
    assert (line[1], line[3], line[4]) == ("", "refused", f"401 err_xdk_invalid_credentials for {EMAIL}")

    def left(reader: Any) -> list[Any]:
        return list(reader.tx.rows("SELECT email FROM binding UNION ALL SELECT email FROM console_session"))

    assert await served.store.read(left) == []


@pytest.mark.parametrize("name", CHANGES)
async def test_nor_at_the_console(served: Served, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    await a_person(served)
    await a_person(served, "other@corp.example")
    changing_meanwhile(served, CHANGES[name], monkeypatch)
    assert (await log_in_to_console(served, EMAIL, PASSWORD)).status == 403
    (line,) = await audit_told(served, kind="login")
    assert (line[1], line[3]) == ("", "refused")
    assert not [line for line in served.told.lines if "http_failed" in line]


# -- a reload gives nobody a fresh window


async def test_a_reload_keeps_what_was_counted_and_who_was_met(serve: Serve) -> None:
    served = await serve(api=Api(rate_limit=3, rate_window=5 * SECOND, refusal_limit=2, refusal_window=MINUTE))
    await a_person(served)
    for left in (b"2", b"1"):
        assert (await find_with(served, {})).headers["x-ratelimit-remaining"] == left.decode()
    wrong = carrying("no such token")
    for status in (401, 401, 429):
        assert (await served.post(FIND, wrong, b"{}")).status == status
    settings = msgspec.structs.replace(
        served.services.settings, api=msgspec.structs.replace(served.services.settings.api)
    )
    served.server.apply(settings)
    assert (await find_with(served, {})).headers["x-ratelimit-remaining"] == "0"
    assert (await find_with(served, {})).status == 429
    assert (await served.post(FIND, wrong, b"{}")).status == 429
    more = msgspec.structs.replace(settings, api=msgspec.structs.replace(settings.api, rate_limit=10, refusal_limit=10))
    served.server.apply(more)
    answer = await find_with(served, {})  # the fifth of ten
    assert (answer.status, answer.headers["x-ratelimit-limit"], answer.headers["x-ratelimit-remaining"]) == (
        200, "10", "5",
    )  # fmt: skip
    assert (await served.post(FIND, wrong, b"{}")).status == 401


async def test_strangers_who_used_up_their_share_stop_no_application_after_a_reload(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("postroom.http.door.callers.STRANGERS", (3, 5 * SECOND))
    served = await serve()
    assert (await find_with(served, {})).status == 200
    for _ in range(4):
        await served.post(FIND, carrying("no such token"), b"{}")
    served.server.apply(served.services.settings)
    assert (await served.post(FIND, carrying("no such token"), b"{}")).status == 429
    assert (await find_with(served, {})).status == 200


async def test_tries_at_passwords_are_remembered_across_a_reload_with_another_bound(serve: Serve) -> None:
    served = await serve(console=Console(login_attempts=2, login_window=MINUTE))
    await a_person(served)
    for status in (401, 401, 429):
        assert (await log_in(served, password="wrong password")).status == status
    console = msgspec.structs.replace(served.services.settings.console, login_window=2 * MINUTE)
    served.server.apply(msgspec.structs.replace(served.services.settings, console=console))
    for _ in range(2):
        again = await log_in(served, password="wrong password")
    assert again.status == 429


def test_a_shorter_window_keeps_nobody_waiting_for_the_longer_one() -> None:
    clock = HandClock()
    throttle = Throttle(clock, 2, 60 * MINUTE)
    assert [throttle.wait("192.0.2.1", "a@corp.example") for _ in range(3)] == [0, 0, 30 * 60]
    throttle.apply(2, MINUTE)
    assert throttle.wait("192.0.2.1", "a@corp.example") == 30
    clock.move(MINUTE)
    assert [throttle.wait("192.0.2.1", "a@corp.example") for _ in range(3)] == [0, 0, 30]


# -- replays


async def test_twenty_at_once_with_one_signature_are_one_call(served: Served) -> None:
    first, second = await held(served, subject="One"), await held(served, subject="Two")
    headers = served.signed(RELEASE)
    bodies = [releasing(first), releasing(second)] * 10
    answers = await asyncio.gather(*[served.post(RELEASE, headers, body) for body in bodies])
    of = [{answer.body for answer in answers[number::2]} for number in (0, 1)]
    statuses = [{answer.status for answer in answers[number::2]} for number in (0, 1)]
    assert sorted(map(sorted, statuses)) == [[200], [401]]  # one body, whichever came first, ten times; the other never
    assert [len(found) for found in of] == [1, 1]
    logs = await audit_told(served, kind="entries.release")
    assert sum(times for *_, times in logs) == 1


async def test_a_signature_is_good_to_the_exact_millisecond(served: Served) -> None:
    clock = served.clock
    assert isinstance(clock, HandClock)
    headers = served.signed(FIND)
    clock.move(15 * MINUTE)
    assert (await served.post(FIND, headers, b"{}")).status == 200
    clock.move(1)
    assert b"err_xdk_invalid_date" in (await served.post(FIND, headers, b"{}")).body


async def test_tokens_and_keys_end_at_the_exact_millisecond(serve: Serve) -> None:
    served = await serve(api=Api(token_lifetime=10 * SECOND, binding_lifetime=20 * SECOND))
    clock = served.clock
    assert isinstance(clock, HandClock)
    await a_person(served)
    headers, keys = carrying(await a_token(served)), await issued(served)
    for apart, token, binding in ((9_999, 200, 200), (1, 401, 200), (9_999, 401, 200), (1, 401, 418)):
        clock.move(apart)
        assert (await served.post(FIND, headers, b"{}")).status == token, apart
        assert (await find_with(served, keys)).status == binding, apart


async def test_permissions_that_a_role_loses_are_lost_to_living_keys_and_tokens(served: Served) -> None:
    clock = served.clock
    assert isinstance(clock, HandClock)
    await an_app(served, "reader", permissions.PROCESSING_READ)
    await a_person(served)
    headers, keys = carrying(await a_token(served, "reader")), await issued(served, app="reader")
    everything = {**keys, "role": "reader"}
    assert (await served.post(FIND, headers, b"{}")).status == 200
    assert (await find_with(served, everything)).status == 200

    def lose(tx: Any) -> None:
        tx.rows("UPDATE role SET permissions = '[]' WHERE name = 'reader'")

    await served.store.write(lose)
    clock.move(SECOND)
    for answer in (await served.post(FIND, headers, b"{}"), await find_with(served, everything)):
        assert (answer.status, b"err_xdk_operation_forbidden" in answer.body) == (403, True)


# -- every route


def filled(path: str) -> str:
    return path.replace("{", "").replace("}", "")


async def test_every_route_of_our_own_api_is_refused_without_its_permission(served: Served) -> None:
    """Each alone, with a role that may do everything else: a new route without a check fails here."""
    for number, wanted in enumerate(sorted(permissions.PERMISSIONS)):
        await an_app(served, f"all but {number}", *[name for name in permissions.PERMISSIONS if name != wanted])
        headers = carrying(await a_token(served, f"all but {number}"))
        for operation in OPERATIONS:
            if operation.permission == wanted:
                request = request_bytes(operation.method, filled(operation.path), headers)
                answer = await talk(served.address, request)
                assert (answer.status, answer.json["code"]) == (403, "err_xdk_operation_forbidden"), operation.path
                assert f"lacks the permission {wanted}" in answer.json["detail"]


async def test_every_route_is_refused_to_strangers_and_none_is_free_but_those_that_are_meant(served: Served) -> None:
    table = [("POST", path) for path in functions(served.services)]
    table += [(operation.method, filled(operation.path)) for operation in OPERATIONS]
    for method, path in table:
        answer = await talk(served.address, request_bytes(method, path, {"Authorization": "Bearer made-up"}))
        assert answer.status == 401, path
    free = {path for path, function in functions(served.services).items() if not function.permission}
    free |= {operation.path for operation in OPERATIONS if not operation.permission}
    assert free == set()


# -- odd bytes


def odd_requests(served: Served) -> list[tuple[str, dict[str, str], bytes]]:
    app = {"x-mc-app-id": served.keys[identity.ADMINISTRATOR].app_id}
    right = app | {"Authorization": basic(EMAIL, PASSWORD)}
    found = [
        (LOGIN, right, b'{"data":[{"accessKey":"%s"}]}' % key) for key in (b"\\ud800", b"a\\u0000b", b"x" * 200_000)
    ]
    found += [(DISCOVER, app, b'{"data":[{"emailAddress":"%s"}]}' % name) for name in (b"\\ud800@a.b", b"a\\u0000@b.c")]
    for said in (b"\xff:\xff", b"a\x00b@c.de:\x00", b"x" * 400 + b":p", b"\xed\xa0\x80@x.de:p", b":"):
        sent = base64.b64encode(said).decode()
        found.append((LOGIN, app | {"Authorization": f"Basic-AD {sent}"}, b""))
        found.append((TOKEN + "?grant_type=client_credentials", {"Authorization": f"Basic {sent}"}, b""))
    secrets = (b'"\\ud800","client_secret":"\\ud800"', b'"a\\u0000","client_secret":1e400')
    found += [(TOKEN, {}, b'{"grant_type":"client_credentials","client_id":' + secret + b"}") for secret in secrets]
    return found


async def test_odd_bytes_at_the_doors_are_refused_and_break_nothing(served: Served) -> None:
    await a_person(served)
    for target, headers, body in odd_requests(served):
        answer = await served.post(target, headers, body)
        assert answer.status < 500, (target, body[:80], answer.body)
        assert json.loads(answer.body)
    assert not [line for line in served.told.lines if "http_failed" in line]


def raw_request(pairs: list[tuple[bytes, bytes]], body: bytes = b"{}") -> bytes:
    lines = b"".join([b"%s: %s\r\n" % pair for pair in pairs])
    return b"POST %s HTTP/1.1\r\nHost: x\r\n%sContent-Length: %d\r\n\r\n%s" % (FIND.encode(), lines, len(body), body)


async def sent(served: Served, pairs: list[tuple[bytes, bytes]]) -> Answer:
    async with connected(served.address) as (reader, writer):
        writer.write(raw_request(pairs))
        await writer.drain()
        return await read_answer(reader)


async def test_the_first_authorization_alone_counts_whatever_its_kind(served: Served) -> None:
    good = [(name.encode(), value.encode()) for name, value in served.signed().items()]
    token = (b"Authorization", b"Bearer " + (await a_token(served)).encode())
    for more, status in (
        ([(b"Authorization", b"MC x:AAAA")], 401), ([(b"authorization", b"Bearer made-up")], 401), ([token], 200),
    ):  # fmt: skip
        assert (await sent(served, [*more, *good])).status == status
    assert (await sent(served, [*good, (b"Authorization", b"MC x:AAAA")])).status == 200


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"Authorization", b"MC \xff\xfe:AAAA"), (b"Authorization", b"MC \xff:\xff"), (b"Authorization", b"MC :"),
        (b"Authorization", b"MC " + b"a" * 60_000 + b":AAAA"), (b"x-mc-date", b"\xff" * 100),
        (b"x-mc-date", b"9" * 60_000), (b"x-mc-req-id", b"\xff"), (b"Authorization", b"Bearer \xff\xfe"),
    ],
)  # fmt: skip
async def test_no_byte_in_a_header_is_a_failure_of_ours(served: Served, name: bytes, value: bytes) -> None:
    good = [(one.encode(), said.encode()) for one, said in served.signed().items()]
    answer = await sent(served, [(one, value if one == name else said) for one, said in good])
    assert answer.status == 401
    assert not [line for line in served.told.lines if "http_failed" in line]


@pytest.mark.parametrize("ident", [b"a\tb", b"\xff", b"a b", b"x" * 129, b'"x"' * 60])
async def test_a_request_id_that_is_not_sensible_is_replaced(served: Served, ident: bytes) -> None:
    answer = await sent(served, [(b"x-request-id", ident)])
    assert len(answer.headers["x-request-id"]) == 36
