"""Measuring one contestant: what it does, and what it costs."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.benchmarks.answers import Script
from tests.benchmarks.contestants import Contestant, Running
from tests.benchmarks.load import Answer, Judge, connected, paced_events
from tests.benchmarks.processes import cpu, rss
from tests.benchmarks.workloads import FIRST_BYTE, Workload


@dataclass(slots=True)
class Cost:
    """What some traffic took.

    count: whole answers, or events of a paced workload within the time.
    cpu: seconds of the contestant's processes; load and provider: of the two ends.
    rss: the contestant's resident bytes at the end of a paced workload.
    median, high: of the events' delays, or of the waits for the first byte, in milliseconds.
    """

    count: int = 0
    seconds: float = 0.0
    cpu: float = 0.0
    load: float = 0.0
    provider: float = 0.0
    failures: int = 0
    first_failure: str = ""
    rss: int = 0
    median: float | None = None
    high: float | None = None

    @property
    def each(self) -> float | None:
        """CPU microseconds for each; None of an invalid run."""
        return 1e6 * self.cpu / self.count if self.count and not self.failures else None


@dataclass(slots=True)
class Watch:
    """Counts CPU time, from `begin` to `end`."""

    contestant: Running
    provider: Running
    began: int = field(default=0, init=False)
    ended: int = field(default=0, init=False)
    _before: tuple[float, ...] = field(default=(), init=False)
    _after: tuple[float, ...] = field(default=(), init=False)

    def begin(self) -> None:
        """Note where everything stands."""
        self._before, self.began = self._used(), time.monotonic_ns()

    def end(self) -> None:
        """Note it again."""
        self._after, self.ended = self._used(), time.monotonic_ns()

    def cost(self, judge: Judge, count: int) -> Cost:
        """Return what it took."""
        pairs = zip(self._before, self._after, strict=True)
        used, load, provider = (after - before for before, after in pairs)
        seconds = (self.ended - self.began) / 1e9
        return Cost(count, seconds, used, load, provider, judge.failures, judge.first_failure)

    def _used(self) -> tuple[float, ...]:
        pid = self.contestant.pid
        used = 0.0 if pid is None else cpu(pid)
        return used, time.process_time(), cpu(self.provider.pid or 0)


def run(workload: Workload, seconds: float, contestant: Running, provider: Running) -> Cost:
    """Run a workload once."""
    if workload.script.rate:
        return _paced(workload.script, workload.connections, seconds, contestant, provider)
    watch = Watch(contestant, provider)
    with connected(contestant.port, workload.connections) as load:
        load.saturate(workload.script, seconds / 10)  # what only the first ones cost
        watch.begin()
        judge = load.saturate(workload.script, seconds)
        watch.end()
    return watch.cost(judge, judge.whole)


def _paced(
    script: Script, streams: int, seconds: float, contestant: Running, provider: Running
) -> Cost:
    script = replace(script, events=paced_events(script.rate, seconds, streams))
    watch = Watch(contestant, provider)
    resident = 0

    def end() -> None:
        nonlocal resident
        watch.end()
        resident = 0 if contestant.pid is None else rss(contestant.pid)

    with connected(contestant.port, streams) as load:
        judge, answers = load.pace(script, seconds, watch.begin, end)
    delays = sorted(_delays(answers, watch))
    cost = watch.cost(judge, len(delays))
    cost.rss = resident
    return _with_times(cost, delays)


def _delays(answers: list[Answer], watch: Watch) -> Iterator[int]:
    for answer in answers:
        yield from answer.delays(watch.began, watch.ended)


def first_byte(count: int, contestant: Running, provider: Running) -> Cost:
    """Measure the time to the first byte of a proxy that has nothing else to do."""
    watch = Watch(contestant, provider)
    with connected(contestant.port, 1) as load:
        load.one_by_one(FIRST_BYTE, 10)
        watch.begin()
        judge, waits = load.one_by_one(FIRST_BYTE, count)
        watch.end()
    return _with_times(watch.cost(judge, judge.whole), sorted(waits))


def _with_times(cost: Cost, times: list[int]) -> Cost:
    if times:
        cost.median = statistics.median(times) / 1e6
        cost.high = times[len(times) * 99 // 100] / 1e6
    return cost


def memory(
    streams: int, idle: Script, contestant: Contestant, provider: Running, folder: Path
) -> float | None:
    """Return the resident bytes that each open stream takes in a process that is new."""
    with contestant.start(provider.port, folder) as running:
        pid = running.pid
        if pid is None:
            return None
        with connected(running.port, 4) as load:
            load.saturate(Script("chat", 50), 0.2)
        resident: list[int] = []

        def note() -> None:
            resident.append(rss(pid))

        note()
        seconds = 2 / idle.rate
        script = replace(idle, events=paced_events(idle.rate, seconds, streams))
        with connected(running.port, streams) as load:
            judge, _ = load.pace(script, seconds, note, note)
    if judge.failures:
        return None
    before, *_, after = resident
    return (after - before) / streams
