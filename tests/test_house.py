"""The house rules, executable: each test is one rule, its message says what to do."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

from postroom import store
from postroom.http.metrics import Scrape, Stored
from postroom.settings.file import variable
from postroom.settings.keys import KEYS
from postroom.telemetry import Counts

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src"

# Lowest first: a module imports from its own floor and from lower ones. A name stands for the module or for
# everything in that
# room; the longest name that fits decides.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("errors", "clock", "units", "ids", "model", "rules.retry", "settings", "sealing", "telemetry", "supervisor"),
    ("rules", "facts", "query"),
    ("store.fold", "store.codes", "store.sqlite.failures"),
    ("store.engine", "store.records", "store.timeline", "store.verbs", "store.bodies"),
    ("store.bounded", "store.damage", "store.sqlite"),
    ("store.access", "store.logs"),
    ("store.find",),
    ("store.queue",),
    ("store.store",),
    ("store.plans", "store.keep", "store.backup"),
    ("store.verify",),
    ("store",),
    ("smtp_in", "smtp_out", "checks"),
    ("http.gateway.wire.envelope", "http.gateway.wire.dates"),
    ("http.services", "http.asgi", "http.door"),
    ("http.gateway.call", "http.gateway.wire"),
    ("http.gateway.paging",),
    ("http.gateway.calls",),
    ("http.gateway",),
    ("http.admin",),
    ("http.schema",),
    ("http.admin.api", "http.metrics", "http.health", "http.console"),
    ("http",),
    ("work",),
    ("app",),
    # Reading and explaining settings files is what the command line does; everything else gets the finished tree.
    ("settings.toml", "settings.kinds", "settings.places", "settings.keys", "settings.file", "settings.doc"),
    ("cli", "__main__"),
)
STRANGERS = frozenset({"smtp_in", "smtp_out", "checks", "http"})  # never import each other
PURE = frozenset({"rules", "facts", "query"})
IMPURE_IMPORTS = frozenset({"socket", "asyncio", "apsw", "sqlite3", "subprocess", "threading", "time", "os"})
# Who may import the database's driver, and why. The list only shrinks.
KNOWS_APSW = {
    "postroom/store/sqlite/": "it is the engine",
}
# Who may name the room of SQLite from outside, and why. The list only shrinks.
KNOWS_SQLITE = {
    "postroom/store/engine.py": "the kinds of failure of every engine come together there",
    "postroom/store/store.py": "open_store chooses the engine",
    "postroom/store/find/search.py": "it reads SQLite's search index",
    "postroom/store/find/sources.py": "it writes the SQL that reads SQLite's search index",
    "postroom/store/backup/": "it copies SQLite's pages",
    "postroom/store/verify/": "it checks SQLite's pages and its search index",
}
SQL = re.compile(
    r"\b(SELECT\s.*\sFROM|INSERT\s+INTO|UPDATE\s+\w+\s+SET|DELETE\s+FROM|CREATE\s+TABLE)\s|\bPRAGMA\s", re.DOTALL
)
FORBIDDEN_NAMES = frozenset({"manager", "managers", "helper", "helpers", "util", "utils", "common", "base", "misc"})
LONGEST_FILE = 500
LONGEST_FUNCTION = 60
# path -> why it is longer; path:function likewise
EXPLAINED_FILES: dict[str, str] = {}
EXPLAINED_FUNCTIONS: dict[str, str] = {}

CLOCKS = frozenset({"time.time", "time.time_ns", "datetime.now", "datetime.utcnow", "datetime.today", "date.today"})
MAY_READ_THE_CLOCK = ("postroom/clock.py", "postroom_demo/", "postroom_client/")
MAY_READ_THE_ENVIRONMENT = ("postroom/settings/file.py", "postroom/cli/", "postroom_demo/")

# Written in pieces, so that this file passes its own rules.
UNFINISHED = re.compile(
    "|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X", "NotImplemented" + "Error", "mark.(skip|x" + "fail)\\b"))
)
MACHINE_PATHS = re.compile(r"(?<![\w./-])/(work|farm|root|home)/[A-Za-z.]|/opt/" + "wheels")
REGISTRIES = re.compile(
    "|".join(("py" + "pi\\.org", "python" + "hosted", "npm" + "js\\.(org|com)", "deb\\.debian" + "\\.org"))
)


@cache
def tracked() -> tuple[Path, ...]:
    """What belongs to the project: in the repository, or about to be."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return tuple(path for line in listed.stdout.splitlines() if (path := ROOT / line).is_file())


def texts(*endings: str) -> Iterator[tuple[str, str]]:
    for path in tracked():
        if path.name.endswith(endings) if endings else True:
            try:
                yield path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                continue  # an image, or mail of the corpus with bytes of its own


@cache
def modules() -> dict[str, ast.Module]:
    """Every module of the product, by its path below src."""
    return {path.relative_to(SOURCE).as_posix(): ast.parse(path.read_bytes()) for path in sorted(SOURCE.rglob("*.py"))}


def imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and full dotted name of everything imported, wherever it stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, name.name) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: write imports absolutely"
            yield from ((node.lineno, f"{node.module}.{name.name}") for name in node.names)


def module(path: str) -> str:
    """postroom/store/find/reader.py -> store.find.reader; postroom/store/__init__.py -> store."""
    return path.removeprefix("postroom/").removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def unit(path: str) -> str:
    """postroom/store/bodies.py -> store; postroom/clock.py -> clock."""
    return module(path).split(".")[0]


@cache
def floor(name: str) -> int | None:
    """Of a module, by the longest name in FLOORS that is its own or that of a room around it."""
    fitting = [
        (len(known), number)
        for number, names in enumerate(FLOORS)
        for known in names
        if name == known or name.startswith(known + ".")
    ]
    return max(fitting)[1] if fitting else None


@cache
def arrows() -> dict[str, dict[str, int]]:
    """module -> what it imports of ours -> the line."""
    known = {module(path) for path in modules() if path.startswith("postroom/")}
    found: dict[str, dict[str, int]] = {}
    for path, tree in modules().items():
        if not path.startswith("postroom/"):
            continue
        mine = found.setdefault(module(path), {})
        for line, name in imports(tree):
            if not name.startswith("postroom."):
                continue
            target = name.removeprefix("postroom.")
            if target not in known:
                target = target.rpartition(".")[0]
            if target in known and target != module(path):
                mine.setdefault(target, line)
    return found


def dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"


def test_every_module_has_a_floor() -> None:
    names = {module(path) for path in modules() if path.startswith("postroom/")} - {"__init__"}
    assert {name for name in names if floor(name) is None} == set(), "give it a place in FLOORS"


def test_imports_point_one_way() -> None:
    wrong = []
    for mine, targets in arrows().items():
        here = floor(mine)
        for theirs, line in targets.items():
            there = floor(theirs)
            if here is None or there is None:
                continue
            strangers = {mine.split(".")[0], theirs.split(".")[0]}
            if there > here or (len(strangers) == 2 and strangers <= STRANGERS):
                wrong.append(f"{mine}:{line}: must not import {theirs}")
    assert wrong == []


def test_imports_make_no_circles() -> None:
    """A face (`__init__`) is left out: it imports what it shows, and nothing behind it imports the face."""
    graph = {mine: set(targets) for mine, targets in arrows().items()}
    left = dict(graph)
    while left:
        ends = [name for name, targets in left.items() if not targets & left.keys()]
        if not ends:
            break
        for name in ends:
            del left[name]
    assert sorted(left) == [], "these import each other, or are imported by those that do"


def test_only_the_engine_knows_its_driver() -> None:
    wrong = [
        f"src/{path}:{line}"
        for path, tree in modules().items()
        if path.startswith("postroom/") and not path.startswith(tuple(KNOWS_APSW))
        for line, name in imports(tree)
        if name.split(".")[0] == "apsw"
    ]
    assert wrong == [], "ask through Tx or Engine (store/engine.py)"


def test_the_list_of_who_knows_the_driver_is_no_longer_than_it_must_be() -> None:
    using = {path for path, tree in modules().items() for _, name in imports(tree) if name.split(".")[0] == "apsw"}
    assert [known for known in KNOWS_APSW if not any(path.startswith(known) for path in using)] == []


def test_only_a_few_modules_name_the_room_of_the_engine() -> None:
    room = "postroom.store.sqlite"
    using = {
        f"{path}:{line}": path
        for path, tree in modules().items()
        if path.startswith("postroom/") and not path.startswith("postroom/store/sqlite/")
        for line, name in imports(tree)
        if name == room or name.startswith(f"{room}.")
    }
    wrong = [f"src/{place}" for place, path in using.items() if not path.startswith(tuple(KNOWS_SQLITE))]
    assert wrong == [], "ask through Tx, Finder or Engine (store/engine.py)"
    assert [known for known in KNOWS_SQLITE if not any(path.startswith(known) for path in using.values())] == []


def test_statements_are_named_once_and_by_their_room() -> None:
    """An engine replaces a statement by its name."""
    places: dict[str, str] = {}
    wrong = []
    for path, tree in modules().items():
        if not path.startswith("postroom/store/"):
            continue
        parts = path.split("/")
        room = parts[2] if len(parts) > 3 else "store"
        for node in ast.walk(tree):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "named"):
                continue
            name = node.args[0].value if isinstance(node.args[0], ast.Constant) else ""
            if not re.fullmatch(rf"{room}\.[a-z_]+", str(name)) or name in places:
                wrong.append(f"src/{path}:{node.lineno}: {name!r}, see {places.get(str(name), 'store/engine.py')}")
            places[str(name)] = f"src/{path}:{node.lineno}"
    assert places
    assert wrong == [], "call it `room.what`, and nothing else by the same name"


def test_statements_that_run_have_a_name() -> None:
    """Except where SQLite is known: another engine brings files of its own for those."""
    wrong = []
    for path, tree in modules().items():
        if not path.startswith("postroom/store/") or path.startswith(("postroom/store/sqlite/", *KNOWS_SQLITE)):
            continue
        for node in ast.walk(tree):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args):
                continue
            if node.func.attr in {"rows", "row", "value", "run", "many", "each"} and is_text(node.args[0]):
                wrong.append(f"src/{path}:{node.lineno}")
    assert wrong == [], "give it a name (store/engine.py: named)"


def is_text(node: ast.expr) -> bool:
    """A literal, or one that is put together on the spot."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "format":
        return True
    return isinstance(node, ast.JoinedStr | ast.BinOp) or (
        isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


def outside_the_store() -> Iterator[tuple[str, ast.Module]]:
    return ((path, tree) for path, tree in modules().items() if not path.startswith("postroom/store/"))


def behind_the_face(tree: ast.Module) -> list[tuple[int, str]]:
    """What a module uses of the store that is not for others: (line, name)."""
    rooms: dict[str, ModuleType] = {}  # those that say what they show, by the name they have in this module
    also = {
        name.name: name.asname
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "postroom.store"
        for name in node.names
        if name.asname
    }
    found = []
    for line, name in imports(tree):
        if name == "postroom.store":
            found.append((line, name))
        elif name.startswith("postroom.store."):
            shown = name.removeprefix("postroom.store.")
            if shown not in store.__all__:
                found.append((line, name))
            elif hasattr(room := getattr(store, shown), "__all__"):
                rooms[also.get(shown, shown)] = room
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute) or not isinstance(node.value, ast.Name):
            continue
        room = rooms.get(node.value.id)
        if room is not None and node.attr not in room.__all__:
            found.append((node.lineno, dotted(node)))
    return found


def test_others_import_only_the_face() -> None:
    wrong = [f"src/{path}:{line}: {name}" for path, tree in outside_the_store() for line, name in behind_the_face(tree)]
    assert wrong == [], "import what store/__init__ shows; of a room, use what its __init__ shows"


def transactions_seen(tree: ast.Module) -> list[tuple[int, str]]:
    """Where a module holds a transaction or writes SQL: (line, what)."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr == "tx":
            found.append((node.lineno, dotted(node)))
        elif isinstance(node, ast.arg) and node.arg == "tx":
            found.append((node.lineno, "an argument tx"))
        elif isinstance(node, ast.Name) and node.id in ("Tx", "ReadTx"):
            found.append((node.lineno, node.id))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and SQL.search(node.value):
            found.append((node.lineno, node.value[:40]))
    return found


def test_nobody_outside_sees_a_transaction() -> None:
    wrong = [
        f"src/{path}:{line}: {what}" for path, tree in outside_the_store() for line, what in transactions_seen(tree)
    ]
    assert wrong == [], "make it a verb of the room that it belongs to (store/verbs.py), or a method of Reader or Store"


def inside_of_an_engine(tree: ast.Module) -> list[tuple[int, str]]:
    """What a test uses that is not the face of the store: (line, what)."""
    found = behind_the_face(tree) + transactions_seen(tree)
    found += [
        (line, name) for line, name in imports(tree) if re.match(r"apsw\b|sqlite3\b|tests\.store\b|bench\b", name)
    ]
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            hidden = node.attr.startswith("_") and not node.attr.startswith("__")
            if node.attr == "execute" or (hidden and dotted(node.value) != "self"):
                found.append((node.lineno, dotted(node)))
        elif isinstance(node, ast.Constant) and str(node.value).startswith("postroom.store."):
            found.append((node.lineno, str(node.value)))  # what a monkeypatch would replace
    return found


def test_the_conformance_suite_talks_to_the_face_alone() -> None:
    files = sorted((ROOT / "tests/conformance").rglob("*.py"))
    assert len(files) > 10
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {what}"
        for path in files
        for line, what in inside_of_an_engine(ast.parse(path.read_bytes()))
    ]
    assert wrong == [], "every engine runs these tests: what must look inside SQLite is a test in tests/store"


def test_rules_are_pure() -> None:
    wrong = [
        f"src/{path}:{line}: {name}"
        for path, tree in modules().items()
        if path.startswith("postroom/") and unit(path) in PURE
        for line, name in imports(tree)
        if name.split(".")[0] in IMPURE_IMPORTS
    ]
    assert wrong == [], "decide in pure functions, then do"


def test_the_client_knows_nothing_of_the_gateway() -> None:
    wrong = [
        f"src/{path}:{line}: {name}"
        for path, tree in modules().items()
        if path.startswith("postroom_client/")
        for line, name in imports(tree)
        if name.split(".")[0] in ("postroom", "postroom_demo")
    ]
    assert wrong == []


def test_only_the_clock_tells_the_time() -> None:
    wrong = []
    for path, tree in modules().items():
        if path.startswith(MAY_READ_THE_CLOCK):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and ".".join(dotted(node).split(".")[-2:]) in CLOCKS:
                wrong.append(f"src/{path}:{node.lineno}: {dotted(node)}")
        wrong += [f"src/{path}:{line}: {name}" for line, name in imports(tree) if name in ("time.time", "time.time_ns")]
    assert wrong == [], "take a postroom.clock.Clock"


def test_only_settings_read_the_environment() -> None:
    wrong = [
        f"src/{path}:{node.lineno}"
        for path, tree in modules().items()
        if not path.startswith(MAY_READ_THE_ENVIRONMENT)
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and dotted(node) in ("os.environ", "os.getenv", "os.environb")
    ]
    assert wrong == [], "take it from postroom.settings.Settings"


def test_files_stay_readable() -> None:
    lengths = {path: len((SOURCE / path).read_text().splitlines()) for path in modules()}
    long = {path: length for path, length in lengths.items() if length > LONGEST_FILE and path not in EXPLAINED_FILES}
    assert long == {}, f"divide what is over {LONGEST_FILE} lines, or explain it in EXPLAINED_FILES"


def test_functions_stay_readable() -> None:
    long = {}
    for path, tree in modules().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > LONGEST_FUNCTION and f"{path}:{node.name}" not in EXPLAINED_FUNCTIONS:
                    long[f"{path}:{node.name}"] = length
    assert long == {}, f"divide what is over {LONGEST_FUNCTION} lines, or explain it in EXPLAINED_FUNCTIONS"


def test_explanations_are_still_needed() -> None:
    functions = {
        f"{path}:{node.name}"
        for path, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert set(EXPLAINED_FILES) <= set(modules())
    assert set(EXPLAINED_FUNCTIONS) <= functions


def test_modules_are_named_by_what_they_are() -> None:
    wrong = [path for path in modules() if FORBIDDEN_NAMES & set(re.split(r"[/_.]", path.removesuffix(".py")))]
    assert wrong == []


def test_every_module_says_what_it_does() -> None:
    silent = [path for path, tree in modules().items() if tree.body and not ast.get_docstring(tree)]
    assert silent == []


@cache
def documentation() -> str:
    return "\n".join(text for path, text in texts(".md") if path.startswith("docs/") or path == "README.md")


def test_every_metric_is_documented() -> None:
    shown = Scrape(Stored({}, 0, {}, {}, {}, 0), Counts()).collect()
    names = [metric.name + ("_total" if metric.type == "counter" else "") for metric in shown]
    missing = [name for name in names if not re.search(rf"\b{name}\b", documentation())]
    assert missing == [], "say in docs/operations.md what it means"


def test_every_setting_is_documented() -> None:
    reference = (ROOT / "docs/settings.md").read_text()
    assert [key for key in KEYS if f"`{variable(key)}`" not in reference] == [], (
        "postroom settings reference > docs/settings.md"
    )


def test_nothing_is_left_unfinished() -> None:
    marks = [
        f"{path}:{number}: {line.strip()[:80]}"
        for path, text in texts(".py", ".toml", ".sql", ".html", ".js", ".css", "Makefile", "run")
        for number, line in enumerate(text.splitlines(), 1)
        if UNFINISHED.search(line)
    ]
    assert marks == []


@pytest.mark.parametrize("name", ["run", "dev"])
def test_requirements_are_pinned_with_hashes_and_name_no_host(name: str) -> None:
    text = (ROOT / f"requirements/{name}.txt").read_text()
    assert re.findall(r"^-.*|.*://.*", text, re.MULTILINE) == [], "where from is for the installing machine to decide"
    wanted = re.split(r"\n(?=[A-Za-z0-9])", "\n" + text)[1:]
    assert wanted
    loose = [
        line.splitlines()[0]
        for line in wanted
        if not re.match(r"[\w.\-\[\]]+==\S+ \\\n    --hash=sha256:[0-9a-f]{64}", line)
    ]
    assert loose == []


def test_the_readme_shows_the_two_commands() -> None:
    readme = (ROOT / "README.md").read_text()
    assert "make demo" in readme
    assert "make test" in readme


def test_no_file_knows_the_machine_it_was_written_on() -> None:
    wrong = [
        f"{path}:{text.count(chr(10), 0, match.start()) + 1}: {match[0].strip()}"
        for path, text in texts()
        if not path.endswith(".eml") and path != "tests/test_house.py"
        for pattern in (MACHINE_PATHS, REGISTRIES)
        for match in pattern.finditer(text)
    ]
    assert wrong == []


def anchors(text: str) -> set[str]:
    """What headings can be linked to, as the usual viewers make it of them."""
    found = set()
    for heading in re.findall(r"^#+ +(.+?) *#*$", text, re.MULTILINE):
        plain = re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
        found.add(re.sub(r"[^\w\- ]", "", plain).replace(" ", "-"))
    return found


def test_links_in_the_documentation_lead_somewhere() -> None:
    broken = []
    for path, text in texts(".md"):
        prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
        for target in re.findall(r"(?<!`)\[[^\]\n]*\]\(([^)\s]+)\)", prose):
            if re.match(r"[a-z]+:", target):
                continue
            file, _, anchor = target.partition("#")
            place = (ROOT / path).parent / file if file else ROOT / path
            if not place.exists() or (anchor and place.suffix == ".md" and anchor not in anchors(place.read_text())):
                broken.append(f"{path}: {target}")
    assert broken == []
