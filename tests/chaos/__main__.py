"""The long forms: `python -m tests.chaos storm`, `python -m tests.chaos soak`.

CHAOS_SECONDS, CHAOS_CLIENTS, CHAOS_SEED: of the storm, once with one worker and once with two.
SOAK_SECONDS, SOAK_RATE (requests a second), CHAOS_SEED: of the soak.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.chaos.campaign import MIB, Figures, campaign
from tests.chaos.command import Sample
from tests.chaos.soak import Soak, soak
from tests.chaos.storm import Tally

_MOST_SHOWN = 10
_ALLOWED_GROWTH = 16 * MIB


def _number(name: str, default: float) -> float:
    return float(os.environ.get(name) or default)


async def storm(console: Console, log: Path, seed: int) -> bool:
    # Two storms of each campaign, and two campaigns.
    seconds = _number("CHAOS_SECONDS", 120) / 4
    clients = int(_number("CHAOS_CLIENTS", 300))
    found = [
        await campaign(log, seed=seed, clients=clients, seconds=seconds, workers=workers)
        for workers in (1, 2)
    ]
    table = _table(f"chaos, seed {seed}", *(f"workers: {one.workers}" for one in found))
    endings = sorted({ending for one in found for ending in one.tally.endings})
    table.add_row("asked", *(f"{one.tally.asked:,}" for one in found))
    for ending in endings:
        table.add_row(f"  {ending}", *(f"{one.tally.endings[ending]:,}" for one in found))
    table.add_row("wrong endings and faults", *(str(len(one.tally.problems)) for one in found))
    table.add_row("leaks", *(str(one.tally.leaks) for one in found))
    table.add_row("hangs", *(str(one.tally.hangs) for one in found))
    for name in ("rss", "descriptors", "sockets", "processes"):
        pairs = ((getattr(one.before, name), getattr(one.after, name)) for one in found)
        table.add_row(f"{name}: before, after", *(_before_after(*pair) for pair in pairs))
    table.add_row("exit code", *(str(one.exit_code) for one in found))
    failures = sorted({name for one in found for name in one.failures})
    table.add_section()
    for name in failures:
        table.add_row(f"  {name}", *(f"{one.failures[name]:,}" for one in found))
    console.print(table)
    for one in found:
        _tell_problems(console, one.tally)
    return all(map(_is_well, found))


def _is_well(one: Figures) -> bool:
    return (
        not one.tally.problems
        and one.exit_code == 0
        and one.after.descriptors == one.before.descriptors
        and one.after.sockets == one.before.sockets
        and one.rss_grew_by < _ALLOWED_GROWTH * one.workers
    )


async def steady(console: Console, log: Path, seed: int) -> bool:
    seconds = _number("SOAK_SECONDS", 300)
    rate = _number("SOAK_RATE", 40)
    found = await soak(log, seed=seed, rate=rate, seconds=seconds, samples=100)
    table = _table(f"soak, seed {seed}", f"{seconds:.0f} s")
    table.add_row("asked", f"{found.tally.asked:,}")
    for ending, count in sorted(found.tally.endings.items()):
        table.add_row(f"  {ending}", f"{count:,}")
    table.add_row("wrong endings and faults", str(len(found.tally.problems)))
    table.add_row("first", _shown(found.samples[0]))
    table.add_row("a third", _shown(found.samples[len(found.samples) // 3]))
    table.add_row("last", _shown(found.samples[-1]))
    table.add_row("RSS rises by", f"{found.rss_slope * 60 / 1024:+.1f} KiB a minute")
    table.add_row("descriptors rise by", f"{found.descriptors_slope * 60:+.2f} a minute")
    console.print(table)
    _tell_problems(console, found.tally)
    return not found.tally.problems and _is_flat(found, seconds)


def _is_flat(found: Soak, seconds: float) -> bool:
    """Tell whether what the slopes would add in the same time again is noise."""
    return (
        found.rss_slope * seconds < _ALLOWED_GROWTH
        and found.descriptors_slope * seconds < found.samples[0].descriptors
    )


def _table(title: str, *columns: str) -> Table:
    table = Table("", *columns, title=title)
    for column in table.columns:
        column.no_wrap = True
        column.justify = "right"
    table.columns[0].justify = "left"
    return table


def _before_after(before: int, after: int) -> str:
    if before > MIB:
        return f"{before / MIB:.1f}, {after / MIB:.1f} MiB"
    return f"{before}, {after}"


def _shown(sample: Sample) -> str:
    return f"{sample.rss / MIB:.1f} MiB, {sample.descriptors} fds, {sample.sockets} sockets"


def _tell_problems(console: Console, tally: Tally) -> None:
    for problem in tally.problems[:_MOST_SHOWN]:
        console.print(problem[:1000], markup=False, highlight=False)


def main(arguments: list[str]) -> int:
    forms = {"storm": storm, "soak": steady}
    if len(arguments) != 1 or arguments[0] not in forms:
        sys.stderr.write(f"usage: python -m tests.chaos {'|'.join(forms)}\n")
        return 2
    seed = int(os.environ.get("CHAOS_SEED") or random.SystemRandom().getrandbits(32))
    with tempfile.TemporaryDirectory() as directory:
        is_well = asyncio.run(forms[arguments[0]](Console(), Path(directory, "log"), seed))
    return 0 if is_well else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
