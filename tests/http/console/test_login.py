"""Logging in: what counts as an account, what the log repeats, which cookie binds the form."""

from __future__ import annotations

import re
from urllib.parse import urlencode

import pytest

from postroom.clock import HandClock
from postroom.http.door.throttle import Throttle
from postroom.store.access import identity
from tests.http.conftest import Answer, Served, request_bytes, talk

EMAIL = "owner@corp.example"
PASSWORD = "correct horse battery"  # of a store that lives for one test
PAGE = "/console/login"
FORM = re.compile(r'name="token" value="([0-9a-f]+)"')
TLS_ENDED_BEFORE_US = {"X-Forwarded-Proto": "https"}


async def with_owner(served: Served) -> None:
    password_hash = identity.hash_password(PASSWORD)
    await served.store.write(
        lambda tx: identity.create_user(tx, email=EMAIL, password_hash=password_hash, role=identity.ADMINISTRATOR)
    )


async def log_in(served: Served, email: str, password: str, headers: dict[str, str] | None = None) -> Answer:
    page = await served.get(PAGE, headers)
    token = FORM.search(page.body.decode())
    assert token is not None, page.body
    fields = urlencode({"email": email, "password": password, "token": token[1]}).encode()
    sent = {"Content-Type": "application/x-www-form-urlencoded", "Cookie": page.headers["set-cookie"].split(";")[0]}
    return await talk(served.address, request_bytes("POST", PAGE, {**sent, **(headers or {})}, fields))


async def test_the_owner_comes_in_however_the_address_is_written(served: Served) -> None:
    await with_owner(served)
    answer = await log_in(served, f"  {EMAIL.upper()}\u2003", PASSWORD)
    assert (answer.status, answer.headers["location"]) == (303, "/console/")


async def test_an_address_longer_than_any_is_refused_whole(served: Served) -> None:
    """Cut to size it would be the owner's, under a key that the throttle has never seen."""
    await with_owner(served)
    for blank in (" ", "\t", "\u2003"):
        answer = await log_in(served, EMAIL + blank * identity.MAX_EMAIL + "x", PASSWORD)
        assert answer.status == 403
        assert b"The e-mail address or the password is wrong" in answer.body


@pytest.mark.parametrize("padding", [" ", "\t", "\u2003", " " * 400])
def test_the_throttle_knows_an_account_by_what_is_looked_up(padding: str) -> None:
    throttle = Throttle(HandClock(), 1, 60_000)
    assert throttle.wait("192.0.2.1", EMAIL) == 0
    assert throttle.wait("192.0.2.2", EMAIL.upper() + padding) > 0
    throttle.succeeded("192.0.2.3", EMAIL + padding)
    assert throttle.wait("192.0.2.3", EMAIL) == 0


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("nobody@corp.example", "user=nobody@corp.example"),
        ("Tr0ub4dor&3", 'user="not an address"'),
        ("hunter2 nobody@corp.example", 'user="not an address"'),
        ("p@ss", 'user="not an address"'),
        ("a@" + "b" * 100 + ".example", 'user="not an address"'),
        ("c" * 400, 'user="not an address"'),
        (EMAIL, f"user={EMAIL}"),
    ],
)
async def test_the_log_repeats_addresses_only(served: Served, typed: str, says: str) -> None:
    await with_owner(served)
    assert (await log_in(served, typed, "a wrong password")).status == 403
    (line,) = [line for line in served.told.lines if "console_login_refused" in line]
    assert says in line
    assert "wrong password" not in line


async def test_a_slowed_login_is_logged_as_carefully(served: Served) -> None:
    attempts = served.services.settings.console.login_attempts
    for _ in range(attempts):
        assert (await log_in(served, "Tr0ub4dor&3", "wrong")).status == 403
    assert (await log_in(served, "Tr0ub4dor&3", "wrong")).status == 429
    assert not [line for line in served.told.lines if "r0ub4dor" in line]
    assert len([line for line in served.told.lines if "console_login_slowed" in line]) == 1


async def test_over_https_no_sibling_host_can_set_the_cookie_that_forms_are_bound_to(served: Served) -> None:
    await with_owner(served)
    cookie = (await served.get(PAGE, TLS_ENDED_BEFORE_US)).headers["set-cookie"]
    assert cookie.startswith("__Host-postroom_form=")
    assert {"path=/", "secure", "httponly", "samesite=strict"} <= {part.strip().lower() for part in cookie.split(";")}
    assert "domain" not in cookie.lower()
    assert (await log_in(served, EMAIL, PASSWORD, TLS_ENDED_BEFORE_US)).status == 303


async def test_over_https_the_cookie_without_the_prefix_counts_for_nothing(served: Served) -> None:
    plain = await served.get(PAGE)
    assert plain.headers["set-cookie"].startswith("postroom_form=")
    token = FORM.search(plain.body.decode())
    assert token is not None
    headers = {
        "Content-Type": "application/x-www-form-urlencoded",
        "Cookie": plain.headers["set-cookie"].split(";")[0],
        **TLS_ENDED_BEFORE_US,
    }
    body = urlencode({"email": EMAIL, "password": PASSWORD, "token": token[1]}).encode()
    assert (await talk(served.address, request_bytes("POST", PAGE, headers, body))).status == 403


@pytest.mark.parametrize(
    "window",
    [
        {"since": "1970-01-01T00:00", "until": "9999-12-31T23:59"},
        {"until": "9999-12-31T23:59:59"},
        {"since": "9999-12-31T23:59:59", "until": "9999-12-31T23:59:59"},
        {"since": "1970-01-01T00:00", "until": "1970-01-01T00:00"},
    ],
)
async def test_a_time_window_at_the_ends_of_the_calendar_is_a_page(served: Served, window: dict[str, str]) -> None:
    await with_owner(served)
    await served.put("bob@corp.example")
    session = (await log_in(served, EMAIL, PASSWORD)).headers["set-cookie"].split(";")[0]
    target = "/console/?" + urlencode({"received": "custom", **window})
    assert (await served.get(target, {"Cookie": session})).status == 200
