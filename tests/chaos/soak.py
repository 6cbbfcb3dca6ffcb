"""A steady rate of everything, for long: memory and descriptors must not rise."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.campaign import SETTINGS
from tests.chaos.command import Sample, commanding
from tests.chaos.provider import Provider
from tests.chaos.storm import Storm, Tally, patient


@dataclass(frozen=True, slots=True)
class Soak:
    """What a soak came to. times: seconds, of each sample."""

    tally: Tally
    times: list[float]
    samples: list[Sample]

    def slope(self, values: Sequence[float]) -> float:
        """Return by how much `values` rise in a second, by least squares, after a warm-up."""
        start = len(self.times) // 3
        xs, ys = self.times[start:], values[start:]
        middle_x, middle_y = sum(xs) / len(xs), sum(ys) / len(ys)
        spread = sum((x - middle_x) ** 2 for x in xs)
        return sum((x - middle_x) * (y - middle_y) for x, y in zip(xs, ys, strict=True)) / spread

    @property
    def rss_slope(self) -> float:
        return self.slope([sample.rss for sample in self.samples])

    @property
    def descriptors_slope(self) -> float:
        return self.slope([sample.descriptors for sample in self.samples])


async def soak(log: Path, *, seed: int, rate: float, seconds: float, samples: int) -> Soak:
    """Ask `rate` times a second."""
    times: list[float] = []
    found: list[Sample] = []
    choices = random.Random(seed)  # noqa: S311 - repeatable
    async with (
        patient(),
        Provider() as provider,
        commanding(provider.url, log, **SETTINGS, idle_timeout=3, response_timeout=3) as command,
        asyncio.TaskGroup() as group,
    ):
        storm = Storm(command, provider, seed)
        began = time.monotonic()
        asked = 0
        while (now := time.monotonic() - began) < seconds:
            while asked < now * rate:
                asked += 1
                group.create_task(_ask_once(storm, random.Random(choices.random())))  # noqa: S311
            if len(times) < now / seconds * samples:
                times.append(now)
                found.append(command.sample())
                provider.visits[:] = [v for v in provider.visits if not v.ended.is_set()]
            await asyncio.sleep(0.5 / rate)
    storm.tally.problems += command.faults_in_log()
    return Soak(storm.tally, times, found)


async def _ask_once(storm: Storm, choices: random.Random) -> None:
    client = await storm.ask(choices)
    if client is not None:
        client.leave()
