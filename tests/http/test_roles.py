"""A changed role applies at once to all who already act with it: signed keys, login keys, tokens, console sessions."""

from __future__ import annotations

from postroom.http.console.visits import SESSION_COOKIE
from postroom.http.door.remembered import KNOWN_FOR
from postroom.store.access import identity, roles
from postroom.store.access.permissions import API_LOGIN, PROCESSING_READ
from tests.http.conftest import FIND, Served
from tests.http.keys import EMAIL, a_person, a_token, an_app, carrying, find_with, issued


async def test_living_keys_tokens_and_sessions_gain_and_lose_a_right(served: Served) -> None:
    await an_app(served, "soar", API_LOGIN)
    await a_person(served, role="soar")
    keys, token = await issued(served, app="soar"), carrying(await a_token(served, "soar"))
    cookie, _ = await served.store.write(
        lambda tx: identity.create_session(tx, EMAIL, lifetime=1 << 40, now=served.clock.now())
    )

    async def allowed() -> list[bool]:
        answers = [
            await served.post(FIND, served.signed(role="soar"), b"{}"),
            await find_with(served, keys, role="soar"),
            await served.post(FIND, token, b"{}"),
            await served.get("/v1/queues", token),
            await served.get("/console/plans", {"Cookie": f"{SESSION_COOKIE}={cookie}"}),
        ]
        assert {answer.status for answer in answers} <= {200, 403}, answers
        return [answer.status == 200 for answer in answers]

    assert await allowed() == [False] * 5
    await served.store.write(lambda tx: roles.permit(tx, "soar", [PROCESSING_READ]))
    served.clock.move(KNOWN_FOR)
    assert await allowed() == [True] * 5
    await served.store.write(lambda tx: roles.forbid(tx, "soar", [PROCESSING_READ]))
    served.clock.move(KNOWN_FOR)
    assert await allowed() == [False] * 5
