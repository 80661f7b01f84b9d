"""`kill -9` at any moment loses nothing that was acknowledged; what may have been delivered twice is labelled.

The quick run; `make crash KILLS=1000` is the long one.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.campaign import FROM_OUTSIDE, Campaign
from tests.crash.moments import MOMENTS

pytestmark = pytest.mark.system
SEED = 20_261_122


def test_kills_at_every_moment_lose_nothing_and_label_what_may_be_there_twice(tmp_path: Path) -> None:
    campaign = Campaign(tmp_path / "gateway", SEED)
    order = [*MOMENTS, FROM_OUTSIDE, FROM_OUTSIDE]
    campaign.chance.shuffle(order)
    assert len(order) >= 25
    with campaign.running():
        for name in order:
            campaign.kill(name)
            assert not campaign.problems, f"seed {SEED}, after a kill {name}"
        campaign.finish()
    assert not campaign.problems, f"seed {SEED}"
    assert not campaign.missed, "moments that never came"
    assert campaign.load.acked
    assert campaign.fickle.twice, "nothing was ever delivered twice, so no label was looked at"


def test_a_duplicate_without_its_label_would_be_found(tmp_path: Path) -> None:
    campaign = Campaign(tmp_path / "gateway", SEED, spoiled="labels forgotten")
    with campaign.running():
        for _ in range(3):
            campaign.kill("between the remote 250 and its record")
        campaign.finish()
    for what in ("delivered twice without a word", "the history does not say so"):
        assert any(what in problem for problem in campaign.problems), (what, campaign.problems)


def test_a_lost_message_would_be_found(tmp_path: Path) -> None:
    campaign = Campaign(tmp_path / "gateway", SEED, spoiled="deferred mail dropped")
    campaign.fickle.odds = [("defer", 1)]
    with campaign.running():
        campaign.kill(FROM_OUTSIDE)
        campaign.kill(FROM_OUTSIDE)
        campaign.finish()
    for what in ("neither queued nor delivered", "never delivered", "not in the history", "the ledger differs"):
        assert any(what in problem for problem in campaign.problems), (what, campaign.problems)
