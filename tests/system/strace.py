"""Reads what `strace -f -yy` wrote, as calls with a beginning and an end in the order of the file.

A call that another thread overtook stands on two lines ("<unfinished ...>", "<... resumed>"); its beginning and end are
those lines' numbers. Numbers of lines are used rather than times: they are exact about what came before what.
"""

from __future__ import annotations

import ast
import re
import signal
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

CALLS = "read,readv,recvfrom,recvmsg,write,writev,sendto,sendmsg,pwrite64,pwritev,fsync,fdatasync"
READS = frozenset({"read", "readv", "recvfrom", "recvmsg"})
WRITES = frozenset({"write", "writev", "sendto", "sendmsg"})
SYNCS = frozenset({"fsync", "fdatasync"})

_LINE = re.compile(r"(?P<thread>\d+) +(?P<rest>.*)")
_RESUMED = re.compile(r"<\.\.\. (?P<name>\w+) resumed>(?P<rest>.*)")
_CALL = re.compile(r"(?P<name>\w+)\((?P<fd>\d+)(?:<(?P<file>.*?)>)?[,)](?P<rest>.*)")
_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"')
_RESULT = re.compile(r"\) += (-?\d+)")


@dataclass(frozen=True)
class Call:
    thread: int
    name: str
    file: str  # path, or "TCP:[here->there]"
    data: bytes
    result: int
    begin: int  # line numbers
    end: int


def parse(text: str) -> list[Call]:
    """In the order of their ends."""
    calls = []
    for thread, said, begin, end in whole(text.splitlines()):
        call, result = _CALL.fullmatch(said), _RESULT.search(said)
        if call and result:
            data = b"".join(strings(call["rest"]))
            calls.append(Call(thread, call["name"], call["file"] or "", data, int(result[1]), begin, end))
    return calls


def whole(lines: Iterable[str]) -> Iterator[tuple[int, str, int, int]]:
    """(thread, what strace said of one call, first line, last line), in the order of their ends; then those that never
    ended, because the process was killed in them."""
    unfinished: dict[int, tuple[str, int]] = {}
    number = 0
    for number, line in enumerate(lines):
        match = _LINE.fullmatch(line)
        if match is None:
            continue
        thread, rest, begin = int(match["thread"]), match["rest"], number
        if rest.endswith("<unfinished ...>"):
            unfinished[thread] = rest.removesuffix("<unfinished ...>").rstrip(), number
            continue
        if resumed := _RESUMED.fullmatch(rest):
            if thread not in unfinished:  # it was under way when strace attached
                continue
            head, begin = unfinished.pop(thread)
            rest = head + resumed["rest"]
        yield thread, rest, begin, number
    for thread, (head, begin) in unfinished.items():
        yield thread, head, begin, number + 1


def strings(text: str) -> list[bytes]:
    """Every quoted argument."""
    return [_bytes(quoted) for quoted in _STRING.findall(text)]


def _bytes(text: str) -> bytes:
    value = ast.literal_eval(f'b"{text}"')
    assert isinstance(value, bytes)
    return value


class Tracing:
    """`with Tracing(strace, pid, output): ...` watches a running process; `calls` afterwards."""

    def __init__(self, program: str, pid: int, output: Path) -> None:
        self._command = [
            program,
            "-f",
            "-yy",
            "-s",
            "262144",
            "-e",
            f"trace={CALLS}",
            "-o",
            str(output),
            "-p",
            str(pid),
        ]
        self._output = output

    def __enter__(self) -> Tracing:
        self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        assert self._process.stderr is not None
        said = self._process.stderr.readline()
        self.attached = "attached" in said
        self.problem = "" if self.attached else said.strip()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGINT)
        self._process.communicate(timeout=20)

    @property
    def calls(self) -> list[Call]:
        return parse(self._output.read_text())
