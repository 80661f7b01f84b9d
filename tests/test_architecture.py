"""Checks every path, function and `grep` that `docs/architecture.md` and `docs/glossary.md` name."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PRODUCT = ROOT / "src" / "postroom"
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()
GLOSSARY = (ROOT / "docs" / "glossary.md").read_text()
QUESTIONS = 10

Row = list[str]  # the cells of one line of a table


def section(text: str, heading: str) -> str:
    found = re.search(rf"^## {re.escape(heading)}$(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"no section {heading!r}"
    return found[1]


def rows(text: str) -> list[Row]:
    """Of every table, without its heading."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    rules = [number for number, row in enumerate(cells) if all(set(cell) <= set("-:") and cell for cell in row)]
    headings = {number - 1 for number in rules}
    return [row for number, row in enumerate(cells) if number not in headings and number not in rules]


def quoted(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def is_path(word: str) -> bool:
    """`store/queue/claim.py`, `docs/`, `app.py`; not `/v1`, `a / b`, `[smtp]`."""
    return re.fullmatch(r"[\w.-]+(/[\w.-]+)*/?", word) is not None and ("/" in word or word.endswith((".py", ".md")))


def place(path: str) -> Path | None:
    return next((base / path for base in (PRODUCT, ROOT, ROOT / "src") if (base / path).exists()), None)


def paths(text: str) -> list[str]:
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return [word for word in quoted(prose) if is_path(word)]


@pytest.mark.parametrize("text", [ARCHITECTURE, GLOSSARY], ids=["architecture", "glossary"])
def test_every_path_exists(text: str) -> None:
    named = paths(text)
    assert len(named) > 30
    assert [path for path in named if place(path) is None] == [], "it has moved, or its name has changed"


def tree() -> set[Path]:
    """What the tree in the picture of the house names."""
    found = re.search(r"^```tree\n(.*?)^```", ARCHITECTURE, re.MULTILINE | re.DOTALL)
    assert found
    around: list[str] = []
    named = set()
    for line in found[1].splitlines():
        indent = len(line) - len(line.lstrip())
        name = line.split()[0]
        around[indent // 2 :] = [name]
        named.add(ROOT / "".join(around))
    return named


def test_the_tree_is_what_is_there() -> None:
    assert [str(path) for path in tree() if not path.exists()] == []


def test_every_room_is_in_the_tree() -> None:
    packages = {path.parent for path in PRODUCT.rglob("__init__.py")}
    files = {path for path in PRODUCT.glob("*.py") if path.name != "__init__.py"}
    assert sorted(str(path) for path in (packages | files) - tree()) == []


@pytest.mark.parametrize("heading", ["The way of a message", "The way of a search"])
def test_every_step_names_functions_that_are_in_its_files(heading: str) -> None:
    steps = [(quoted(files), quoted(functions)) for _, _, files, functions in rows(section(ARCHITECTURE, heading))]
    assert len(steps) >= 10
    for files, functions in steps:
        known = set()
        for file in files:
            path = place(file)
            assert path is not None, file
            known |= {
                node.name
                for node in ast.walk(ast.parse(path.read_bytes()))
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            }
        assert set(functions) <= known, f"in {files}"


def asked() -> list[tuple[str, str, str]]:
    """(question, command, where its first hit must be)."""
    found = []
    for question, command, answer in rows(section(ARCHITECTURE, "Ten questions of a newcomer")):
        found.append((question, quoted(command)[0], paths(answer)[0]))
    return found


def test_there_are_ten_questions() -> None:
    assert len(asked()) == QUESTIONS


@pytest.mark.parametrize(("question", "command", "answer"), asked(), ids=[question for question, _, _ in asked()])
def test_the_first_hit_of_a_newcomers_grep_is_the_right_room(question: str, command: str, answer: str) -> None:
    words = shlex.split(command)
    assert words[:2] == ["git", "grep"], "nothing else is run here"
    hits = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False).stdout.splitlines()
    assert hits, f"{question}: nothing found; the first line of src/postroom/{answer} should say it"
    assert hits[0].startswith(f"src/postroom/{answer}:"), f"{question}: {hits[0][:150]}"


def test_every_word_of_the_glossary_says_where_it_lives() -> None:
    silent = [row[0] for row in rows(GLOSSARY) if not paths(row[-1])]
    assert silent == []


def test_the_glossary_is_in_order() -> None:
    for heading in ("Words of the product", "Words of the code"):
        words = [row[0].strip("*`").lower() for row in rows(section(GLOSSARY, heading))]
        assert words == sorted(words), heading
