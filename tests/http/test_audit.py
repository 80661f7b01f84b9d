"""The audit log: what is written, folded, bounded, forgotten; and that no secret ever stands in it or in the log."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import apsw
import pytest

from postroom.clock import DAY, HOUR, SECOND, HandClock
from postroom.http.door import trail
from postroom.http.gateway.calls.login import DISCOVER, LOGIN
from postroom.http.gateway.calls.oauth import PATH as TOKEN
from postroom.model import Action, Scope
from postroom.settings import Api
from postroom.store.access import identity, people
from postroom.store.keep import expiry
from postroom.store.logs import audit
from tests.http.conftest import FIND, Quiet, Serve, Served, request_bytes, talk
from tests.http.console.test_login import log_in as log_in_to_console
from tests.http.keys import (
    EMAIL,
    PASSWORD,
    a_person,
    a_token,
    an_app,
    ask_token,
    audit_lines,
    audit_told,
    basic,
    carrying,
    find_with,
    issued,
    log_in,
)


async def test_a_person_who_comes_and_goes_at_the_console_is_written_down(served: Served) -> None:
    await a_person(served, "owner@corp.example")
    assert (await log_in_to_console(served, "owner@corp.example", "wrong password")).status == 403
    answer = await log_in_to_console(served, "owner@corp.example", PASSWORD)
    assert answer.status == 303
    cookie = answer.headers["set-cookie"].split(";")[0]
    page = await served.get("/console/", {"Cookie": cookie})
    token = re.search(r'name="token" value="([0-9a-f]+)"', page.body.decode())
    assert token is not None
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Cookie": cookie}
    body = urlencode({"token": token[1]}).encode()
    assert (await talk(served.address, request_bytes("POST", "/console/logout", headers, body))).status == 303
    assert await audit_told(served) == [
        ("login", "", "console", "refused", "wrong password for owner@corp.example", 1),
        ("login", "user:owner@corp.example", "console", "done", "", 1),
        ("logout", "user:owner@corp.example", "console", "done", "", 1),
    ]


async def test_actions_and_pauses_are_written_with_their_change(served: Served) -> None:
    first = await served.put()
    many = [ident for _ in range(5) for ident in (await served.put("a@corp.example", "b@corp.example")).entries]
    await served.store.act(Action.HOLD, first.entries, actor="cli:root", reason="asked for by legal")
    await served.store.act(Action.HOLD, [*many, *first.entries], actor="cli:root")
    await served.store.pause(Scope.DELIVERY, actor="cli:root")
    await served.store.pause(Scope.DELIVERY, actor="cli:root")
    await served.store.resume(Scope.DELIVERY, actor="user:x@corp.example")
    told = await audit_told(served)
    assert [(kind, actor, outcome, detail, times) for kind, actor, _, outcome, detail, times in told] == [
        ("entries.hold", "cli:root", "done", "asked for by legal", 1),
        ("entries.hold", "cli:root", "done", "", 10),
        ("entries.hold", "cli:root", "refused", "", 1),
        ("queue.pause", "cli:root", "done", "", 1),
        ("queue.resume", "user:x@corp.example", "done", "", 1),
    ]
    assert re.fullmatch("[0-9a-f]{16}", told[0][2])
    assert (told[1][2], told[3][2]) == ("", "delivery")


async def test_a_large_action_is_one_line(served: Served) -> None:
    ids = [ident for _ in range(9) for ident in (await served.put(*[f"{n}@corp.example" for n in range(50)])).entries]
    await served.store.act(Action.HOLD, ids, actor="cli:root")
    (line,) = await audit_lines(served, kind="entries")
    assert (line.times, line.what) == (450, "")
    assert isinstance(served.clock, HandClock)
    served.clock.move(HOUR)
    await served.store.act(Action.RELEASE, ids, actor="cli:root")
    await served.store.act(Action.HOLD, ids, actor="cli:root")
    assert [line.times for line in await audit_lines(served, kind="entries")] == [450, 450, 450]


async def test_a_change_that_is_rolled_back_leaves_no_line(served: Served) -> None:
    def change(tx: Any) -> None:
        audit.add(tx, at=1, actor="cli:root", kind="app.create", what="soar")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await served.store.write(change)
    assert await audit_lines(served) == []


# -- folded and bounded


async def test_the_same_again_within_an_hour_is_one_line_with_a_number(served: Served) -> None:
    assert isinstance(served.clock, HandClock)
    begin = served.clock.now()
    for _ in range(3):
        await served.post(FIND, served.signed(secret_key="c2VjcmV0"), b"{}")
        await served.server.guard.trail.flush()
        served.clock.move(SECOND)
    (line,) = await audit_lines(served)
    assert (line.kind, line.actor, line.what, line.address) == ("call", "", FIND, "127.0.0.1")
    assert (line.outcome, line.detail, line.times) == ("refused", "401 err_xdk_invalid_signature", 3)
    assert (line.at, line.last) == (begin, begin + 2 * SECOND)
    assert len([text for text in served.told.lines if "call_refused" in text]) == 1
    served.clock.move(HOUR)
    await served.post(FIND, served.signed(secret_key="c2VjcmV0"), b"{}")
    assert [line.times for line in await audit_lines(served)] == [3, 1]


async def test_a_stranger_fills_neither_the_log_nor_the_disk(served: Served) -> None:
    noted = served.server.guard.trail.note
    for number in range(3 * trail.MAX_OF_ADDRESS):
        noted("login", outcome=audit.REFUSED, address="2001:db8::1", detail=f"user{number}")
    told = await audit_told(served, kind="login")
    assert len(told) == trail.MAX_OF_ADDRESS + 1
    assert told[-1] == (
        "login",
        "",
        "",
        "refused",
        "others from there, not listed one by one",
        2 * trail.MAX_OF_ADDRESS,
    )
    noted("login", outcome=audit.REFUSED, address="2001:db8::2", detail="another host of that network")
    noted("login", outcome=audit.REFUSED, address="192.0.2.1", detail="another one")
    assert [line.detail for line in await audit_lines(served)][-1] == "another one"
    assert sum(line.times for line in await audit_lines(served)) == 3 * trail.MAX_OF_ADDRESS + 2
    assert len([text for text in served.told.lines if "login_refused" in text]) == trail.MAX_OF_ADDRESS + 2


async def test_all_strangers_together_are_bounded_and_hide_no_success(served: Served) -> None:
    noted = served.server.guard.trail.note
    for number in range(trail.MAX_LINES + 500):
        noted("login", outcome=audit.REFUSED, address=f"10.0.{number >> 8}.{number & 255}")
    noted("login", outcome=audit.DONE, actor=f"user:{EMAIL}", address="192.0.2.1")
    lines = await audit_lines(served)
    assert len(lines) == trail.MAX_LINES + 2
    assert sum(line.times for line in lines) == trail.MAX_LINES + 501
    assert [line.times for line in lines if line.actor == f"user:{EMAIL}"] == [1]


async def test_who_is_known_is_told_in_fewer_words_and_hides_nobody_else(served: Served) -> None:
    """From more addresses of one network than there are lines for."""
    noted, actor, others = served.server.guard.trail.note, f"user:{EMAIL}", "others, not listed one by one"
    times = trail.MAX_LINES + 1
    for number in range(times):
        noted("login", outcome=audit.DONE, actor=actor, what="console", address=f"2001:db8::{number:x}")
    lines = await audit_lines(served)
    assert len(lines) == trail.MAX_OF_ACTOR + 1
    assert {line.actor for line in lines} == {actor}
    assert (lines[-1].address, lines[-1].what, lines[-1].times) == (
        "2001:db8::/64",
        "console",
        times - trail.MAX_OF_ACTOR,
    )
    for number in range(1, 3 * trail.MAX_OF_ACTOR):
        noted("login", outcome=audit.DONE, actor=actor, what="console", address=f"2001:db8:{number:x}::1")
    lines = await audit_lines(served)
    assert len(lines) == 2 * trail.MAX_OF_ACTOR + 1
    assert (lines[-1].actor, lines[-1].address, lines[-1].what) == (actor, "", "console")
    for number in range(trail.MAX_OF_ACTOR + 10):
        noted("call", outcome=audit.DONE, actor=actor, what=f"/v1/{number}", address="192.0.2.1")
    lines = await audit_lines(served)
    assert len(lines) == 3 * trail.MAX_OF_ACTOR + 1
    assert (lines[-1].actor, lines[-1].address, lines[-1].what, lines[-1].detail) == (actor, "", "", others)
    assert sum(line.times for line in lines) == times + 4 * trail.MAX_OF_ACTOR + 9
    noted("call", outcome=audit.REFUSED, actor=actor, what="/v1/x", address="192.0.2.1")
    noted("call", outcome=audit.DONE, actor="app:soar", what="/v1/x", address="192.0.2.1")
    assert [(line.actor, line.what, line.address) for line in (await audit_lines(served))[-2:]] == [
        (actor, "/v1/x", "192.0.2.1"),
        ("app:soar", "/v1/x", "192.0.2.1"),
    ]


async def test_a_name_is_the_last_to_go(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trail, "MAX_KNOWN", 3)
    for number in range(8):
        for what in ("a", "b"):
            served.server.guard.trail.note("call", outcome=audit.DONE, actor=f"app:{number}", what=what, address="::1")
    told = [(line.actor, line.what, line.times) for line in await audit_lines(served)]
    assert told == [
        ("app:0", "a", 1), ("app:0", "b", 1), ("app:1", "a", 1), ("app:1", "", 1), ("app:2", "", 2), ("app:3", "", 2),
        ("", "", 8),
    ]  # fmt: skip


async def test_what_the_store_does_not_take_is_written_later(served: Served) -> None:
    await served.store.write(lambda tx: tx.rows("ALTER TABLE audit RENAME TO audit_elsewhere"))
    noted, flush = served.server.guard.trail.note, served.server.guard.trail.flush
    noted("login", outcome=audit.REFUSED, address="192.0.2.1")
    with pytest.raises(apsw.SQLError, match="no such table"):
        await flush()
    await served.store.write(lambda tx: None)  # behind the trail's own try
    assert len([text for text in served.told.lines if "audit_not_written" in text]) <= 1
    await served.store.write(lambda tx: tx.rows("ALTER TABLE audit_elsewhere RENAME TO audit"))
    assert [line.times for line in await audit_lines(served)] == [1]


async def test_a_stop_writes_the_rest(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trail, "FLUSH_EVERY", 3600.0)
    served = await serve()
    served.server.guard.trail.note("login", outcome=audit.REFUSED, address="192.0.2.1")
    for _ in range(2):  # the second comes behind the trail's own, which then pauses
        await served.server.guard.trail.flush()
    served.server.guard.trail.note("login", outcome=audit.REFUSED, address="192.0.2.1")
    await served.server.stop(1)
    (line,) = await served.store.read(lambda reader: audit.read(reader.tx))
    assert line.times == 2


# -- read and forgotten


async def test_lines_are_found_by_time_actor_kind_and_outcome(served: Served) -> None:
    def fill(tx: Any) -> None:
        for number, (actor, kind, outcome) in enumerate(
            [
                ("cli:root", "user.create", "done"),
                ("user:alice@corp.example", "login", "done"),
                ("", "login", "refused"),
                ("cli:Root", "user.delete", "failed"),
            ]
        ):
            audit.add(tx, at=number * 1000, last=number * 1000 + 500, actor=actor, kind=kind, outcome=outcome)

    await served.store.write(fill)

    async def kinds(**wanted: Any) -> list[str]:
        return [line.kind for line in await audit_lines(served, **wanted)]

    assert await kinds(actor="ROOT") == ["user.create", "user.delete"]
    assert await kinds(kind="user") == ["user.create", "user.delete"]
    assert await kinds(kind="user.create") == ["user.create"]
    assert await kinds(kind="use") == []
    assert await kinds(outcome="refused") == ["login"]
    assert await kinds(since=1500) == ["login", "login", "user.delete"]
    assert await kinds(until=1000) == ["user.create", "login"]
    newest = await served.store.read(lambda reader: audit.read(reader.tx, limit=2))
    assert [line.at for line in newest] == [3000, 2000]
    older = await served.store.read(lambda reader: audit.read(reader.tx, before=newest[-1].id))
    assert [line.at for line in older] == [1000, 0]


async def test_lines_go_after_their_time_and_refusals_beyond_their_number(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "MAX_REFUSED", 3)

    def fill(tx: Any) -> None:
        for number in range(6):
            audit.add(tx, at=10 * DAY + number, actor="", kind="login", outcome="refused", detail=str(number))
        audit.add(tx, at=DAY, actor="", kind="app.create", detail="old")
        audit.add(tx, at=10 * DAY, actor="", kind="app.create", detail="young")

    await served.store.write(fill)
    while await served.store.write(lambda tx: expiry.reap(tx, 0, 5 * DAY)):
        pass
    assert {line.detail for line in await audit_lines(served)} == {"3", "4", "5", "young"}


def test_every_kind_is_explained_on_the_page() -> None:
    page = (Path(__file__).parents[2] / "docs/access.md").read_text()
    assert [kind for kind in audit.KINDS if f"`{kind}`" not in page] == []


async def test_a_program_reads_the_same_lines(served: Served) -> None:
    """Over our own API, with the permission for it."""
    for number in range(3):
        served.server.guard.trail.note("login", outcome=audit.REFUSED, address="192.0.2.1", detail=str(number))
    await served.server.guard.trail.flush()
    token = carrying(await a_token(served))
    first = (await served.get("/v1/audit?kind=login&outcome=refused&limit=2", token)).json
    assert [line["detail"] for line in first["lines"]] == ["2", "1"]
    assert list(first["lines"][0]) == [
        "id", "at", "last", "times", "actor", "kind", "what", "address", "outcome", "detail",
    ]  # fmt: skip
    rest = (await served.get(f"/v1/audit?kind=login&limit=2&before={first['next']}", token)).json
    assert ([line["detail"] for line in rest["lines"]], rest["next"]) == (["0"], None)
    for query in ("kind=logins", "outcome=perhaps", "since=yesterday", "limit=0", "before=x", "who=alice"):
        assert (await served.get(f"/v1/audit?{query}", token)).status == 400
    refused = await served.get("/v1/audit", carrying(await a_token(served, identity.MONITOR)))
    assert (refused.status, refused.json["code"]) == (403, "err_xdk_operation_forbidden")


# -- no secret anywhere


async def every_way_in(served: Served) -> list[str]:
    """Every authentication there is, right and wrong; what was used as a secret meanwhile."""
    assert isinstance(served.clock, HandClock)
    keys = served.keys[identity.ADMINISTRATOR]
    secrets = ["Tr0ub4dor&3", "hunter2hunter2", "wr0ngSecretKey", "made-up-token", PASSWORD]
    for made in served.keys.values():
        secrets += [made.app_key, made.secret_key, made.client_secret, made.access_key]
    await a_person(served)
    await an_app(served, "guest")
    bound = await issued(served)
    token = await a_token(served)
    secrets += [*bound.values(), token]
    guess = base64.b64encode(b"wr0ngSecretKey").decode()
    signatures = [served.signed(secret_key=guess), served.signed(access_key="hunter2hunter2"), served.signed()]
    for headers in [
        *signatures, served.signed(app_id="Tr0ub4dor&3"), served.signed(app_key="hunter2hunter2"),
        served.signed(**bound),
        served.signed(date="hunter2hunter2"), served.signed(role="guest") if "guest" in served.keys else {},
        carrying(token), carrying("made-up-token"), carrying(await a_token(served, "guest")), {},
        {"Authorization": "Bearer"}, {"Authorization": f"Basic {guess}"}, {"Authorization": "hunter2hunter2"},
    ]:  # fmt: skip
        await served.post(FIND, headers, b'{"data":[{"password":"hunter2hunter2"}]}')
    secrets += [headers["Authorization"].rpartition(":")[2] for headers in signatures]
    await log_in_to_console(served, EMAIL, "hunter2hunter2")
    await log_in_to_console(served, "Tr0ub4dor&3", PASSWORD)
    for given in (
        {}, {"password": "hunter2hunter2"}, {"email": "Tr0ub4dor&3"}, {"email": "hunter2hunter2 nobody@corp.example"},
        {"accessKey": bound["access_key"]}, {"accessKey": "hunter2hunter2"},
        {"headers": {"x-mc-app-id": "Tr0ub4dor&3"}},
        {"headers": {"Authorization": "Basic-Cloud hunter2hunter2"}}, {"headers": {"Authorization": "hunter2hunter2"}},
        *[{"password": "hunter2hunter2"}] * 10,
    ):  # fmt: skip
        secrets.append(basic(given.get("email", EMAIL), given.get("password", PASSWORD)).partition(" ")[2])
        await log_in(served, **given)
    for wrong in (
        {},
        {"client_secret": "hunter2hunter2"},
        {"client_id": "Tr0ub4dor&3"},
        {"grant_type": "hunter2hunter2"},
    ):
        await ask_token(served, **wrong)
    query = urlencode(
        {"grant_type": "client_credentials", "client_id": keys.client_id, "client_secret": keys.client_secret}
    )
    await served.post(f"{TOKEN}?{query}", {})
    await served.post(f"/api/hunter2hunter2/{keys.app_key}", served.signed(), b"{}")
    await served.post(DISCOVER, {"x-mc-app-id": "hunter2hunter2"}, b"{}")
    await served.post(LOGIN, {}, b"hunter2hunter2")
    await served.store.write(lambda tx: people.disable(tx, EMAIL, served.clock.now()))
    served.clock.move(5 * DAY)
    await find_with(served, bound)
    await served.post(FIND, carrying(token))
    return [secret for secret in secrets if secret]


async def test_no_secret_stands_in_a_log_line_or_in_the_audit_log(serve: Serve) -> None:
    served = await serve(api=Api(binding_lifetime=DAY, refusal_limit=1000))
    await a_person(served, "last@corp.example")
    secrets = await every_way_in(served)
    lines = await audit_lines(served)
    served.services.log.flush()
    assert isinstance(served.told, Quiet)
    written = "".join(served.told.lines) + "\n".join(map(repr, lines))
    kinds = {(line.kind, line.outcome) for line in lines}
    assert kinds >= {
        ("call", "refused"),
        ("login", "done"),
        ("login", "refused"),
        ("token", "done"),
        ("token", "refused"),
    }
    assert len(secrets) > 30
    assert [secret for secret in secrets if secret in written] == []
    assert "console_login_refused" in written
    assert "429 err_rate_limit_exceeded" in written
