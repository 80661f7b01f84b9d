"""The command line as a process of its own, beside a gateway."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

POSTROOM = Path(sys.executable).with_name("postroom")
LIMIT = 120  # seconds for a command on a busy machine


def run(*words: str | Path, program: Sequence[str | Path] = (POSTROOM,)) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("POSTROOM_")}
    return subprocess.run([*program, *words], capture_output=True, text=True, env=environment, timeout=LIMIT)


def done(*words: str | Path) -> Any:
    """What a command that succeeds prints as JSON."""
    ended = run(*words, "--json")
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)
