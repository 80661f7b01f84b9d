"""Tables: as wide as the terminal, aligned, and safe whatever a message says."""

from __future__ import annotations

import json
import unicodedata

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.cli.table import Cell, Column, print_json, safe, shortened, table_lines, text_width

COLUMNS = (Column("ID"), Column("N", right=True, drop=1), Column("WHAT", least=5), Column("WHY", least=5, drop=2))
WIDE = 10_000
TEXTS = st.text(max_size=40)


def test_columns_are_as_wide_as_their_widest_cell_and_numbers_stand_right() -> None:
    lines = table_lines(COLUMNS, [("a", "1", "one", "x"), ("bbb", "1,000", "two", "")], width=WIDE)
    assert [click.unstyle(line) for line in lines] == [
        "ID       N  WHAT  WHY",
        "a        1  one   x",
        "bbb  1,000  two",
    ]


def test_what_is_too_wide_loses_its_end_and_then_the_least_important_columns_go() -> None:
    rows = [("a", "1", "w" * 30, "y" * 10)]
    shown = [click.unstyle(table_lines(COLUMNS, rows, width=width)[1]) for width in (WIDE, 30, 17, 12, 8)]
    assert shown == [
        f"a   1  {'w' * 30}  {'y' * 10}",
        f"a   1  {'w' * 10}…  {'y' * 10}",
        f"a   1  {'w' * 9}…",
        f"a   1  {'w' * 4}…",
        "a   wwww…",
    ]


@given(st.lists(st.tuples(TEXTS, st.integers().map(str), TEXTS, TEXTS), max_size=6), st.integers(20, 200))
def test_no_line_is_wider_than_the_terminal(rows: list[tuple[str, str, str, str]], width: int) -> None:
    flexible = [Column(column.title, right=column.right, least=4, drop=column.drop) for column in COLUMNS]
    lines = [click.unstyle(line) for line in table_lines(flexible, rows, width=width)]
    assert len(lines) == len(rows) + 1
    assert all(text_width(line) <= width for line in lines)


@given(TEXTS)
def test_no_text_reaches_the_terminal_as_anything_else(text: str) -> None:
    shown = safe(text)
    assert shown.isprintable()
    assert len(shown) == len(text)
    (_, line) = table_lines((Column("A"),), [(Cell(text),)], width=WIDE)
    assert line.isprintable()


@given(TEXTS, st.integers(1, 30))
def test_a_shortened_text_fits_and_says_that_it_was_cut(text: str, width: int) -> None:
    shown = shortened(text, width)
    assert text_width(shown) <= max(width, 1)
    assert shown == text or shown.endswith("…")


def test_wide_and_combining_characters_count_as_terminals_show_them() -> None:
    assert text_width("日本") == 4
    assert text_width(unicodedata.normalize("NFD", "é")) == 1
    assert shortened("日本語", 5) == "日本…"
    assert shortened("日本語", 4) == "日…"


@given(st.recursive(TEXTS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3)))
def test_json_is_one_document_that_no_terminal_can_misread(value: object) -> None:
    printed: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(click, "echo", printed.append)
        print_json(value)
    (text,) = printed
    assert text.replace("\n", "").isprintable()
    assert json.loads(text) == value
