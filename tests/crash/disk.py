"""What a disk may hold after its power was cut: a traced process's writes, played back onto nothing.

The model, file by file and directory by directory: an `fsync` or `fdatasync` that has returned keeps all that was done
to that very file (or, of a directory, to the names in it) by calls that had ended when it began. Of everything else
done before the cut *any part* may be there: each write or not, in 512-byte sectors, whatever the order; each name made,
moved or taken away, or not. A rename within a directory happens or not, as a whole. Nothing else is promised: not that
a file's own sync keeps its name, not that sizes or names follow in order.

The process may have been started several times; a kill between takes nothing, the power cut comes once, at line `at`.
"""

from __future__ import annotations

import random
import re
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Protocol

from tests.system.strace import strings, whole

CALLS = (
    "pwrite64,pwritev,write,writev,sendto,sendmsg,fsync,fdatasync,ftruncate,fallocate,copy_file_range,"
    "rename,renameat,renameat2,unlink,unlinkat,open,openat,creat,link,linkat,mkdir,mkdirat,rmdir,symlink,symlinkat,truncate"
)
SECTOR = 512
REBUILT = "-shm"  # SQLite makes this file anew when nobody has it open

_CALL = re.compile(r"(?P<name>\w+)\((?P<rest>.*)", re.DOTALL)
_FILE = re.compile(r"(?P<fd>\d+)<(?P<file>.*?)>(?:\(deleted\))?(?P<rest>[,) ].*|$)", re.DOTALL)
_RESULT = re.compile(r"\) += (-?\d+)[^\"]*$")
_AFTER_DATA = re.compile(r".*\", \d+(?:, (?P<offset>\d+))?", re.DOTALL)


@dataclass(frozen=True)
class Said:
    """Something the process sent to a peer."""

    begin: int
    peer: str  # as strace shows the connection
    data: bytes


@dataclass(eq=False)
class Node:
    """A file or a directory, whatever it is called. `done` are the calls on it, `synced` the syncs that returned."""

    directory: bool
    names: dict[str, Node] = field(default_factory=dict)  # of a directory, as the living process sees them
    done: list[Write | Cut | Naming] = field(default_factory=list)
    synced: list[tuple[int, int]] = field(default_factory=list)


@dataclass(frozen=True)
class Write:
    begin: int
    end: int
    offset: int
    data: bytes


@dataclass(frozen=True)
class Cut:
    begin: int
    end: int
    size: int


@dataclass(frozen=True)
class Naming:
    """Names of a directory, changed as a whole: None = taken away."""

    begin: int
    end: int
    names: tuple[tuple[str, Node | None], ...]


class Fate(Protocol):
    """What becomes of what was not synced: whether it happened, and of a write, which of its sectors."""

    def happens(self) -> bool: ...
    def sectors(self, number: int) -> list[bool]: ...


class Nothing:
    def happens(self) -> bool:
        return False

    def sectors(self, number: int) -> list[bool]:
        return [False] * number


class Everything:
    def happens(self) -> bool:
        return True

    def sectors(self, number: int) -> list[bool]:
        return [True] * number


class Chance:
    """Each on its own; half of the writes that happen are torn."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance

    def happens(self) -> bool:
        return self._chance.random() < 0.5

    def sectors(self, number: int) -> list[bool]:
        if not self.happens():
            return [False] * number
        torn = self.happens()
        return [not torn or self.happens() for _ in range(number)]


class Disk:
    """`play` the traces of one life after the other; `after_cut` says what is left. `root` was there and is durable."""

    def __init__(self, root: Path) -> None:
        self._root_path = PurePosixPath(root)
        self._root = Node(directory=True)
        self._open: dict[int, tuple[Node, int]] = {}  # descriptor -> what it stands for, where it writes
        self.said: list[Said] = []
        self.lines = 0
        self.unknown: list[str] = []  # calls on files of ours that this model does not know

    # -- playing

    def play(self, lines: Sequence[str], happened: Container[int] = ()) -> None:
        """One life, from its start. `happened`: which of its `unended` calls did all the same."""
        self._open = {}
        offset = self.lines
        self.lines += len(lines)
        calls = [call for call in whole(lines) if _RESULT.search(call[1]) or call[2] in happened]
        # In the order of their beginnings, which is that of cause and effect; but a descriptor is known when its open
        # ends, and until then the same number may still be another file's, in another thread.
        calls.sort(key=lambda call: call[3] if call[1].startswith(("open", "creat")) else call[2])
        for _thread, text, begin, end in calls:
            match = _CALL.fullmatch(text)
            if match is not None:
                self._one(match["name"], match["rest"], offset + begin, offset + end)

    def _one(self, name: str, rest: str, begin: int, end: int) -> None:
        result = _RESULT.search(rest)
        if result is not None and int(result[1]) < 0:
            return
        on_file = _FILE.match(rest)
        if name in ("open", "openat", "creat"):
            if result is not None:
                self._opened(strings(rest)[-1], rest, int(result[1]), begin, end)
        elif on_file is not None and not on_file["file"].startswith("/"):
            if name in ("write", "writev", "sendto", "sendmsg") and result is not None:
                self.said.append(Said(begin, on_file["file"], b"".join(strings(on_file["rest"]))[: int(result[1])]))
        elif on_file is not None and name not in (
            "unlinkat",
            "renameat",
            "renameat2",
            "linkat",
            "mkdirat",
            "symlinkat",
        ):
            if self._is_ours(on_file["file"]):
                self._on_file(name, int(on_file["fd"]), on_file["rest"], result and int(result[1]), begin, end)
        else:
            paths = [path.decode() for path in strings(rest)]
            if any(self._is_ours(path) for path in paths):
                self._on_names(name, paths, begin, end)

    def _is_ours(self, path: str) -> bool:
        return PurePosixPath(path) == self._root_path or self._root_path in PurePosixPath(path).parents

    def _on_file(self, name: str, fd: int, rest: str, result: int | None, begin: int, end: int) -> None:
        node, at = self._open[fd]
        if name in ("fsync", "fdatasync"):
            if result is not None:
                node.synced.append((begin, end))
        elif name == "ftruncate":
            node.done.append(Cut(begin, end, int(rest.partition(" ")[2].partition(")")[0].split(" ")[0])))
        elif name in ("write", "pwrite64") and (written := _AFTER_DATA.match(rest)):
            data = b"".join(strings(rest))[:result]
            if result is not None and len(data) != result:
                self.unknown.append(f"{name}: {result} bytes, of which strace shows {len(data)}")
            if name == "pwrite64":
                node.done.append(Write(begin, end, int(written["offset"]), data))
            else:
                node.done.append(Write(begin, end, at, data))
                self._open[fd] = node, at + len(data)
        else:
            self.unknown.append(f"{name}({fd}{rest[:80]}")

    def _opened(self, raw: bytes, rest: str, fd: int, begin: int, end: int) -> None:
        path = raw.decode(errors="replace")
        if not self._is_ours(path):
            return
        node = self._find(path)
        flags = rest.rpartition('"')[2]
        if node is None:
            assert "O_CREAT" in flags, f"{path} was there before: {flags}"
            node = Node(directory=False)
            self._name(path, node, begin, end)
        if "O_TRUNC" in flags:
            node.done.append(Cut(begin, end, 0))
        self._open[fd] = node, 0

    def _on_names(self, name: str, paths: list[str], begin: int, end: int) -> None:
        match name:
            case "mkdir" | "mkdirat":
                node = Node(directory=True)
                self._name(paths[0], node, begin, end)
            case "unlink" | "unlinkat" | "rmdir":
                self._name(paths[0], None, begin, end)
            case "link" | "linkat":
                self._name(paths[1], self._find(paths[0]), begin, end)
            case "rename" | "renameat" | "renameat2":
                node = self._find(paths[0])
                assert node is not None, paths
                source, target = (PurePosixPath(path) for path in paths)
                if source.parent == target.parent:
                    self._change(source.parent, ((source.name, None), (target.name, node)), begin, end)
                else:
                    self.unknown.append(f"rename {paths}: between directories")
            case _:
                self.unknown.append(f"{name}({paths})")

    def _find(self, path: str | PurePosixPath) -> Node | None:
        node: Node | None = self._root
        for part in PurePosixPath(path).relative_to(self._root_path).parts:
            if node is None:
                return None
            node = node.names.get(part)
        return node

    def _name(self, path: str, node: Node | None, begin: int, end: int) -> None:
        place = PurePosixPath(path)
        self._change(place.parent, ((place.name, node),), begin, end)

    def _change(self, place: PurePosixPath, names: tuple[tuple[str, Node | None], ...], begin: int, end: int) -> None:
        directory = self._find(place)
        assert directory is not None, place
        directory.done.append(Naming(begin, end, names))
        _rename(directory.names, names)

    def living(self) -> dict[str, bytes | None]:
        """What the process itself would find: everything that was done."""
        return self.after_cut(self.lines + 1, Everything())

    def changes(self) -> list[int]:
        """The lines right behind the beginning of every change and the end of every sync, in order."""
        nodes, found = [self._root], set[int]()
        for node in nodes:
            found |= {call.begin + 1 for call in node.done} | {end + 1 for _, end in node.synced}
            nodes += [there for call in node.done if isinstance(call, Naming) for _, there in call.names if there]
        return sorted(found)

    # -- the cut

    def after_cut(self, at: int, fate: Fate) -> dict[str, bytes | None]:
        """Path below the root -> content; None = a directory."""
        left: dict[str, bytes | None] = {}
        self._collect(self._root, "", at, fate, left)
        return left

    def _collect(self, node: Node, path: str, at: int, fate: Fate, left: dict[str, bytes | None]) -> None:
        kept = _kept(node, at)
        names: dict[str, Node] = {}
        for naming in node.done:
            assert isinstance(naming, Naming)
            if naming.end <= kept or (naming.begin < at and fate.happens()):
                _rename(names, naming.names)
        for name, there in names.items():
            place = f"{path}/{name}" if path else name
            if there.directory:
                left[place] = None
                self._collect(there, place, at, fate, left)
            elif not name.endswith(REBUILT):
                left[place] = _content(there, at, fate)


def _rename(names: dict[str, Node], changes: Iterable[tuple[str, Node | None]]) -> None:
    for name, node in changes:
        if node is None:
            names.pop(name, None)
        else:
            names[name] = node


def _kept(node: Node, at: int) -> int:
    """All that had ended by then is durable."""
    return max([begin for begin, end in node.synced if end < at], default=-1)


def _content(node: Node, at: int, fate: Fate) -> bytes:
    kept = _kept(node, at)
    content = bytearray()
    for call in node.done:
        if call.begin >= at:
            continue
        durable = call.end <= kept
        if isinstance(call, Cut):
            if durable or fate.happens():
                del content[call.size :]
                content.extend(bytes(max(0, call.size - len(content))))
        elif isinstance(call, Write):
            _write(content, call, None if durable else fate)
    return bytes(content)


def _write(content: bytearray, call: Write, fate: Fate | None) -> None:
    """`fate` None = it is durable."""
    if fate is None:
        pieces = [(call.offset, call.data)]
    else:
        first = call.offset // SECTOR
        last = (call.offset + len(call.data) - 1) // SECTOR
        pieces = []
        for sector, happens in zip(range(first, last + 1), fate.sectors(last - first + 1), strict=True):
            if happens:
                begin = max(sector * SECTOR, call.offset)
                end = min((sector + 1) * SECTOR, call.offset + len(call.data))
                pieces.append((begin, call.data[begin - call.offset : end - call.offset]))
    for offset, data in pieces:
        if offset > len(content):
            content.extend(bytes(offset - len(content)))
        content[offset : offset + len(data)] = data


def unended(lines: Sequence[str]) -> list[int]:
    """The first lines of calls in which a life was killed. Whether they happened nobody knows but the disk."""
    changing = re.compile(r"(?:pwrite64|write|ftruncate|rename|unlink|link|mkdir)\w*\([^,]*/")
    return [begin for _, text, begin, _ in whole(lines) if changing.match(text) and not _RESULT.search(text)]


def put(left: dict[str, bytes | None], target: Path) -> None:
    """What is left of the disk, as files in a directory."""
    target.mkdir()
    for path, content in left.items():  # a directory comes before what is in it
        if content is None:
            (target / path).mkdir(mode=0o700)
        else:
            (target / path).write_bytes(content)
            (target / path).chmod(0o600)
