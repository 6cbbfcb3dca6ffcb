"""The tables and plots of a benchmark, no wider than a terminal."""

from __future__ import annotations

import statistics
from typing import Final

from rich.console import Console
from rich.table import Table

from tests.benchmarks.contestants import Contestant
from tests.benchmarks.rounds import FIRST, Results
from tests.benchmarks.scale import EVENTS_A_SECOND, Curves, Point
from tests.benchmarks.workers import MEASURED_ON
from tests.benchmarks.workloads import OTHERS, WORKLOADS, Plan, Workload

WIDTH: Final = 100
_BAR: Final = 44
_UNKNOWN: Final = "–"
_INVALID: Final = "invalid"

_MOST_MEMORY: Final = "48.0"
_MOST_ADDED: Final = "0.150"
_MOST_FIRST: Final = "0.500"
_LEAST_GAIN: Final = "1.70"


def tell_machine(console: Console, machine: dict[str, str], field: list[Contestant]) -> None:
    """Say what was measured, and on what."""
    console.print(", ".join(f"{name}: {value}" for name, value in machine.items()))
    versions = (f"{one.name} {one.version}" for one in field if one.version)
    console.print("; ".join(versions), "\n", highlight=False)


def tell_missing(console: Console, missing: dict[str, str]) -> None:
    """Name who was not measured."""
    for name, why in missing.items():
        console.print(f"[bold]not measured: {name}[/bold] ({why})")


def tell_results(console: Console, plan: Plan, results: Results) -> None:
    """Print everything but the curves."""
    names = list(results.costs)
    console.print(_costs(results, names, [w for w in plan.workloads if w in WORKLOADS]))
    others = [workload for workload in plan.workloads if workload in OTHERS]
    if others:
        console.print(_costs(results, names, others))
    for workload in plan.workloads:
        console.print(f"  {workload.name}: {workload.title}, µs of CPU per {workload.unit}")
    console.print("  in brackets: as a multiple of naive in the same round; medians of rounds\n")
    console.print(_waits(results, names))
    _tell_command(console, results)
    for failure in results.failures():
        console.print(f"[bold red]invalid: {failure}[/bold red]")


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", width=WIDTH)
    table.add_column("")
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _costs(results: Results, names: list[str], workloads: list[Workload]) -> Table:
    table = _table("CPU of the proxy", *(workload.name for workload in workloads))
    for name in names:
        if name != "direct":
            table.add_row(name, *(_cost(results, name, workload) for workload in workloads))
    if any(workload.goal for workload in workloads):
        table.add_section()
        goals = (f"(≤ {workload.goal:.2f})" if workload.goal else "" for workload in workloads)
        table.add_row("goal", *goals)
    return table


def _cost(results: Results, name: str, workload: Workload) -> str:
    each = results.median(name, workload.name)
    if each is None:
        return _INVALID
    ratio = results.ratio(name, workload.name)
    figure = f"{each:,.1f}" if each < 100 else f"{each:,.0f}"
    return figure if ratio is None else f"{figure} ({ratio:.2f})"


def _waits(results: Results, names: list[str]) -> Table:
    table = _table(
        "What a proxy adds to direct, ms (medians), and KiB of memory for each open stream",
        "an event of W3",
        "its 99th, in all",
        "the first byte",
        "KiB a stream",
    )
    for name in names:
        costs = results.costs[name]
        highs = [cost.high for cost in costs.get("W3", []) if cost.high is not None]
        taken = results.memory.get(name)
        table.add_row(
            name,
            _ms(results.added(name, "W3")),
            _ms(statistics.median(highs) if highs else None),
            _ms(results.added(name, FIRST)),
            f"{statistics.median(taken) / 1024:.1f}" if taken else _UNKNOWN,
        )
    table.add_section()
    table.add_row("goal", f"≤ {_MOST_ADDED}", "", f"≤ {_MOST_FIRST}", f"≤ {_MOST_MEMORY}")
    return table


def _ms(value: float | None) -> str:
    return _UNKNOWN if value is None else f"{value:.3f}"


def _tell_command(console: Console, results: Results) -> None:
    """Print what only discreet was asked."""
    if results.starts:
        ready, checked = map(statistics.median, (results.starts, results.checks))
        console.print(
            f"discreet: ready after {ready:.2f} s; idle {results.idle / 2**20:.1f} MiB; "
            f"`discreet check` {checked:.2f} s"
        )
    if results.workers is None:
        return
    (one, two), gain = results.workers.rates, results.workers.gain
    times = _INVALID if gain is None else f"{gain:.2f}"
    console.print(
        f"discreet --workers 2: {two:,.0f} streams of {MEASURED_ON.name} a second, "
        f"{times} times one worker's {one:,.0f} (goal ≥ {_LEAST_GAIN})",
        highlight=False,
    )
    console.print(
        f"  Two loops that share nothing did {results.workers.most:.2f} times as much as one; load "
        f"and provider took {results.workers.ends:.2f} cores.",
        highlight=False,
    )


def tell_curves(console: Console, curves: Curves) -> None:
    """Plot the curves, as bars."""
    titles = {
        "events": "µs of CPU for each further event of a stream",
        "size": "µs of CPU for each further KiB of one event",
        "streams": f"µs of CPU per event: {EVENTS_A_SECOND:,} events/s over so many open streams",
    }
    for name, title in titles.items():
        console.print(f"\n[bold]{title}[/bold]")
        points = [point for curve in curves[name].values() for point in curve]
        most = max((point.each for point in points if point.each is not None), default=0.0)
        for contestant, curve in curves[name].items():
            for point in curve:
                work = _size(point.work) if name == "size" else f"{point.work:,}"
                console.print(f"  {contestant:9}{work:>8}  {_bar(point, most)}", highlight=False)


def _size(kib: int) -> str:
    return f"{kib} KiB" if kib < 1024 else f"{kib // 1024} MiB"


def _bar(point: Point, most: float) -> str:
    for cost in point.costs:
        if cost.failures:
            return f"{_INVALID}: {cost.first_failure}"
    if point.each is None:
        whole = statistics.median(cost.each or 0.0 for cost in point.costs)
        return f"the first takes {whole:,.0f}"
    bar = "█" * round(_BAR * max(point.each, 0.0) / (most or 1))
    memory = "" if point.memory is None else f"; {point.memory / 1024:.1f} KiB a stream"
    return f"{bar} {point.each:.2f}{memory}"
