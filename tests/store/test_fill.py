"""The queue that benchmarks are measured on agrees with itself, and the same seed makes the same one."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench.fill import HOLDING, MIX, fill, parsed_mix
from bench.people import ABSENT, COMMON

from postroom.clock import DAY, MINUTE, SystemClock
from postroom.errors import PostroomError
from postroom.model import Field, Filter, Queue
from postroom.settings import Settings
from postroom.store.store import open_store
from postroom.store.verify.proof import verify

ENTRIES = 3_000


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("filled")
    fill(data, ENTRIES, seed=7, real_sizes=True)
    return data


def test_verify_finds_nothing_in_it(filled: Path) -> None:
    store = open_store(Settings(data=str(filled)), beside=True)
    try:
        report = verify(store, clock=SystemClock())
        assert report.rows > ENTRIES
        assert report.counts == {}
        assert store.read_now().ledger()[2] == ENTRIES
    finally:
        store.close()


def test_it_is_skewed_as_said_and_nothing_is_leased(filled: Path) -> None:
    store = open_store(Settings(data=str(filled)), beside=True)
    try:
        reader = store.read_now()
        counts = reader.queue_counts()
        assert set(counts) == {Queue(name) for name in MIX}
        for queue, number in counts.items():
            assert abs(number / ENTRIES - MIX[queue] / sum(MIX.values())) < 0.08, queue
        assert 0.12 < reader.count(Filter(text=COMMON, field=Field.SUBJECT)) / ENTRIES < 0.28
        assert reader.count(Filter(text=ABSENT)) == 0
        assert reader.tx.rows("SELECT count(*) FROM entry WHERE lease IS NOT NULL")[0][0] == 0
        (texts,) = reader.tx.rows("SELECT count(*) FROM info")[0]
        assert len(HOLDING) < texts < ENTRIES
        newest, oldest = (
            reader.find(Filter(), limit=1)[0].created,
            reader.tx.rows("SELECT min(id) FROM entry"),
        )
        assert abs(newest - SystemClock().now()) < 30 * MINUTE
        assert newest - (oldest[0][0] >> 20) > 6 * DAY
        assert any(
            not entry.recipient.isascii() or not entry.from_name.isascii() for entry in reader.find(Filter(), limit=500)
        )
    finally:
        store.close()


def test_a_directory_with_a_queue_is_refused(filled: Path) -> None:
    with pytest.raises(PostroomError, match="has a queue already"):
        fill(filled, 10)


def test_the_same_seed_makes_the_same_queue(filled: Path, tmp_path: Path) -> None:
    fill(tmp_path, ENTRIES, seed=7)
    told = []
    for data in (filled, tmp_path):
        store = open_store(Settings(data=str(data)), beside=True)
        told.append(store.read_now().tx.rows("SELECT queue, recipient, subject, attempts FROM entry ORDER BY id"))
        store.close()
    assert told[0] == told[1]


def test_a_mix_names_queues() -> None:
    assert parsed_mix("processing=60,held=40") == {"processing": 60, "held": 40}
    for wrong in ("processing", "nowhere=3", "held=-1", "held=0"):
        with pytest.raises(Exception, match=r"expected QUEUE=SHARE|no queue"):
            parsed_mix(wrong)
