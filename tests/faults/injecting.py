"""Makes a running process's system calls fail or take long (`strace -e inject`): a disk as bad as the test needs."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

from tests.system.conftest import cannot, need


class Injecting:
    """`with Injecting(pid, "fdatasync:error=EIO"): ...`; `path`: only calls on this file, which must be there."""

    def __init__(self, pid: int, *faults: str, path: Path | None = None) -> None:
        calls = ",".join(fault.partition(":")[0] for fault in faults)
        self._command = [need("strace"), "-f", "-e", f"trace={calls}", "-e", "signal=none", "-o", "/dev/null"]
        for fault in faults:
            self._command += ["-e", f"inject={fault}"]
        if path is not None:
            self._command += ["-P", str(path)]
        self._command += ["-p", str(pid)]

    def __enter__(self) -> Injecting:
        self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        assert self._process.stderr is not None
        said = self._process.stderr.readline()
        while "Requested path" in said or "resolved" in said:
            said = self._process.stderr.readline()
        if "attached" not in said:
            cannot(f"strace may not attach: {said.strip()}")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGINT)
        self._process.communicate(timeout=30)
