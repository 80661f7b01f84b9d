"""The long run: `make crash KILLS=1000 [CUTS=n] [SEED=n]`: kills, then power cuts. Prints what it did; exit status 1
when anything is wrong, and then the data stays."""

from __future__ import annotations

import random
import secrets
import shutil
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import click

from tests.crash.campaign import Campaign
from tests.crash.powercut import Recording, examine, record

MAILS = 30  # of each sender, in each of a recording's lives


@click.command()
@click.option("--kills", type=click.IntRange(min=0), default=200, show_default=True)
@click.option("--cuts", type=click.IntRange(min=0), default=0, show_default=True, help="Of the power, in simulation.")
@click.option("--seed", type=int, help="Of an earlier run, to repeat its choices.")
@click.option("--directory", type=click.Path(path_type=Path), help="Where to work; a new one by default.")
def main(kills: int, cuts: int, seed: int | None, directory: Path | None) -> None:
    """Kill the gateway again and again under load, cut its power at many points, and show that nothing is lost."""
    seed = secrets.randbelow(1_000_000) if seed is None else seed
    directory = Path(tempfile.mkdtemp(prefix="postroom-crash-")) if directory is None else directory
    print(f"seed {seed}, data in {directory}")
    problems = _kills(directory, kills, seed) if kills else []
    if cuts:
        problems += _cuts(directory, cuts, seed)
    if problems:
        print(f"\nWRONG, with seed {seed}:", *problems, f"the data is in {directory}", sep="\n  ")
        sys.exit(1)
    shutil.rmtree(directory)


def _kills(directory: Path, kills: int, seed: int) -> list[str]:
    campaign = Campaign(directory / "gateway", seed)
    began = time.monotonic()
    try:
        with campaign.running():
            for number, name in enumerate(campaign.schedule(kills), 1):
                campaign.kill(name)
                said = f"{number}/{kills} kills, {len(campaign.load.acked)} messages acknowledged"
                _tell(said, name, number, kills, began)
                if campaign.problems:
                    break
            campaign.finish()
    except Exception as problem:  # noqa: BLE001 - told with everything else, and the data stays
        campaign.complain(f"{type(problem).__name__}: {problem}")
    _summary(campaign, time.monotonic() - began)
    return campaign.problems


def _cuts(directory: Path, cuts: int, seed: int) -> list[str]:
    """A recording for every 200 cuts, so that they meet different ones."""
    chance = random.Random(seed)
    began = time.monotonic()
    problems: list[str] = []
    done = looked_for = 0
    while done < cuts and not problems:
        share = min(200, cuts - done)
        recording = Recording(_strace(), directory / f"recording-{done}", chance.getrandbits(32))
        with recording.fickle:
            record(recording, MAILS)
            told = partial(_told_cut, before=done, cuts=cuts, began=began)
            found, problems = examine(recording, share, chance, told)
        looked_for += found
        done += share
    _table(
        {
            "power cuts": done,
            "acknowledged messages looked for": looked_for,
            "problems": len(problems),
            "seconds": round(time.monotonic() - began),
        }
    )
    return problems


def _strace() -> str:
    program = shutil.which("strace")
    if program is None:
        raise click.ClickException("strace is not installed: cuts of the power are played back from what it sees")
    return program


def _told_cut(done: int, *, before: int, cuts: int, began: float) -> None:
    _tell(f"{before + done}/{cuts} power cuts", "", before + done, cuts, began)


def _tell(said: str, name: str, number: int, total: int, began: float) -> None:
    line = f"{said}, {time.monotonic() - began:.0f} s  {name}"
    if sys.stdout.isatty():
        print(f"\r{line:<100.100}", end="" if number < total else "\n", flush=True)
    elif number % 25 == 0 or number == total:
        print(line, flush=True)


def _summary(campaign: Campaign, seconds: float) -> None:
    print("\nkills  of them not reached  moment")
    for name, number in sorted(campaign.kills.items()):
        print(f"{number:5}  {campaign.missed[name]:19}  {name}")
    twice = campaign.fickle.twice
    _table(
        {
            "kills": sum(campaign.kills.values()),
            "messages acknowledged": len(campaign.load.acked),
            "recipients delivered to": len(campaign.fickle.taken),
            "deliveries": sum(campaign.fickle.taken.values()),
            "delivered twice or more": len(twice),
            "labelled": campaign.labelled,
            "problems": len(campaign.problems),
            "seconds": round(seconds),
        }
    )


def _table(rows: dict[str, int]) -> None:
    print()
    for name, number in rows.items():
        print(f"{number:9}  {name}")


if __name__ == "__main__":
    main()
