"""No input leaks, hangs, crashes or ends twice: the seeds and the same mutations in every run.

`make fuzz` goes on from here, guided by coverage, for as long as it is told.
"""

from __future__ import annotations

from random import Random

import pytest

from tests.fuzz.mutate import mutated
from tests.fuzz.seeds import SEEDS
from tests.fuzz.targets import TARGETS

# By what one execution costs.
_MUTATIONS = {"table": 40, "settings": 200, "evidence": 400, "bodies": 400, "target": 2000}
_OTHERS = 60


@pytest.mark.parametrize("name", TARGETS)
def test_no_seed_breaks_the_invariant(name: str) -> None:
    for seed in SEEDS[name]:
        TARGETS[name](seed)


@pytest.mark.parametrize("name", TARGETS)
def test_no_mutation_breaks_the_invariant(name: str) -> None:
    random = Random(name)  # noqa: S311 - the same in every run
    for _ in range(_MUTATIONS.get(name, _OTHERS)):
        data = mutated(SEEDS[name], random)
        try:
            TARGETS[name](data)
        except Exception as error:
            error.add_note(f"input: {data!r}")
            raise
