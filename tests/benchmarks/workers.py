"""What a second worker adds to the throughput, and what a second process could add at all.

Load and provider share the machine with the workers, as they would not in earnest. On two cores,
one worker has a core for itself and two have none; so the ends wait until a core is free, instead
of pushing a worker from its own whenever something comes. Nor need two cores do twice as much as
one, where others use them too: loops that share nothing are counted in the same rounds.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from tests.benchmarks.contestants import Running, discreet
from tests.benchmarks.measure import Cost, run
from tests.benchmarks.workloads import WORKLOADS

MEASURED_ON: Final = next(workload for workload in WORKLOADS if workload.name == "W1")
# Each so short that what others do to the machine meets one worker and two alike: seconds.
_SLICE: Final = 0.3

_COUNTING: Final = """
import sys, time
until, turns = time.monotonic() + float(sys.argv[1]), 0
while time.monotonic() < until:
    for _ in range(1000):
        pass
    turns += 1
print(turns)
"""


@dataclass(slots=True)
class Comparison:
    """Slices with one worker beside slices with two, and loops' turns beside them."""

    one: list[Cost] = field(default_factory=list)
    two: list[Cost] = field(default_factory=list)
    one_loop: list[int] = field(default_factory=list)
    two_loops: list[int] = field(default_factory=list)

    @property
    def gain(self) -> float | None:
        """Return the throughput of two workers as a multiple of one's; None if a slice failed."""
        if any(cost.each is None for cost in (*self.one, *self.two)):
            return None
        return statistics.median(
            _rate(two) / _rate(one) for one, two in zip(self.one, self.two, strict=True)
        )

    @property
    def most(self) -> float:
        """Return what two loops that share nothing did, as a multiple of one's."""
        return statistics.median(
            two / one for one, two in zip(self.one_loop, self.two_loops, strict=True)
        )

    @property
    def rates(self) -> tuple[float, float]:
        """Return answers a second, of one and of two."""
        return statistics.median(map(_rate, self.one)), statistics.median(map(_rate, self.two))

    @property
    def ends(self) -> float:
        """Return the cores that load and provider took while two worked."""
        return statistics.median((cost.load + cost.provider) / cost.seconds for cost in self.two)


def _rate(cost: Cost) -> float:
    return cost.count / cost.seconds


def compare(slices: int, provider: Running, folder: Path) -> Comparison | None:
    """Compare one worker with two; None on a machine with a single core."""
    if len(os.sched_getaffinity(0)) < 2:
        return None
    found = Comparison()
    workload = replace(MEASURED_ON, connections=2 * MEASURED_ON.connections)
    with ExitStack() as stack:
        one, two = [
            stack.enter_context(discreet(provider.port, folder, f"--workers={count}"))
            for count in (1, 2)
        ]
        time.sleep(1)  # the second worker may come a little after the ready line
        # Only now: what is started inherits it.
        stack.enter_context(_waiting_for_a_core(os.getpid(), provider.pid or 0))
        for _ in range(slices):
            found.one_loop.append(_turns(1))
            found.one.append(run(workload, _SLICE, one, provider))
            found.two.append(run(workload, _SLICE, two, provider))
            found.two_loops.append(_turns(2))
    return found


@contextmanager
def _waiting_for_a_core(*pids: int) -> Iterator[None]:
    """Schedule processes so that they never preempt another when they wake (sched(7))."""
    before = {pid: os.sched_getscheduler(pid) for pid in pids}
    for pid in pids:
        os.sched_setscheduler(pid, os.SCHED_BATCH, os.sched_param(0))
    try:
        yield
    finally:
        for pid, policy in before.items():
            os.sched_setscheduler(pid, policy, os.sched_param(0))


def _turns(loops: int) -> int:
    """Return the turns that loops take together in a slice, each in a process."""
    command = (sys.executable, "-c", _COUNTING, str(_SLICE))
    with ExitStack() as stack:
        running = [
            stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE))
            for _ in range(loops)
        ]
        return sum(int(process.communicate()[0]) for process in running)
