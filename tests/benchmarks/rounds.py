"""The benchmark: rounds in which every contestant has every workload once, side by side."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests.benchmarks.contestants import (
    Contestant,
    MissingError,
    Running,
    said_port,
    spawned,
)
from tests.benchmarks.measure import Cost, first_byte, memory, run
from tests.benchmarks.processes import rss
from tests.benchmarks.workers import Comparison, compare
from tests.benchmarks.workloads import Plan, Workload

Say = Callable[[str], None]

FIRST = "first byte"
"""The name that the waits for the first byte have among the workloads."""

YARDSTICK = "naive"


@dataclass(slots=True)
class Results:
    """Everything that was measured.

    costs: of each contestant, by workload, one for each round.
    memory: bytes for each open stream.
    workers: of discreet; None where it was not asked, or on a single core.
    starts, checks: seconds to the ready line, and of `discreet check`.
    """

    costs: dict[str, dict[str, list[Cost]]] = field(default_factory=dict)
    memory: dict[str, list[float]] = field(default_factory=dict)
    workers: Comparison | None = None
    starts: list[float] = field(default_factory=list)
    checks: list[float] = field(default_factory=list)
    idle: int = 0

    def median(self, contestant: str, workload: str) -> float | None:
        """Return CPU microseconds for each; None where a run was invalid."""
        costs = self.costs.get(contestant, {}).get(workload, [])
        return _median(cost.each for cost in costs)

    def ratio(self, contestant: str, workload: str, to: str = YARDSTICK) -> float | None:
        """Return the cost as a multiple of another's in the same round."""
        ours, theirs = (self.costs.get(one, {}).get(workload, []) for one in (contestant, to))
        pairs = zip(ours, theirs, strict=False)
        return _median(a.each / b.each if a.each and b.each else None for a, b in pairs)

    def added(self, contestant: str, workload: str) -> float | None:
        """Return the milliseconds that a contestant adds to the median of the same round."""
        ours, direct = (self.costs.get(one, {}).get(workload, []) for one in (contestant, "direct"))
        pairs = zip(ours, direct, strict=False)
        return _median(
            a.median - b.median if a.median is not None and b.median is not None else None
            for a, b in pairs
        )

    def failures(self) -> list[str]:
        """Say which runs are invalid, and why."""
        costs = [
            (f"{name}, {workload}", cost)
            for name, workloads in self.costs.items()
            for workload, found in workloads.items()
            for cost in found
        ]
        if self.workers is not None:
            costs += [("one worker", cost) for cost in self.workers.one]
            costs += [("two workers", cost) for cost in self.workers.two]
        return [
            f"{where}: {cost.failures} failures; {cost.first_failure}"
            for where, cost in costs
            if cost.failures
        ]


def _median(values: Iterable[float | None]) -> float | None:
    known = list(values)
    if not known or None in known:
        return None
    return statistics.median(value for value in known if value is not None)


def measure_all(
    plan: Plan, field_: list[Contestant], provider: Running, folder: Path, say: Say
) -> tuple[Results, dict[str, str]]:
    """Run the plan; return what was measured, and who could not start."""
    results = Results()
    missing: dict[str, str] = {}
    with ExitStack() as stack:
        running: dict[str, Running] = {}
        for one in field_:
            try:
                running[one.name] = stack.enter_context(one.start(provider.port, folder))
            except MissingError as error:
                missing[one.name] = str(error)
        for number in range(plan.rounds):
            say(f"round {number + 1} of {plan.rounds}")
            # There and back: what the machine does to the one who comes later, it does to all.
            turn = dict(reversed(running.items())) if number % 2 else running
            for workload in plan.workloads:
                _round(results, plan, workload, turn, provider)
            for name, contestant in turn.items():
                cost = first_byte(plan.sequential, contestant, provider)
                results.costs[name].setdefault(FIRST, []).append(cost)
    say("memory, workers, start")
    for _ in range(plan.memory_rounds):
        for one in field_:
            if one.name not in missing:
                taken = memory(plan.open_streams, plan.idle, one, provider, folder)
                if taken is not None:
                    results.memory.setdefault(one.name, []).append(taken)
    if "discreet" in running:
        if plan.workers_slices:
            results.workers = compare(plan.workers_slices, provider, folder)
        _starts(results, plan, provider, folder)
    return results, missing


def _round(
    results: Results,
    plan: Plan,
    workload: Workload,
    running: dict[str, Running],
    provider: Running,
) -> None:
    seconds = plan.paced if workload.script.rate else plan.seconds
    for name, contestant in running.items():
        cost = run(workload, seconds, contestant, provider)
        results.costs.setdefault(name, {}).setdefault(workload.name, []).append(cost)


def _starts(results: Results, plan: Plan, provider: Running, folder: Path) -> None:
    command = (sys.executable, "-m", "proxy")
    upstream = f"--upstream=http://127.0.0.1:{provider.port}"
    log = folder / "start.log"
    for number in range(plan.starts):
        began = time.monotonic()
        with spawned(*command, "serve", "--listen=127.0.0.1:0", upstream, log=log) as serving:
            said_port(serving)
            results.starts.append(time.monotonic() - began)
            if number == plan.starts - 1:
                time.sleep(1)
                results.idle = rss(serving.pid)
        began = time.monotonic()
        with spawned(*command, "check", log=log) as checking:
            assert checking.stdout is not None
            checking.stdout.read()
            results.checks.append(time.monotonic() - began)
