from __future__ import annotations

from postroom.clock import HandClock
from postroom.http.door.limiter import MAX_WINDOWS, Limiter, network


def test_a_window_starts_with_its_first_call_and_stands() -> None:
    clock = HandClock()
    limiter = Limiter(clock, 2, 5_000)
    first = limiter.take("a", "f")
    assert (first.remaining, first.reset, first.allowed) == (1, 5_000, True)
    clock.move(4_999)
    assert (limiter.take("a", "f").remaining, limiter.take("a", "f").allowed) == (0, False)
    clock.move(1)
    assert limiter.take("a", "f").remaining == 1


def test_callers_and_functions_count_apart() -> None:
    limiter = Limiter(HandClock(), 1, 5_000)
    assert limiter.take("a", "f").allowed
    assert limiter.take("b", "f").allowed
    assert limiter.take("a", "g").allowed
    assert not limiter.take("a", "f").allowed


def test_a_clock_set_back_does_not_lock_anyone_out() -> None:
    clock = HandClock()
    limiter = Limiter(clock, 1, 5_000)
    limiter.take("a", "f")
    clock.move(-60_000)
    assert limiter.take("a", "f").allowed


def test_looking_whether_all_is_spent_counts_nothing() -> None:
    clock = HandClock()
    limiter = Limiter(clock, 1, 5_000)
    assert not limiter.spent("a", "f")
    assert limiter.take("a", "f").allowed
    assert limiter.spent("a", "f")
    assert not limiter.spent("b", "f")
    clock.move(5_000)
    assert not limiter.spent("a", "f")
    assert limiter.take("a", "f").allowed


def test_a_network_is_one_caller() -> None:
    assert network("192.0.2.7") == "192.0.2.7"
    assert network("2001:db8:1:2::7") == network("2001:db8:1:2:ffff::1%eth0") != network("2001:db8:1:3::7")
    assert network("") == ""


def test_made_up_callers_do_not_fill_the_memory() -> None:
    clock = HandClock()
    limiter = Limiter(clock, 1, 5_000)
    for number in range(MAX_WINDOWS * 3):
        limiter.take(str(number), "f")
        assert len(limiter._windows) <= MAX_WINDOWS
