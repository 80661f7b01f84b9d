"""get-account: what clients call to test a connection (contract section 7)."""

from __future__ import annotations

import pytest

from postroom.http.gateway.calls.account import PATH
from postroom.settings import GatewaySettings
from postroom.store.access import identity
from tests.http.conftest import Serve, Served
from tests.http.siblings import ask, data


async def test_the_account_is_the_gateway(serve: Serve) -> None:
    served = await serve(
        gateway=GatewaySettings(hostname="gw.corp.example", internal_domains=("corp.example", "b.example"))
    )
    (account,) = data(await ask(served, PATH))
    assert account["accountName"] == "gw.corp.example"
    assert account["domain"] == "corp.example"
    assert (account["gateway"], account["archive"], account["maxRetention"]) == (True, False, 30)
    assert account["accountCode"].isalnum()
    again = data(await ask(served, PATH, {}, role=identity.MONITOR))
    assert again == [account]


@pytest.mark.parametrize("body", [b"", b"{}", b"{'data': []}", b'{"data":[{"x":1}]}', b"null"])
async def test_whatever_is_sent(served: Served, body: bytes) -> None:
    answer = await served.post(PATH, served.signed(PATH), body)
    assert data(answer)[0]["accountName"] == "localhost"


async def test_a_wrong_key_is_told_as_everywhere(served: Served) -> None:
    answer = await served.post(PATH, served.signed(PATH, secret_key="d3Jvbmc="))
    assert answer.status == 401
