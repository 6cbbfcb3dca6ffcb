"""What is asked of every contestant, and how long a benchmark takes over it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from tests.benchmarks.answers import Script

Unit = Literal["stream", "event", "request"]

KIB: Final = 1024


@dataclass(frozen=True, slots=True)
class Workload:
    """One kind of traffic.

    connections: how many clients at a time; enough to keep the proxy busy while one is judged.
    unit: what the CPU time is divided by.
    goal: the most that discreet is to cost, as a multiple of the naive proxy.
    """

    name: str
    title: str
    script: Script
    connections: int
    unit: Unit
    goal: float | None = None


WORKLOADS: Final = (
    Workload("W1", "50 events, unpaced", Script("chat", 50), 16, "stream", 1.1),
    Workload("W2", "2,000 events, unpaced", Script("chat", 2000), 8, "stream", 1.5),
    Workload("W3", "200 streams of 50 events/s", Script("chat", rate=50.0), 200, "event", 1.0),
    Workload("W4", "2 KB of JSON", Script("json", largest=2 * KIB), 16, "request", 1.1),
    Workload(
        "W5", "50 events and one of 300 KB", Script("chat", 51, largest=300_000), 8, "stream", 1.5
    ),
)
"""Chat chunks of about 250 bytes."""

OTHERS: Final = (
    Workload("R1", "as W1, Responses events", Script("responses", 50), 16, "stream"),
    Workload("R2", "as W2, Responses events", Script("responses", 2000), 8, "stream"),
    Workload("R3", "as W3, Responses events", Script("responses", rate=50.0), 200, "event"),
    Workload("P1", "as W1, padded chunks", Script("padded", 50), 16, "stream"),
    Workload("P2", "as W2, padded chunks", Script("padded", 2000), 8, "stream"),
)
"""What has no goal of its own."""

FIRST_BYTE: Final = Script("chat", 10)
"""Asked one at a time: nothing waits for anything but the proxy."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much of everything.

    rounds: in each, every contestant has every workload once.
    seconds: of an unpaced workload. paced: of a paced one, once all streams are open.
    sequential: requests for the time to the first byte.
    open_streams, idle: streams on which little comes, for the memory that each takes.
    workers_slices: with one worker, and with two.
    starts: of the command, for its time to ready.
    """

    workloads: tuple[Workload, ...] = WORKLOADS + OTHERS
    rounds: int = 7
    seconds: float = 1.0
    paced: float = 1.5
    sequential: int = 200
    open_streams: int = 500
    idle: Script = Script("chat", rate=2.0)  # noqa: RUF009 - it is frozen
    memory_rounds: int = 3
    workers_slices: int = 24
    starts: int = 5


FULL: Final = Plan()
QUICK: Final = Plan(
    workloads=WORKLOADS,
    rounds=3,
    seconds=0.35,
    paced=0.8,
    sequential=80,
    open_streams=200,
    idle=Script("chat", rate=4.0),
    memory_rounds=1,
    workers_slices=6,
    starts=3,
)
