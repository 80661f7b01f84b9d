"""docs/search.md is true: what it shows can be read, and nothing of the language is missing from it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from postroom import model, query

PAGE = (Path(__file__).parent.parent / "docs" / "search.md").read_text()
TABLE = PAGE.partition("## Conditions")[2].partition("\n\nLengths")[0]
SHOWN = [
    code.replace("\\|", "|")
    for row in re.findall(r"^\| (`.*?) \| ", TABLE, re.MULTILINE)
    for code in re.findall(r"`([^`]+)`", row)
]
NOW = 1_795_342_020_000


@pytest.mark.parametrize("line", SHOWN)
def test_every_condition_that_it_shows_is_one(line: str) -> None:
    read = query.parse(line, NOW)
    assert query.parse(query.write(read), NOW) == read


def test_every_field_and_word_is_there() -> None:
    assert {found[1] for line in SHOWN if (found := re.match(r"([a-z]+)[:<>=]", line))} == set(query.KEYS)
    for word in (*query.STATES, *query.LABELS, *model.Queue, *model.Route, *model.Priority):
        assert re.search(rf"`[^`]*\b{word}\b[^`]*`", TABLE), word
    for number in (query.MAX_QUERY, query.MAX_TEXT, query.MAX_TERMS):
        assert str(number) in PAGE


def test_the_wrong_line_is_wrong_as_it_says() -> None:
    line = re.search(r"queue hold '(.+)'", PAGE)
    assert line is not None
    with pytest.raises(query.QueryProblem) as caught:
        query.parse(line[1], NOW)
    assert f'"what": "{caught.value.what}", "at": {caught.value.at}, "meant": "{caught.value.meant}"' in PAGE
    assert str(caught.value) in PAGE


def test_every_command_that_it_shows_can_be_read() -> None:
    for line in re.findall(r"^postroom queue \w+ '(.+?)'", PAGE, re.MULTILINE):
        query.parse(line, NOW)
