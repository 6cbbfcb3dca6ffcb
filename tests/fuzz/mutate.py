"""Random mutations, for runs without a coverage guide."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from tests.fuzz.seeds import WORDS

_LONGEST = 4096


def mutated(seeds: Sequence[bytes], random: Random) -> bytes:
    """Take a seed, or two spliced, and change a few places."""
    data = bytearray(random.choice(seeds))
    if random.random() < 0.3:
        other = random.choice(seeds)
        data[random.randint(0, len(data)) :] = other[random.randint(0, len(other)) :]
    for _ in range(random.choice((0, 1, 1, 2, 4, 8))):
        at = random.randint(0, len(data))
        match random.randrange(5):
            case 0:
                data[at:at] = random.choice(WORDS)
            case 1:
                del data[at : at + random.choice((1, 1, 4, 40))]
            case 2:
                data[at : at + 1] = random.randbytes(1)
            case 3:
                data[at:at] = data[at : at + random.choice((8, 64, 256))]
            case 4:
                del data[at:]
    return bytes(data[:_LONGEST])
