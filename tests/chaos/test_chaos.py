"""A provider that fails in every way, clients that leave, one SIGTERM: all of it at once.

`make chaos` is the same for longer.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.chaos.campaign import MIB, campaign

# By default another one in every run; a failure tells it.
SEED = int(os.environ.get("CHAOS_SEED") or random.SystemRandom().getrandbits(32))


@pytest.mark.parametrize("workers", [1, 2])
async def test_every_stream_ends_once_and_nothing_is_left_behind(
    workers: int, tmp_path: Path
) -> None:
    figures = await campaign(
        tmp_path / "log", seed=SEED, clients=60, seconds=0.8, silence=1.2, workers=workers
    )
    tally = figures.tally
    assert tally.problems == [], f"CHAOS_SEED={SEED}"
    assert tally.endings["stream whole"] > 20
    assert tally.endings["failed"] > 20
    assert tally.endings["refused"] > 20
    assert figures.after.descriptors == figures.before.descriptors
    assert figures.after.sockets == figures.before.sockets
    assert figures.after.processes == figures.before.processes
    assert figures.rss_grew_by < 16 * MIB * workers
    assert figures.exit_code == 0
