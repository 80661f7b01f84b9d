"""Every golden exchange, byte for byte: the client's request and the answer it must get (contract sections 0 to 7)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import exchange
from tests.exchange import Exchange
from tests.http.conftest import Serve, talk
from tests.http.scenes import play

EXCHANGES = exchange.exchanges()


@pytest.mark.parametrize("name", EXCHANGES)
async def test_the_answer_is_the_golden_one(serve: Serve, tmp_path: Path, name: str) -> None:
    wanted: Exchange = EXCHANGES[name]
    served = await play(serve, tmp_path, wanted.scene)
    for request in wanted.before:
        await talk(served.address, request.encode("latin-1"))
    answer = await talk(served.address, wanted.wire)
    assert exchange.without_tokens(answer.body, wanted.random).decode() == wanted.body.decode(), wanted.fact
    assert answer.status == wanted.status
    assert {header: answer.headers.get(header) for header in wanted.headers} == wanted.headers
    assert not set(wanted.absent) & answer.headers.keys()


def test_each_names_its_fact_and_how_it_is_known() -> None:
    assert len(EXCHANGES) >= 90
    for name, one in EXCHANGES.items():
        assert one.fact.startswith("Section "), name
        assert one.known in ("recorded", "documented", "inferred", "chosen"), name
        assert "x-request-id" in one.headers, name
    facts = [one.fact for one in EXCHANGES.values()]
    assert len(set(facts)) == len(facts)
