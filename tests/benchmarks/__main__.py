"""The benchmark: `python -m tests.benchmarks [run|quick|scale] [--json FILE]`.

run      every table, and the curves
quick    the main table in under two minutes
scale    the curves
"""

from __future__ import annotations

import argparse
import gc
import json
import resource
import signal
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any, Final

from rich.console import Console

from tests.benchmarks.contestants import contestants, provider
from tests.benchmarks.machine import machine
from tests.benchmarks.report import (
    WIDTH,
    tell_curves,
    tell_machine,
    tell_missing,
    tell_results,
)
from tests.benchmarks.rounds import Results, measure_all
from tests.benchmarks.scale import Curves, scale
from tests.benchmarks.workloads import FULL, QUICK, Plan

# Of each point of a curve, in each of its rounds.
_POINT_SECONDS: Final = 0.6
_CURVE_ROUNDS: Final = 3


def benchmark(
    console: Console, plan: Plan | None, curve_seconds: float | None, *names: str
) -> dict[str, Any]:
    """Measure what is asked for, print it, and return it as it goes into the file.

    plan: of the tables; None leaves them out. curve_seconds: of each point of a curve.
    """
    field, missing = contestants(*names)
    told: dict[str, Any] = {"machine": machine(), "versions": {c.name: c.version for c in field}}
    tell_machine(console, told["machine"], field)

    def say(what: str) -> None:
        console.print(f"[dim]{time.strftime('%H:%M:%S')} {what}[/dim]")

    with tempfile.TemporaryDirectory(prefix="bench-") as temporary:
        folder = Path(temporary)
        with provider(folder) as upstream:
            if plan is not None:
                results, failed = measure_all(plan, field, upstream, folder, say)
                missing |= failed
                told |= {"plan": asdict(plan), "results": _results(results)}
                tell_results(console, plan, results)
            if curve_seconds is not None:
                scaled = [one for one in field if one.name in {"naive", "discreet"}]
                curves = scale(curve_seconds, _CURVE_ROUNDS, scaled, upstream, folder, say)
                told["curves"] = _curves(curves)
                tell_curves(console, curves)
    tell_missing(console, missing)
    return told | {"missing": missing}


def _results(results: Results) -> dict[str, Any]:
    """Return every figure, and those that the tables show."""
    summary = {
        name: {
            workload: {
                "cpu_us": results.median(name, workload),
                "to_naive": results.ratio(name, workload),
                "to_envoy": results.ratio(name, workload, "envoy"),
                "added_ms": results.added(name, workload),
            }
            for workload in workloads
        }
        for name, workloads in results.costs.items()
    }
    return {"summary": summary, "failures": results.failures()} | asdict(results)


def _curves(curves: Curves) -> dict[str, Any]:
    return {
        name: {one: [asdict(point) for point in points] for one, points in curve.items()}
        for name, curve in curves.items()
    }


def _end(number: int, frame: FrameType | None) -> None:
    """End, and with it everything that was started."""
    del frame
    sys.exit(128 + number)


def main() -> None:
    """Run what the command line says."""
    parser = argparse.ArgumentParser(prog="tests.benchmarks")
    parser.add_argument("what", nargs="?", choices=("run", "quick", "scale"), default="run")
    parser.add_argument("--only", default="", help="contestants, separated by commas")
    parser.add_argument("--json", type=Path, default=Path("build/benchmarks/latest.json"))
    chosen = parser.parse_args()
    plan = {"run": FULL, "quick": QUICK, "scale": None}[chosen.what]
    curve_seconds = None if chosen.what == "quick" else _POINT_SECONDS
    console = Console(width=WIDTH)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # what it starts inherits this
    gc.freeze()
    names = filter(None, chosen.only.split(","))
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, _end)
    told = benchmark(console, plan, curve_seconds, *names)
    chosen.json.parent.mkdir(parents=True, exist_ok=True)
    chosen.json.write_text(json.dumps(told, indent=1))
    console.print(f"all figures: {chosen.json}")
    if told.get("results", {}).get("failures"):
        sys.exit(1)


if __name__ == "__main__":
    main()
