"""Cost that grows as the work does, and no faster.

events   of one stream, from ten to a hundred thousand: the cost of each further one
size     of one event, from 1 KiB to 16 MiB: the cost of each further KiB
streams  open at a time, from one to two thousand, the same number of events a second in all:
         the cost of each event
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.benchmarks.answers import Script
from tests.benchmarks.contestants import Contestant, Running
from tests.benchmarks.measure import Cost, run
from tests.benchmarks.rounds import Say
from tests.benchmarks.workloads import KIB, Workload

EVENTS: Final = (10, 100, 1_000, 10_000, 100_000)
SIZES: Final = tuple(KIB << power for power in (0, 4, 8, 10, 12, 14))
STREAMS: Final = (1, 10, 100, 500, 1_000, 2_000)
# What the provider and the load can do with ease, so that the proxy has idle time too.
_EVENTS_A_SECOND: Final = 2_000


@dataclass(frozen=True, slots=True)
class Point:
    """One measurement: how much work, and what each unit of it took in microseconds."""

    work: int
    each: float | None
    cost: Cost


Curves = dict[str, dict[str, list[Point]]]
"""By what grows, then by contestant."""


async def scale(
    seconds: float, field: list[Contestant], provider: Running, folder: Path, say: Say
) -> Curves:
    """Measure every curve."""
    curves: Curves = {"events": {}, "size": {}, "streams": {}}
    for one in field:
        say(f"scaling: {one.name}")
        async with one.start(provider.port, folder) as running:
            for name, workloads in (
                ("events", _of_events()),
                ("size", _of_size()),
                ("streams", _of_streams()),
            ):
                costs = {
                    work: await run(workload, seconds, running, provider)
                    for work, workload in workloads
                }
                further = name != "streams"
                curves[name][one.name] = list(points(costs, further=further))
    return curves


def _of_events() -> Iterator[tuple[int, Workload]]:
    for count in EVENTS:
        connections = 8 if count < 10_000 else 2
        yield count, Workload("events", "", Script("chat", count), connections, "stream")


def _of_size() -> Iterator[tuple[int, Workload]]:
    for size in SIZES:
        connections = 8 if size < 2**20 else 1
        script = Script("chat", 10, largest=size)
        yield size // KIB, Workload("size", "", script, connections, "stream")


def _of_streams() -> Iterator[tuple[int, Workload]]:
    for streams in STREAMS:
        script = Script("chat", rate=_EVENTS_A_SECOND / streams)
        yield streams, Workload("streams", "", script, streams, "event")


def points(costs: dict[int, Cost], *, further: bool) -> Iterator[Point]:
    """Turn costs into what each unit of work took.

    further: what a stream takes by itself is left out: each point is told by what it took more
    than the one before, and there is none for the first.
    """
    before: tuple[int, float | None] | None = None
    for work, cost in costs.items():
        each = cost.each
        if not further:
            yield Point(work, each, cost)
        elif before is None or each is None or before[1] is None:
            yield Point(work, None, cost)
        else:
            yield Point(work, (each - before[1]) / (work - before[0]), cost)
        before = work, each
