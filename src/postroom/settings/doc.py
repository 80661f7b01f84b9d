"""Settings as people read them: the reference (`docs/settings.md`) and the tree in force as a TOML file.

Promises: both come from the tree itself - its names, defaults and the comment at each field - so neither can be wrong
about them; what `toml` prints is a settings file that reads back as the same tree. Fails: asserts that a field without a
comment is a mistake of ours (a test meets it first).
"""

from __future__ import annotations

import inspect
import io
import tokenize
from collections.abc import Mapping

import msgspec

from postroom.rules.retry import Schedule
from postroom.settings import Settings, tree
from postroom.settings.file import variable
from postroom.settings.keys import FIELDS, KEYS, TABLES, value_of
from postroom.settings.kinds import quoted

_SCHEDULE = {
    "waits": "how long to wait after the first failed attempt, the second, and so on; the last one repeats",
    "attempts": "give up after this many; 0 = only the age counts",
    "age": "give up when an entry has been tried for this long; it is tried once more at the very end",
}

_INTRODUCTION = """\
# Settings

Postroom starts without any: every setting has a default. To change some, write a TOML file with only those and give it
as `--config FILE`; [`examples/postroom.toml`](../examples/postroom.toml) is one to start from.

- Quantities are written with their units: `"10 minutes"`, `"50 MiB"`, `"10000 per 5 seconds"`, `"never"`.
  Durations take milliseconds (ms), seconds (s), minutes (m), hours (h), days (d) and weeks (w); sizes take bytes, KiB,
  MiB, GiB and TiB (1024 each) or kB, MB, GB and TB (1000 each).
- The environment wins over the file: `POSTROOM_SECTION__KEY`, for example `POSTROOM_SMTP__MAX_SIZE="10 MiB"`; the items
  of a list are separated by commas. The options of a command (`--data`, `--smtp`, `--http`) win over both.
- `--config` may also be given as `POSTROOM_CONFIG`.
- A relative `data` directory in a file, and its default when a file is given, is relative to the file; `--data` and
  `POSTROOM_DATA` are relative to where the command runs.
- Anything unknown or wrong stops the start, with every error at once and its line: `postroom settings check FILE` says
  the same without starting. `postroom settings show` prints what is in force, and where each value came from.

This page is generated from the program by `postroom settings reference`; a test keeps it true.
"""


def reference() -> str:
    """docs/settings.md."""
    comments = _comments()
    parts = [_INTRODUCTION, "## At the top of the file\n", _section("data", comments)]
    for table in TABLES:
        keys = [key for key in KEYS if key.rpartition(".")[0] == table]
        if keys:
            parts.append(f"## [{table}]\n")
            parts.extend(_section(key, comments) for key in keys)
    return "\n".join(parts)


def toml(settings: Settings, origins: Mapping[str, str]) -> str:
    """The tree in force; each value with where it came from."""
    lines: list[tuple[str, str]] = [(_assignment("data", value_of(settings, "data")), _origin("data", origins))]
    later: list[tuple[str, str]] = []
    for table in TABLES:
        keys = [key for key in KEYS if key.rpartition(".")[0] == table and key != "delivery.routes"]
        if keys:
            lines += [("", ""), (f"[{table}]", "")]
            lines += [(_assignment(key, value_of(settings, key)), _origin(key, origins)) for key in keys]
        if table == "delivery":
            for route in settings.delivery.routes:
                later += [("", ""), ("[[delivery.routes]]", _origin("delivery.routes", origins))]
                later += [(f"domain = {quoted(route.domain)}", ""), (f"host = {quoted(str(route.host))}", "")]
    lines += later
    width = min(max(len(text) for text, _ in lines), 60)
    return "".join(f"{text:<{width}}  # {origin}\n" if origin else f"{text}\n" for text, origin in lines)


def values(settings: Settings) -> dict[str, object]:
    """The same for programs: sections as objects, values as the file writes them."""
    result: dict[str, object] = {}
    for key, kind in KEYS.items():
        *path, last = key.split(".")
        node = result
        for part in path:
            inner = node.setdefault(part, {})
            assert isinstance(inner, dict)
            node = inner
        node[last] = kind.write(value_of(settings, key))
    return result


def _section(key: str, comments: Mapping[str, str]) -> str:
    kind = KEYS[key]
    *path, name = key.split(".")
    fields = FIELDS.get(key, (name,))
    said = " ".join(comments[".".join((*path, field))] for field in fields)
    return (
        f"### {name}\n\n{said[:1].upper()}{said[1:]}.\n\n"
        f"- default: `{literal(kind.write(value_of(Settings(), key)))}`\n- takes: {kind.expected}\n"
        f"- environment: `{variable(key)}`\n"
    )


def _assignment(key: str, value: object) -> str:
    return f"{key.rpartition('.')[2]} = {literal(KEYS[key].write(value))}"


def _origin(key: str, origins: Mapping[str, str]) -> str:
    return origins.get(key, "default")


def literal(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return f"[{', '.join(literal(item) for item in value)}]"
    return quoted(value) if isinstance(value, str) else str(value)


def _comments() -> dict[str, str]:
    """The comment at each field of the tree, by its dotted name."""
    classes = _class_comments(inspect.getsource(tree))
    named: dict[str, str] = {}

    def name(struct: msgspec.Struct, prefix: str) -> None:
        for field in struct.__struct_fields__:
            inner = getattr(struct, field)
            if isinstance(inner, Schedule):
                named.update({f"{prefix}{field}.{part}": said for part, said in _SCHEDULE.items()})
            elif isinstance(inner, msgspec.Struct):
                name(inner, f"{prefix}{field}.")
            else:
                named[prefix + field] = classes[type(struct).__name__][field]

    name(Settings(), "")
    return named


def _class_comments(source: str) -> dict[str, dict[str, str]]:
    """Class -> field -> its comment; a comment that fills the next lines goes on."""
    classes: dict[str, dict[str, str]] = {}
    fields: dict[str, str] = {}
    field = ""
    before = ""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.NAME and before == "class":
            fields = classes.setdefault(token.string, {})
            field = ""
        elif token.type == tokenize.NAME and token.start[1] == 4 and token.line[token.end[1] :].startswith(":"):
            field = token.string
            fields[field] = ""
        elif token.type == tokenize.COMMENT and field:
            fields[field] = f"{fields[field]} {token.string.lstrip('# ')}".strip()
        before = token.string
    return classes
