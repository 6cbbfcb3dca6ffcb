"""A storm from its beginning to the command's end, and the figures that are left of it."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.chaos.command import Command, Sample, commanding
from tests.chaos.provider import MAX_EVENT, Provider
from tests.chaos.storm import Storm, Tally, patient

MIB: Final = 1024 * 1024

# Short, so that every limit is reached many times; long against the pauses of a busy machine.
SETTINGS: Final[dict[str, object]] = {
    "gate": 0.3,
    "drain_timeout": 1,
    "max_event": MAX_EVENT,
    "keep_alive": 0.5,
}


@dataclass(frozen=True, slots=True)
class Figures:
    """What a campaign came to. before, after: without a client, warmed up."""

    seed: int
    workers: int
    tally: Tally
    before: Sample
    after: Sample
    exit_code: int
    failures: Counter[str]

    @property
    def rss_grew_by(self) -> int:
        return self.after.rss - self.before.rss


async def campaign(
    log: Path, *, seed: int, clients: int, seconds: float, silence: float = 3.0, workers: int = 1
) -> Figures:
    """Warm up, let it blow, look whether all is as before, and end it in a last storm.

    seconds: of one storm; in the warm-up memory grows to what so many clients need.
    silence: the seconds that the proxy waits for an upstream.
    """
    times = {"idle_timeout": silence, "response_timeout": silence}
    async with (
        patient(),
        Provider() as provider,
        commanding(provider.url, log, workers=workers, **SETTINGS, **times) as command,
    ):
        storm = Storm(command, provider, seed)
        at_rest = await _rest(storm, command, None)
        await storm.blow(clients, seconds)
        before = await _rest(storm, command, at_rest)
        await storm.blow(clients, seconds)
        after = await _rest(storm, command, at_rest)
        async with asyncio.TaskGroup() as group:
            last = group.create_task(storm.blow(clients, 1.5))
            await asyncio.sleep(0.8)
            storm.ending = True
            command.process.send_signal(signal.SIGTERM)
            exit_code = await command.end()
            await last
        storm.tally.problems += command.faults_in_log()
        return Figures(
            seed, workers, storm.tally, before, after, exit_code, command.failures_in_log()
        )


async def _rest(storm: Storm, command: Command, like: Sample | None) -> Sample:
    """Wait until nothing is under way and sockets are as few as they were, but not for ever."""
    if not await storm.quiet(10.0):
        storm.tally.problems.append("requests are still held open at the provider")
    sample = command.sample()
    for _ in range(200):
        if like is None or sample.sockets <= like.sockets:
            break
        await asyncio.sleep(0.02)
        sample = command.sample()
    return sample
