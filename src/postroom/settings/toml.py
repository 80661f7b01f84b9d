"""The line of each value in a TOML text, for error messages: `tomllib` gives values without lines.

Promises: for text that `tomllib` has accepted, the line of every table, key and list item, by its path
(`("delivery", "routes", 0, "host") -> 31`). Fails: AssertionError for text that `tomllib` refuses, which is a bug of
the caller; raises nothing else.
"""

from __future__ import annotations

import re
import tomllib

Path = tuple[str | int, ...]

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_SCALAR = re.compile(r"[^,\]}#\r\n]+")
_STRINGS = (
    re.compile(r'"""(?:[^\\]|\\.)*?"""(?:"{0,2})', re.DOTALL),  # up to two quotes may precede the closing three
    re.compile(r"'''.*?'''(?:'{0,2})", re.DOTALL),
    re.compile(r'"(?:[^"\\\n]|\\.)*"'),
    re.compile(r"'[^'\n]*'"),
)


def lines_of(text: str) -> dict[Path, int]:
    """The line of every table, key and list item, counted from 1."""
    return _Scan(text).document()


class _Scan:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.found: dict[Path, int] = {}
        self.items: dict[Path, int] = {}  # how many [[tables]] each path has so far
        self._counted_to = 0
        self._line = 1

    def document(self) -> dict[Path, int]:
        table: Path = ()
        while self._blank(newlines=True):
            if self.text.startswith("[[", self.at):
                table = self._header(2)
                number = self.items.get(table, -1) + 1
                self.items[table] = number
                self._note(table)
                table = (*table, number)
                self.found[table] = self.line()
                self.at += 2
            elif self.text[self.at] == "[":
                table = self._header(1)
                self._note(table)
                self.at += 1
            else:
                self._pair(table)
        return self.found

    def line(self) -> int:
        self._line += self.text.count("\n", self._counted_to, self.at)
        self._counted_to = self.at
        return self._line

    def _note(self, path: Path) -> None:
        """The first mention of a path is its place, as is that of every table around it."""
        for length in range(1, len(path) + 1):
            self.found.setdefault(path[:length], self.line())

    def _header(self, brackets: int) -> Path:
        self.at += brackets
        path: Path = ()
        for part in self._key():
            if path in self.items:
                path = (*path, self.items[path])  # [routes.x] and [[routes.x]] speak of the last [[routes]]
            path = (*path, part)
        self._blank(newlines=False)
        assert self.text[self.at] == "]"
        return path

    def _key(self) -> list[str]:
        parts: list[str] = []
        while True:
            self._blank(newlines=False)
            match = _BARE_KEY.match(self.text, self.at) or _STRINGS[2].match(self.text, self.at)
            match = match or _STRINGS[3].match(self.text, self.at)
            assert match is not None, f"no key at offset {self.at}"
            raw = match[0]
            parts.append(tomllib.loads(f"key = {raw}")["key"] if raw[0] in "\"'" else raw)
            self.at = match.end()
            self._blank(newlines=False)
            if self.text[self.at] != ".":
                return parts
            self.at += 1

    def _pair(self, table: Path) -> None:
        line = self.line()
        key = self._key()
        assert self.text[self.at] == "="
        self.at += 1
        path = (*table, *key)
        for length in range(len(table) + 1, len(path) + 1):
            self.found.setdefault(path[:length], line)
        self._value(path)

    def _value(self, path: Path) -> None:
        self._blank(newlines=False)
        start = self.text[self.at]
        if start == "[":
            self.at += 1
            number = 0
            while self._blank(newlines=True) and self.text[self.at] != "]":
                self.found[(*path, number)] = self.line()
                self._value((*path, number))
                number += 1
                self._blank(newlines=True)
                self.at += self.text[self.at] == ","
            self.at += 1
        elif start == "{":
            self.at += 1
            while self._blank(newlines=True) and self.text[self.at] != "}":
                self._pair(path)
                self._blank(newlines=True)
                self.at += self.text[self.at] == ","
            self.at += 1
        else:
            patterns = _STRINGS if start in "\"'" else (_SCALAR,)
            match = next((found for found in (p.match(self.text, self.at) for p in patterns) if found), None)
            assert match is not None, f"no value at offset {self.at}"
            self.at = match.end()

    def _blank(self, *, newlines: bool) -> bool:
        """Skip what means nothing; False at the end of the text."""
        space = " \t\r\n" if newlines else " \t"
        while self.at < len(self.text):
            if self.text[self.at] in space:
                self.at += 1
            elif self.text[self.at] == "#" and newlines:
                end = self.text.find("\n", self.at)
                self.at = len(self.text) if end < 0 else end
            else:
                return True
        return False
