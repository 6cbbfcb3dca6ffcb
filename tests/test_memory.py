"""A serving process has the memory for its next large event."""

from __future__ import annotations

import platform
import subprocess
import sys
from typing import Final

import pytest

FAULTS_OF_LARGE_EVENTS: Final = """
import resource
from proxy.memory import settle

{first}
def events(count):
    for _ in range(count):
        event = [b"x" * (16 << 20) for _ in range(3)]
        del event

events(2)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
events(10)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _faults(first: str) -> int:
    script = FAULTS_OF_LARGE_EVENTS.format(first=first)
    command = [sys.executable, "-c", script]
    return int(subprocess.run(command, check=True, capture_output=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc that is told")
def test_the_kernel_is_not_asked_for_the_next_large_events_memory() -> None:
    assert _faults("settle()") * 10 < _faults("")
