"""A NUL between two dots: unstuffing removes the first dot; for a server that drops NUL, a lone dot remains."""

from __future__ import annotations

import pytest

from postroom.smtp_in import replies
from postroom.smtp_in.body import BodyReader, Memory


@pytest.mark.parametrize("step", [0, 1, 2, 3])
@pytest.mark.parametrize(
    "wire",
    [
        b"a\r\n.\0.\r\nMAIL FROM:<x@corp.example>\r\n.\r\n",  # kept as CRLF NUL dot CRLF
        b"a\r\n.\0\0.\r\nMAIL FROM:<x@corp.example>\r\n.\r\n",
        b".\0.\r\nMAIL FROM:<x@corp.example>\r\n.\r\n",  # in the very first line
    ],
)
def test_a_lone_dot_that_appears_when_stuffing_and_nul_are_gone_is_refused(wire: bytes, step: int) -> None:
    reader = BodyReader(1 << 20, 1 << 20, Memory(1 << 20))
    width = step or len(wire)
    ends = [reader.feed(wire[at : at + width]) for at in range(0, len(wire), width)]
    assert ends[-1] >= 0
    assert reader.refusal() == replies.UNSAFE_LINE
