"""What the kernel says of a process and all those below it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

_TICKS: Final = os.sysconf("SC_CLK_TCK")


def family(pid: int) -> list[Path]:
    """Return a process and those below it, as folders of /proc."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):
                parents[int(entry.name)] = int(_stat(entry)[1])
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return [Path("/proc", str(one)) for one in found]


def cpu(pid: int) -> float:
    """Return the CPU seconds of a process and those below it, of all their threads."""
    return sum(map(_cpu_of, family(pid)))


def rss(pid: int) -> int:
    """Return the resident bytes of a process and those below it."""
    return sum(map(_rss_of, family(pid)))


def _cpu_of(process: Path) -> float:
    """Return user and system time; of living threads to the nanosecond, where it is told."""
    try:
        return sum(_nanoseconds(process)) / 1e9
    except OSError:
        user, system = _stat(process)[11:13]
        return (int(user) + int(system)) / _TICKS


def _nanoseconds(process: Path) -> Iterator[int]:
    for thread in (process / "task").iterdir():
        yield int((thread / "schedstat").read_text().split()[0])


def _stat(process: Path) -> list[str]:
    """Return the fields of `stat` after the name, which may hold anything."""
    return (process / "stat").read_text().rpartition(")")[2].split()


def _rss_of(process: Path) -> int:
    with suppress(OSError):
        found = re.search(r"^VmRSS:\s+(\d+) kB", (process / "status").read_text(), re.MULTILINE)
        if found is not None:
            return int(found[1]) * 1024
    return 0
