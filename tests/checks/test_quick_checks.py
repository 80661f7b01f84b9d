"""The checks that answer at once: size, structure, loop."""

from __future__ import annotations

import pytest

from postroom import facts
from postroom.checks import CheckedMessage
from postroom.checks.loop import LoopCheck
from postroom.checks.size import SizeCheck
from postroom.checks.structure import StructureCheck
from postroom.model import Facts, Verdict, VerdictKind
from tests.checks.examples import message


def of(found: Facts | None = None, size: int = 10) -> CheckedMessage:
    return CheckedMessage(message(facts=found, size=size), b"")


def test_a_message_up_to_the_size_limit_passes() -> None:
    assert SizeCheck(10).inspect(of(size=10)) == Verdict(VerdictKind.PASS, "size")


def test_a_message_over_the_size_limit_is_rejected() -> None:
    verdict = SizeCheck(9).inspect(of(size=10))
    assert verdict == Verdict(VerdictKind.REJECT, "size", "552 5.3.4 Message is larger than the limit of 9 bytes")


def test_a_message_that_has_come_too_far_is_rejected() -> None:
    check = LoopCheck(50)
    assert check.inspect(of(Facts(hops=49))) == Verdict(VerdictKind.PASS, "loop")
    verdict = check.inspect(of(Facts(hops=50)))
    assert (verdict.kind, verdict.info[:10]) == (VerdictKind.REJECT, "554 5.4.6 ")


def test_a_large_header_is_held() -> None:
    check = StructureCheck(100)
    assert check.inspect(of(Facts(body_at=100))) == Verdict(VerdictKind.PASS, "structure")
    assert check.inspect(of(Facts(body_at=101))) == Verdict(
        VerdictKind.HOLD, "structure", "Header is larger than 100 bytes"
    )


@pytest.mark.parametrize("problem", [facts.TOO_DEEP, facts.TOO_MANY_PARTS, facts.HEADER_CUT])
def test_a_structure_that_would_hurt_scanners_is_held(problem: str) -> None:
    verdict = StructureCheck(100).inspect(of(Facts(problems=("8-bit header", problem))))
    assert verdict.kind is VerdictKind.HOLD
    assert verdict.info


def test_ordinary_faults_of_form_pass() -> None:
    found = Facts(problems=("8-bit header", "no From field", "unterminated multipart"))
    assert StructureCheck(100).inspect(of(found)).kind is VerdictKind.PASS


def test_a_bomb_of_multiparts_is_held_end_to_end() -> None:
    data = b"From: a@b\r\n"
    for level in range(60):
        data += b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (level, level)
    verdict = StructureCheck(1_000_000).inspect(of(facts.scan(data)))
    assert verdict.info == "MIME structure is suspect: parts nested deeper than 50"
