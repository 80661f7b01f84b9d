"""`python -m postroom_demo`: a gateway with real-looking mail flowing through it, in one foreground command.

Promises and fails as `postroom_demo.demo`; exit status 2 for wrong options.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from postroom_demo.demo import Demo, Options
from postroom_demo.feed import RATE


def options(arguments: list[str]) -> Options:
    """The command line; exits 2 with a usage line when it is wrong."""
    parser = argparse.ArgumentParser(prog="python -m postroom_demo", description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=_positive, metavar="N", help="stop by itself after N seconds")
    parser.add_argument("--data", type=Path, default=Path("demo-data"), metavar="DIR", help="default: ./demo-data")
    parser.add_argument("--rate", type=_rate, default=RATE, metavar="N", help=f"messages a second, default {RATE:g}")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="another one = other mail in another order")
    given = parser.parse_args(arguments)
    return Options(given.data, given.seconds, given.rate, given.seed)


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e9:
        raise ValueError(text)
    return value


def _rate(text: str) -> float:
    value = float(text)
    if not 0.2 <= value <= 50:
        raise argparse.ArgumentTypeError("expected 0.2 to 50 messages a second")
    return value


def main() -> int:
    chosen = options(sys.argv[1:])

    async def run() -> int:
        return await Demo(chosen).run()

    return asyncio.run(run())


if __name__ == "__main__":
    sys.exit(main())
