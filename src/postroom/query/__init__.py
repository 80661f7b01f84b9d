"""The one search language of console, command line and `/v1`: a line of text <-> `model.Filter`. Pure.

    from:alice@corp.example to:*@example.org subject:"quarterly report" route:inbound queue:processing|delivery
    has:attachment age>10m attempts>=3 size>1MiB ip:192.0.2.0/24 info:timeout is:waiting priority:low -from:bob report

All conditions must hold. A leading `-` means "not"; `a|b` means either word of a closed list. A text matches as a
substring in any case. In an unquoted address `*` matches anything; in quotes, and in other texts, it is literal.
Promises: `parse(write(filter))` gives that filter back. Fails: QueryProblem says what is wrong, where (characters from
the start) and what was probably meant; the parser never guesses.
"""

from postroom.query.both import both, flattened
from postroom.query.parse import parse, spelled
from postroom.query.problem import QueryProblem
from postroom.query.words import KEYS, LABELS, MAX_QUERY, MAX_TERMS, MAX_TEXT, NUMBERS, STATES, TEXTS
from postroom.query.write import write

__all__ = [
    "KEYS",
    "LABELS",
    "MAX_QUERY",
    "MAX_TERMS",
    "MAX_TEXT",
    "NUMBERS",
    "STATES",
    "TEXTS",
    "QueryProblem",
    "both",
    "flattened",
    "parse",
    "spelled",
    "write",
]
