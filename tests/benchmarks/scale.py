"""Cost that grows as the work does, and no faster.

events   of one stream, from ten to a hundred thousand: the cost of each further one
size     of one event, from 1 KiB to 16 MiB: the cost of each further KiB
streams  open at a time, from one to two thousand, the same number of events a second in all:
         the cost of each event, and the memory of each stream
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.benchmarks.answers import Script
from tests.benchmarks.contestants import Contestant, Running
from tests.benchmarks.measure import Cost, run
from tests.benchmarks.rounds import Say
from tests.benchmarks.workloads import KIB, Workload

EVENTS: Final = (10, 100, 1_000, 10_000, 100_000)
SIZES: Final = tuple(KIB << power for power in (0, 6, 8, 10, 12, 14))
STREAMS: Final = (1, 10, 100, 1_000, 2_000)
# What the provider and the load can do with ease, so that the proxy has idle time too.
EVENTS_A_SECOND: Final = 2_000
# Fewer streams tell nothing of the memory of one.
_FEW: Final = 100


@dataclass(frozen=True, slots=True)
class Point:
    """How much work, and what it took.

    each: CPU microseconds for each unit of work; None where nothing can be said.
    memory: bytes for each open stream.
    """

    work: int
    each: float | None
    memory: float | None
    costs: list[Cost]


Curves = dict[str, dict[str, list[Point]]]
"""By what grows, then by contestant."""


def curves_of() -> dict[str, dict[int, Workload]]:
    """Return the workloads of every curve, by how much work they are."""
    return {
        # The same few connections all along the curve: only one thing is to grow.
        "events": {n: Workload("events", "", Script("chat", n), 2, "stream") for n in EVENTS},
        "size": {
            size // KIB: Workload("size", "", Script("chat", 10, largest=size), 2, "stream")
            for size in SIZES
        },
        "streams": {
            n: Workload("streams", "", Script("chat", rate=EVENTS_A_SECOND / n), n, "event")
            for n in STREAMS
        },
    }


def scale(
    seconds: float,
    rounds: int,
    field: list[Contestant],
    provider: Running,
    folder: Path,
    say: Say,
) -> Curves:
    """Measure every curve, the contestants side by side."""
    curves: Curves = {}
    for name, workloads in curves_of().items():
        costs: dict[str, dict[int, list[Cost]]] = {one.name: {} for one in field}
        with ExitStack() as stack:
            running = {
                one.name: stack.enter_context(one.start(provider.port, folder)) for one in field
            }
            for number in range(rounds):
                say(f"{name}, round {number + 1} of {rounds}")
                for work, workload in workloads.items():
                    for contestant, found in running.items():
                        cost = run(workload, seconds, found, provider)
                        costs[contestant].setdefault(work, []).append(cost)
        further = name != "streams"
        curves[name] = {one: list(points(costs[one], further=further)) for one in costs}
    return curves


def points(costs: dict[int, list[Cost]], *, further: bool) -> Iterator[Point]:
    """Turn costs into what each unit of work took, by the medians of rounds.

    further: what the least work takes is left out: each point is told by what it took more, and
    there is none for the first.
    """
    least, *_ = costs
    base, first = _median(costs[least]), costs[least][0].rss
    for work, found in costs.items():
        each: float | None = _median(found)
        memory: float | None = None
        if further:
            more = None if each is None or base is None else each - base
            each = None if more is None or work == least else more / (work - least)
        elif work >= _FEW:
            # Of the first round: what a process has freed, it keeps for the next.
            memory = (found[0].rss - first) / work
        yield Point(work, each, memory, found)


def _median(costs: list[Cost]) -> float | None:
    known = [cost.each for cost in costs if cost.each is not None]
    return statistics.median(known) if len(known) == len(costs) else None
