"""Reads settings: a TOML file, the environment (`POSTROOM_SECTION__KEY`) and command-line options -> one frozen tree.

Promises: options win over the environment, the environment over the file, the file over the defaults; what is wrong in
any of them is reported, even where something else would have won. Fails: SettingsError listing every problem at once,
each with its place (`postroom.toml:12: [smtp] max_size: expected ...`); a TOML syntax error hides what is behind it.
"""

from __future__ import annotations

import ipaddress
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path

import msgspec

from postroom.errors import SettingsError
from postroom.settings import Settings
from postroom.settings.keys import KEYS, TABLES, with_value
from postroom.settings.kinds import Given, nearest, shown
from postroom.settings.toml import Path as TomlPath
from postroom.settings.toml import lines_of

PREFIX = "POSTROOM_"
# The other key of a disagreement: its place is reported when the first key was not given.
_PARTNERS = {
    "smtp.max_header": "smtp.max_size",
    "http.tls.key": "http.tls.certificate",
    "http.tls.certificate": "http.tls.key",
}
_TOML_PLACE = re.compile(r"(?P<what>.*?)\s*\(at (?:line (?P<line>\d+), column (?P<column>\d+)|end of document)\)")


class Loaded(msgspec.Struct, frozen=True):
    """The tree, and the origin of each key that is not a default ("postroom.toml:12", "POSTROOM_SMTP__MAX_SIZE")."""

    settings: Settings
    origins: dict[str, str]


def load(
    path: Path | None,
    environ: Mapping[str, str],
    *,
    data: str | None = None,
    smtp: str | None = None,
    http: str | None = None,
) -> Settings:
    """The settings to run with. `data`, `smtp` and `http` are the options of the same names."""
    return read(path, environ, data=data, smtp=smtp, http=http).settings


def read(
    path: Path | None,
    environ: Mapping[str, str],
    *,
    data: str | None = None,
    smtp: str | None = None,
    http: str | None = None,
) -> Loaded:
    """The same, telling where each value came from."""
    reading = _Reading()
    if path is not None:
        reading.file(path)
    reading.environment(environ)
    for key, option, text in (
        ("data", "--data", data),
        ("smtp.listen", "--smtp", smtp),
        ("http.listen", "--http", http),
    ):
        if text is not None:
            reading.text(key, text, option)
    return reading.result()


def variable(key: str) -> str:
    """The environment variable of a key: "smtp.max_size" -> POSTROOM_SMTP__MAX_SIZE."""
    return PREFIX + key.upper().replace(".", "__")


class _Reading:
    def __init__(self) -> None:
        self.settings = Settings()
        self.origins: dict[str, str] = {}
        self.problems: list[tuple[int, str]] = []  # sorted by line; what has no line comes behind, in order

    def result(self) -> Loaded:
        self._agreement()
        if self.problems:
            raise SettingsError([text for _, text in sorted(self.problems, key=lambda problem: problem[0])])
        return Loaded(self.settings, self.origins)

    def file(self, path: Path) -> None:
        text = ""
        try:
            text = path.read_bytes().decode("utf-8-sig")
            document = tomllib.loads(text)
        except OSError as problem:
            return self.problem(1, f"{path}: cannot read the settings: {problem.strerror}")
        except UnicodeDecodeError as problem:
            line = problem.object[: problem.start].count(b"\n") + 1
            byte = problem.object[problem.start]
            return self.problem(line, f"{path}:{line}: expected text in UTF-8, got the byte 0x{byte:02x}")
        except tomllib.TOMLDecodeError as problem:
            return self.problem(1, _syntax(path, text, str(problem)))
        _File(self, path, lines_of(text)).table(document, ())
        if self.settings.data == Settings().data or "data" in document:
            # The store must be found from any directory that a command is typed in: relative to the file.
            self.settings = with_value(self.settings, "data", str(path.parent / self.settings.data))

    def environment(self, environ: Mapping[str, str]) -> None:
        """Reads names with a double underscore only: container platforms set POSTROOM_PORT and the like."""
        for name in sorted(environ):
            if name == variable("data"):
                self.text("data", environ[name], name)
            elif name.startswith(PREFIX) and "__" in name:
                key = name.removeprefix(PREFIX).lower().replace("__", ".")
                if key in KEYS and name == variable(key):
                    self.text(key, environ[name], name)
                else:
                    near = nearest(name, [variable(known).lower() for known in KEYS])
                    hint = f"; did you mean {near.upper()}?" if near else ""
                    self.problem(0, f"{name}: unknown setting{hint}")

    def text(self, key: str, value: str, place: str) -> None:
        def report(_path: TomlPath, text: str) -> None:
            self.problem(0, f"{place}: {text}")

        self.keep(key, Given(value, (), report, text=True), place)

    def keep(self, key: str, given: Given, place: str) -> None:
        value = KEYS[key].read(given)
        if value is not None:
            self.settings = with_value(self.settings, key, value)
            self.origins[key] = place

    def problem(self, line: int, text: str) -> None:
        self.problems.append((line or 1 << 30, text))

    def _agreement(self) -> None:
        """Reports settings that are right alone and wrong together, when there is no other problem."""
        if self.problems:
            return
        smtp, http = self.settings.smtp, self.settings.http
        if smtp.max_header > smtp.max_size:
            self._disagree("smtp.max_header", "expected at most the size of a whole message, [smtp] max_size")
        for address in http.listen:
            if address.port and address in smtp.listen:
                self._disagree("http.listen", f"{shown(str(address))} is taken by [smtp] listen")
        tls = http.tls
        if bool(tls.certificate) != bool(tls.key):
            given, missing = ("certificate", "key") if tls.certificate else ("key", "certificate")
            self._disagree(f"http.tls.{missing}", f"missing; expected the file that belongs to [http.tls] {given}")
        exposed = next((address for address in http.listen if not _is_this_machine(address.host)), None)
        if exposed is not None and not tls.certificate and not tls.key and not http.insecure:
            text = (
                f"{shown(str(exposed))} can be reached from other machines, and keys and mail would travel in clear: "
            )
            hint = "give [http.tls] certificate and key; or set insecure = true, if a proxy there speaks TLS"
            self._disagree("http.listen", text + hint)

    def _disagree(self, key: str, text: str) -> None:
        section, _, name = key.rpartition(".")
        place = self.origins.get(key) or self.origins.get(_PARTNERS.get(key, ""), "") or "defaults"
        self.problem(0, f"{place}: [{section}] {name}: {text}")


class _File:
    """One file: walks its tables, and reports every problem with line and name."""

    def __init__(self, reading: _Reading, path: Path, lines: dict[TomlPath, int]) -> None:
        self.reading = reading
        self.path = path
        self.lines = lines

    def table(self, table: Mapping[str, object], path: tuple[str, ...]) -> None:
        for name, value in table.items():
            here = (*path, name)
            key = ".".join(here)
            if key in KEYS and "." not in name:
                self.reading.keep(key, Given(value, here, self.report), self.place(here))
            elif key not in TABLES or "." in name:
                self.unknown(here, value)
            elif isinstance(value, dict):
                self.table(value, here)
            elif isinstance(value, list):
                self.report(here, f"expected one section [{key}], with single brackets")
            else:
                self.report(here, f"expected a section [{key}], got {shown(value)}")

    def unknown(self, path: tuple[str, ...], value: object) -> None:
        name = path[-1]
        inside = ".".join(path[:-1])
        known = [key.rpartition(".")[2] for key in (*KEYS, *TABLES) if key.rpartition(".")[0] == inside]
        near = nearest(name, known)
        if isinstance(value, dict | list) and not path[:-1]:
            listed = ", ".join(f"[{table}]" for table in TABLES)
            hint = f"did you mean [{near}]?" if near else f"the sections are {listed}"
            self.report(path, f"unknown section; {hint}", f"[{name}]")
            return
        elsewhere = [key for key in KEYS if key.rpartition(".")[2] == name]
        if not near and elsewhere:
            section, _, _ = elsewhere[0].rpartition(".")
            near = f"{name} in [{section}]" if section else f"{name} at the top, before the first section"
        hint = f"did you mean {near}?" if near else f"the keys are {', '.join(dict.fromkeys(known))}"
        self.report(path, f"unknown key; {hint}")

    def report(self, path: TomlPath, text: str, name: str = "") -> None:
        self.reading.problem(self.line(path), f"{self.place(path)}: {name or _name(path)}: {text}")

    def line(self, path: TomlPath) -> int:
        """The line of a path, or of the table around it (a missing key has no line)."""
        while path not in self.lines and len(path) > 1:
            path = path[:-1]
        return self.lines.get(path, 1)

    def place(self, path: TomlPath) -> str:
        return f"{self.path}:{self.line(path)}"


def _is_this_machine(host: str) -> bool:
    """Whether only this machine can reach the address. The only name that counts is localhost (RFC 6761 6.3)."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _name(path: TomlPath) -> str:
    """("smtp", "listen", 1) -> "[smtp] listen", as the file writes it; a route is "[[delivery.routes]] host"."""
    numbers = [at for at, part in enumerate(path) if isinstance(part, int)]
    words = [str(part) for part in path]
    if numbers and path[:2] == ("delivery", "routes"):
        return " ".join(["[[delivery.routes]]", *words[numbers[0] + 1 :]])
    if numbers:
        words = words[: numbers[0]]
    dotted = ".".join(words)
    if dotted in TABLES or len(words) == 1:
        return f"[{dotted}]" if dotted in TABLES else dotted
    return f"[{'.'.join(words[:-1])}] {words[-1]}"


def _syntax(path: Path, text: str, problem: str) -> str:
    match = _TOML_PLACE.fullmatch(problem)
    if match is None:
        return f"{path}: not TOML: {problem}"
    line = int(match["line"]) if match["line"] else text.rstrip("\n").count("\n") + 1
    column = f", column {match['column']}" if match["column"] else ", at the end of the file"
    source = text.split("\n")[line - 1].strip() if match["line"] else ""
    near = f": {source[:80]}" if source else ""
    return f"{path}:{line}: not TOML{column}: {match['what'][:1].lower()}{match['what'][1:]}{near}"
