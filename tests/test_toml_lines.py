"""The line of everything in a TOML text, for all the ways TOML has of writing it."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.settings.toml import Path, lines_of

TEXT = '''\
# a comment with = and [brackets]
data = "x"   # behind

[smtp]
listen = [
  "a#b",     # one

  'c]d', "e,f",
]
max_size = "50 MiB"
inline = { one = 1, two = { three = [1, 2] } }
[ retry . "processing" ]
waits = ["""
multi ""line"" \\""" text""", \'\'\'raw
'' text\'\'\'\'\']
age = 1979-05-27 07:32:00
a.b."c.d" = true

[[delivery.routes]]
domain = "*"

[[delivery.routes]]
host = ""
[delivery.routes.more]
deep = 'x\\'
[[delivery.routes.list]]
item = -1.5e3
[last]
'''


def paths(value: object, path: Path = ()) -> Iterator[Path]:
    """Every path that a parsed document has."""
    if path:
        yield path
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from paths(inner, (*path, key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from paths(inner, (*path, number))


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_everything_that_tomllib_finds_has_a_line(end: str) -> None:
    text = TEXT.replace("\n", end)
    assert set(lines_of(text)) == set(paths(tomllib.loads(text)))


def test_each_thing_stands_where_it_was_written() -> None:
    lines = lines_of(TEXT)
    assert lines[("data",)] == 2
    assert lines[("smtp",)] == 4
    assert [lines[("smtp", "listen", number)] for number in range(3)] == [6, 8, 8]
    assert lines[("smtp", "max_size")] == 10
    assert lines[("smtp", "inline", "two", "three", 1)] == 11
    assert lines[("retry", "processing")] == 12
    assert lines[("retry", "processing", "waits", 0)] == 13
    assert lines[("retry", "processing", "waits", 1)] == 14
    assert lines[("retry", "processing", "age")] == 16
    assert lines[("retry", "processing", "a", "b", "c.d")] == 17
    assert lines[("delivery", "routes", 0, "domain")] == 20
    assert lines[("delivery", "routes", 1)] == 22
    assert lines[("delivery", "routes", 1, "more", "deep")] == 25
    assert lines[("delivery", "routes", 1, "list", 0, "item")] == 27
    assert lines[("last",)] == 28


VALUES = st.recursive(
    st.one_of(st.integers(-1000, 1000), st.booleans(), st.text("ab#]}[{,='\"\\\n é", max_size=8)),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=6,
)


def written(value: object, layout: str) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + "".join(f"{layout}{written(item, layout)}," for item in value) + "]"
    if isinstance(value, str):
        if layout and "'" not in value and "\\" not in value:
            return f"'''{value}'''" if not value.startswith("\n") else f"'''\n{value}'''"
        return '"' + "".join(f"\\u{ord(char):04x}" if char in '"\\\n' else char for char in value) + '"'
    return str(value)


@given(
    st.dictionaries(st.from_regex(r"[a-z_-]{1,6}", fullmatch=True), VALUES, max_size=4),
    st.sampled_from(["", "\n  # x ]\n"]),
)
def test_any_document_is_scanned_as_tomllib_reads_it(document: dict[str, object], layout: str) -> None:
    text = "".join(f"[t.{key}]\n{key} = {written(value, layout)}\n" for key, value in document.items())
    assert set(lines_of(text)) == set(paths(tomllib.loads(text)))
