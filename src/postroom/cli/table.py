"""Tables for people: aligned, at most as wide as the terminal, safe to print.

Promises: text from a message cannot control the terminal (a subject may hold escape sequences). To fit the terminal,
the least important columns are dropped and the others shortened with an ellipsis; in a pipe nothing is cut, so that
`| grep` sees everything. Fails: never; where even the narrowest form does not fit, it is wider than the terminal.
"""

from __future__ import annotations

import json
import shutil
import sys
import unicodedata
from collections.abc import Sequence

import click
import msgspec

GAP = 2
_UNLIMITED = 1 << 20


class Column(msgspec.Struct, frozen=True):
    """`least`: the smallest width (0 = never cut). `drop`: columns with the highest number are dropped first (0 =
    never); a column with a number is also dropped when it is empty."""

    title: str
    right: bool = False
    least: int = 0
    drop: int = 0


class Cell(msgspec.Struct, frozen=True):
    text: str
    colour: str | None = None
    bold: bool = False


def print_table(columns: Sequence[Column], rows: Sequence[Sequence[str | Cell]], *, width: int | None = None) -> None:
    for line in table_lines(columns, rows, width=terminal_width() if width is None else width):
        click.echo(line)


def print_list(columns: Sequence[Column], rows: Sequence[Sequence[str | Cell]], *, empty: str) -> None:
    """A table; without rows, `empty` on standard error."""
    if rows:
        print_table(columns, rows)
    else:
        click.echo(empty, err=True)


def table_lines(columns: Sequence[Column], rows: Sequence[Sequence[str | Cell]], *, width: int) -> list[str]:
    """The lines, with colours; click removes the colours where there is no terminal."""
    cells = [[_cell(value) for value in row] for row in rows]
    shown, widths = _fit(columns, cells, width)
    head = [Cell(columns[number].title, bold=True) for number in shown]
    lines = [_line(head, [columns[number] for number in shown], widths)]
    for row in cells:
        lines.append(_line([row[number] for number in shown], [columns[number] for number in shown], widths))
    return lines


def print_pairs(pairs: Sequence[tuple[str, str | Cell]], *, indent: str = "  ") -> None:
    """Names and values, one pair per line; empty values are left out."""
    filled = [(name, _cell(value)) for name, value in pairs if _cell(value).text]
    space = max((len(name) for name, _ in filled), default=0)
    for name, cell in filled:
        click.echo(f"{indent}{click.style(name.ljust(space), dim=True)}  {_styled(cell, cell.text)}")


def print_json(value: object) -> None:
    """One document. Escapes more control characters than JSON demands, because a terminal may show it."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    click.echo("".join([char if char.isprintable() or char == "\n" else _json_escape(char) for char in text]))


def warn(text: str) -> None:
    """A line beside the answer, on standard error."""
    click.echo(click.style(safe(text), fg="yellow"), err=True)


def terminal_width() -> int:
    return shutil.get_terminal_size((80, 24)).columns if sys.stdout.isatty() else _UNLIMITED


def safe(text: str) -> str:
    """One line without control characters: line ends become spaces, the others a visible mark."""
    if text.isprintable():
        return text
    return "".join(
        [char if char.isprintable() else " " if char in "\r\n\t" else "\N{REPLACEMENT CHARACTER}" for char in text]
    )


def text_width(text: str) -> int:
    """Terminal columns."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )


def shortened(text: str, width: int) -> str:
    """At most `width` columns, the end replaced by an ellipsis."""
    if text_width(text) <= width:
        return text
    used = 0
    for number, char in enumerate(text):
        used += text_width(char)
        if used > width - 1:
            return text[:number].rstrip() + "…"
    return text


def _cell(value: str | Cell) -> Cell:
    if isinstance(value, str):
        return Cell(safe(value))
    return msgspec.structs.replace(value, text=safe(value.text))


def _fit(columns: Sequence[Column], cells: Sequence[Sequence[Cell]], width: int) -> tuple[list[int], list[int]]:
    """(the columns that stay, the width of each)."""
    natural = [
        max([text_width(column.title), *(text_width(row[number].text) for row in cells)])
        for number, column in enumerate(columns)
    ]
    narrowest = [min(full, column.least or full) for full, column in zip(natural, columns, strict=True)]
    filled = [
        number for number, column in enumerate(columns) if not column.drop or any(row[number].text for row in cells)
    ]
    shown = _kept(columns, filled, narrowest, width)
    widths = [natural[number] for number in shown]
    return shown, _narrowed(widths, [narrowest[number] for number in shown], _taken(widths) - width)


def _taken(widths: Sequence[int]) -> int:
    """The width of a line with columns of these widths."""
    return sum(widths) + GAP * (len(widths) - 1)


def _kept(columns: Sequence[Column], filled: Sequence[int], narrowest: Sequence[int], width: int) -> list[int]:
    """The columns that fit at their narrowest: the least important are dropped until they do."""
    shown = list(filled)
    while _taken([narrowest[number] for number in shown]) > width:
        droppable = [number for number in shown if columns[number].drop]
        if not droppable:
            break
        shown.remove(max(droppable, key=lambda number: columns[number].drop))
    return shown


def _narrowed(widths: list[int], narrowest: Sequence[int], excess: int) -> list[int]:
    """The widths, less `excess` together where possible. The widest column shrinks first, so that short ones stay
    whole."""
    while excess > 0:
        spare = [index for index in range(len(widths)) if widths[index] > narrowest[index]]
        if not spare:
            break
        widest = max(spare, key=lambda index: widths[index])
        second = max([widths[index] for index in spare if index != widest], default=0)
        step = max(1, min(excess, widths[widest] - max(second, narrowest[widest])))
        widths[widest] -= step
        excess -= step
    return widths


def _line(cells: Sequence[Cell], columns: Sequence[Column], widths: Sequence[int]) -> str:
    parts = []
    for number, (cell, column, width) in enumerate(zip(cells, columns, widths, strict=True)):
        text = shortened(cell.text, width)
        space = " " * (width - text_width(text))
        last = number == len(cells) - 1
        styled = _styled(cell, text)
        parts.append(space + styled if column.right else styled if last else styled + space)
    return (" " * GAP).join(parts).rstrip()


def _styled(cell: Cell, text: str) -> str:
    if not text or (cell.colour is None and not cell.bold):
        return text
    return click.style(text, fg=cell.colour, bold=cell.bold or None)


def _json_escape(char: str) -> str:
    code = ord(char)
    if code < 0x10000:
        return f"\\u{code:04x}"
    high, low = divmod(code - 0x10000, 0x400)
    return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"
