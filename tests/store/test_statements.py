"""Statements that have a name: an engine replaces one by its name, so a name stands for one text."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections import defaultdict

import postroom.store
from postroom.store.engine import Statement


def statements() -> dict[str, set[str]]:
    """Name -> its texts, of all that the modules of the store hold."""
    found: dict[str, set[str]] = defaultdict(set)
    for module in pkgutil.walk_packages(postroom.store.__path__, "postroom.store."):
        for value in vars(importlib.import_module(module.name)).values():
            if isinstance(value, Statement):
                found[value.name].add(str(value))
    return found


def test_each_name_stands_for_one_text() -> None:
    found = statements()
    assert len(found) > 80
    assert {name for name, texts in found.items() if len(texts) > 1} == set()


def test_names_say_the_room_and_what_the_statement_does() -> None:
    assert [name for name in statements() if not re.fullmatch(r"[a-z_]+\.[a-z0-9_]+", name)] == []
