"""Parses the mailboxes of an address field (RFC 5322 3.4), as leniently as mail readers do.

Promises: total, linear (each pattern is possessive: no backtracking), bounded by the caller's limit. Understands names,
quoted strings, comments, groups, routes and encoded words, and the faults of real mail: missing or doubled brackets,
names with unquoted commas in encoded words, "Name a@b", an address without a domain.
Fails: never; a text without an address gives an empty address and the text as the name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from postroom.facts.words import MAX_TEXT, clean, decode_words

_PLAIN = re.compile(r'\s*+([^\s<>()"\\,;:@]++@[^\s<>()"\\,;:@\[]++)\s*+')
_NAMED = re.compile(r'\s*+(?:"([^"\\]*+)"\s*+|([^"\\<>()\[\],;:@]*+))<([^\s<>()"\\,;:@]++@[^\s<>()"\\,;:@\[]++)>\s*+')
_TOKEN = re.compile(
    r"""(?P<blank>\s++)
    | "(?P<quoted>(?:[^"\\]++|\\.)*+)"?+
    | <(?P<angle>(?:"(?:[^"\\]++|\\.)*+"|[^<>"])*+)>?+
    | (?P<mark>[,;:(])
    | (?P<atom>(?:=\?[^?\s]{1,60}+\?[BbQq]\?[^?\s]{0,500}+\?=|[^\s"(<,;:\[=]++|\[[^\[\]\s]{0,64}+\]|=|\[)++)
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT = re.compile(r"[()]|\\.", re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_SALVAGE = re.compile(r"""[^\s<>()"'\\,;:@\[\]]{1,250}+@[^\s<>()"'\\,;:@\[\]]++""")
_LOCAL = re.compile(r"""[^\s<>()"'\\,;:@=?]++""")
_SEPARATED = re.compile(r"[\s,;]++")


def first_mailbox(text: str) -> tuple[str, str]:
    """Address and display name of the first mailbox; `text` still has its encoded words."""
    plain = _PLAIN.fullmatch(text)
    if plain is not None:
        return clean(plain[1]), ""
    name = ""
    for address, found in mailboxes(text, 10):
        if address:
            return address, found
        name = name or found
    if "=?" in text:  # some senders encode the whole field, address included
        text = decode_words(text)
        name = clean(text)
    salvaged = _SALVAGE.search(text)
    if salvaged is None:
        return "", name
    rest = text[: salvaged.start()] + text[salvaged.end() :]
    return clean(salvaged[0]), clean(rest.translate(_BRACKETS))


_BRACKETS = dict.fromkeys(map(ord, '<>"'), " ")


def mailboxes(text: str, limit: int) -> Iterator[tuple[str, str]]:
    """(address, display name) of each mailbox, at most `limit`; members of groups included."""
    named = _NAMED.fullmatch(text)
    if named is not None:
        yield clean(named[3]), display(named[1] if named[2] is None else named[2])
        return
    piece = _Piece()
    at, end = 0, len(text)
    while at < end and limit > 0:
        token = _TOKEN.match(text, at)
        assert token is not None  # every character starts one of the five
        at = token.end()
        kind = token.lastgroup
        if kind == "atom":
            piece.add(token[0], token[0], "@" in token[0])
        elif kind == "blank":
            piece.blank = True
        elif kind == "quoted":
            inner = token["quoted"]
            piece.add(token[0], _ESCAPED.sub(r"\1", inner) if "\\" in inner else inner, False)
        elif kind == "angle":
            piece.angle = piece.angle or token["angle"]
            piece.has_angle = True
        elif token[0] == "(":
            at = piece.comment(text, at)
        elif token[0] == ":" and not piece.has_angle:
            piece = _Piece()  # the name of a group, or "mailto:"
        else:
            if not piece.empty():
                yield piece.mailbox()
                limit -= 1
            piece = _Piece()
    if limit > 0 and not piece.empty():
        yield piece.mailbox()


def display(name: str) -> str:
    """A phrase as people read it."""
    if "=?" in name:
        name = decode_words(name)
    return clean(name)


class _Word:
    """One word of a mailbox; `has_at`: it has an @ outside quotes."""

    __slots__ = ("has_at", "shown", "written")

    def __init__(self) -> None:
        self.written = self.shown = ""
        self.has_at = False


class _Piece:
    """The parts of one mailbox read so far."""

    __slots__ = ("angle", "blank", "comments", "has_angle", "words")

    def __init__(self) -> None:
        self.words: list[_Word] = []  # separated by blanks
        self.blank = True
        self.angle = ""
        self.has_angle = False
        self.comments: list[str] = []

    def empty(self) -> bool:
        return not (self.words or self.has_angle or self.comments)

    def add(self, written: str, shown: str, has_at: bool) -> None:
        if self.angle:
            return  # after the bracket: not part of the name
        if self.blank or not self.words:
            self.words.append(_Word())
            self.blank = False
        word = self.words[-1]
        word.written += written
        word.shown += shown
        word.has_at = word.has_at or has_at

    def comment(self, text: str, at: int) -> int:
        """Reads a comment after its opening bracket (RFC 5322 3.2.2: they nest); returns where it ends."""
        depth, start = 1, at
        for mark in _COMMENT.finditer(text, at):
            if mark[0] == "(":
                depth += 1
            elif mark[0] == ")":
                depth -= 1
                if depth == 0:
                    self.comments.append(_ESCAPED.sub(r"\1", text[start : mark.start()]))
                    self.blank = True
                    return mark.end()
        self.comments.append(_ESCAPED.sub(r"\1", text[start:]))
        return len(text)

    def mailbox(self) -> tuple[str, str]:
        words = self.words
        address = ""
        if self.has_angle:
            address = _inner_address(self.angle)
        elif len(words) == 1 and _LOCAL.fullmatch(words[0].written):
            address = words[0].written  # "root": RFC 5322 wants a domain, local programs leave it out
            words = []
        else:
            for at, word in enumerate(words):
                if word.has_at and "@" in word.written.strip("@"):
                    address = word.written
                    words = words[:at] + words[at + 1 :]
                    break
        name = " ".join([word.shown for word in words]) or " ".join(self.comments)
        return clean(address), display(name[: 4 * MAX_TEXT])


def _inner_address(angle: str) -> str:
    """The address between the brackets, without source route (RFC 5322 4.4) and blanks."""
    address = angle.strip()
    if address.startswith("@") and ":" in address:
        address = address[address.index(":") + 1 :].strip()
    if address.startswith('"') or not _SEPARATED.search(address):
        return address
    chunks = _SEPARATED.split(address)
    return next((chunk for chunk in chunks if "@" in chunk.strip("@")), "".join(chunks))
