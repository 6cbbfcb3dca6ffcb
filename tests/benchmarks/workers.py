"""What a second worker adds to the throughput.

Load and provider need a part of the same machine. On two cores, one worker has a core of its own
and the ends have the other, of which most is idle; two workers share theirs with the ends, and
can never do twice as much. So two comparisons are made:

a core each   one worker and the ends on one core, two workers and the ends on two
both cores    all of them on the same two, wherever the kernel puts them
"""

from __future__ import annotations

import asyncio
import os
import statistics
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from tests.benchmarks.contestants import Running, discreet
from tests.benchmarks.measure import Cost, run
from tests.benchmarks.processes import family
from tests.benchmarks.workloads import WORKLOADS

MEASURED_ON: Final = next(workload for workload in WORKLOADS if workload.name == "W1")


@dataclass(slots=True)
class Comparison:
    """Rounds of one worker beside rounds of two."""

    one: list[Cost] = field(default_factory=list)
    two: list[Cost] = field(default_factory=list)

    @property
    def gain(self) -> float | None:
        """Return the throughput of two as a multiple of one's in a round; None if one failed."""
        if any(cost.each is None for cost in (*self.one, *self.two)):
            return None
        return statistics.median(
            _rate(two) / _rate(one) for one, two in zip(self.one, self.two, strict=True)
        )

    @property
    def rates(self) -> tuple[float, float]:
        """Return answers a second, of one and of two."""
        return statistics.median(map(_rate, self.one)), statistics.median(map(_rate, self.two))

    @property
    def ends(self) -> float:
        """Return the cores that load and provider took while two worked."""
        return statistics.median((cost.load + cost.provider) / cost.seconds for cost in self.two)


@dataclass(slots=True)
class Workers:
    """Both comparisons."""

    core_each: Comparison = field(default_factory=Comparison)
    both_cores: Comparison = field(default_factory=Comparison)

    def comparisons(self) -> Iterator[tuple[str, Comparison]]:
        """Yield each with its name."""
        yield "a core each", self.core_each
        yield "both cores", self.both_cores


def _rate(cost: Cost) -> float:
    return cost.count / cost.seconds


async def compare(rounds: int, seconds: float, provider: Running, folder: Path) -> Workers | None:
    """Compare one worker with two; None on a machine with a single core."""
    cores = sorted(os.sched_getaffinity(0))[:2]
    if len(cores) < 2:
        return None
    workers = Workers()
    async with AsyncExitStack() as stack:
        one, two = [
            await stack.enter_async_context(discreet(provider.port, folder, f"--workers={count}"))
            for count in (1, 2)
        ]
        await asyncio.sleep(1)  # the second worker may come a little after the ready line

        async def cost(running: Running, count: int, on: list[int]) -> Cost:
            workload = replace(MEASURED_ON, connections=MEASURED_ON.connections * count)
            with pinned(set(on)):
                return await run(workload, seconds, running, provider)

        for number in range(rounds):
            core = [cores[number % 2]]  # one may be busier than the other
            workers.core_each.one.append(await cost(one, 1, core))
            workers.core_each.two.append(await cost(two, 2, cores))
            workers.both_cores.one.append(await cost(one, 2, cores))
            workers.both_cores.two.append(await cost(two, 2, cores))
    return workers


@contextmanager
def pinned(cores: set[int]) -> Iterator[None]:
    """Keep this process, and all below it, on some cores."""
    before = os.sched_getaffinity(0)
    _pin(cores)
    try:
        yield
    finally:
        _pin(before)


def _pin(cores: set[int]) -> None:
    for process in family(os.getpid()):
        for thread in (process / "task").iterdir():
            with suppress(ProcessLookupError):
                os.sched_setaffinity(int(thread.name), cores)
