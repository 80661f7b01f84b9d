"""What is wrong with a query: QueryProblem, which says where and what was probably meant."""

from __future__ import annotations

from postroom.errors import PeerError


class QueryProblem(PeerError):
    """`at`: characters from the start; `meant`: what to write instead, empty when nothing is close."""

    def __init__(self, at: int, what: str, meant: str = "") -> None:
        super().__init__(f"{what} (at character {at + 1})" + (f"; did you mean {meant}?" if meant else ""))
        self.at = at
        self.what = what
        self.meant = meant
