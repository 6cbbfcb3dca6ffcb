"""The real command in a process of its own, and what the kernel says of it."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

# Longer than it takes several processes to start, or to end, on a busy machine.
_PATIENCE: Final = 60.0


class Sample(NamedTuple):
    """What the command's processes hold, workers included. rss, peak: bytes."""

    rss: int
    peak: int
    descriptors: int
    sockets: int
    processes: int


class Command:
    """`python -m proxy serve`, once it is ready."""

    def __init__(self, process: asyncio.subprocess.Process, port: int, log: Path) -> None:
        self.process = process
        self.port = port
        self._log = log

    def sample(self) -> Sample:
        """Measure it."""
        rss = peak = descriptors = sockets = processes = 0
        for pid in _family(self.process.pid):
            status = (pid / "status").read_text()
            rss += _kilobytes(status, "VmRSS")
            peak += _kilobytes(status, "VmHWM")
            links = list(_links(pid / "fd"))
            descriptors += len(links)
            sockets += sum(link.startswith("socket:") for link in links)
            processes += 1
        return Sample(rss, peak, descriptors, sockets, processes)

    def log(self) -> Iterator[dict[str, Any]]:
        """Yield the log's lines; one that is no JSON is a crash's."""
        with self._log.open() as file:
            for line in file:
                try:
                    yield json.loads(line)
                except ValueError:
                    yield {"event": line.rstrip(), "level": "error"}

    def faults_in_log(self) -> list[str]:
        """Return what went wrong in the proxy itself, by its log."""
        return [
            json.dumps(line)
            for line in self.log()
            if line.get("level") == "error" or line.get("failure") == "internal_error"
        ]

    def failures_in_log(self) -> Counter[str]:
        """Count exchanges by failure."""
        return Counter(
            str(line.get("failure") or f"said by the provider, {line.get('origin')}")
            for line in self.log()
            if line.get("ending") == "failed"
        )

    async def end(self) -> int:
        """Wait for its end; return its exit code."""
        async with asyncio.timeout(_PATIENCE):
            return await self.process.wait()


def _family(pid: int) -> list[Path]:
    """Return a process and those below it."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):
                after_name = (entry / "stat").read_text().rpartition(")")[2].split()
                parents[int(entry.name)] = int(after_name[1])
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return [Path("/proc", str(one)) for one in found]


def _kilobytes(status: str, name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB", status, re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


def _links(directory: Path) -> Iterator[str]:
    for entry in directory.iterdir():
        with suppress(OSError):
            yield str(entry.readlink())


@asynccontextmanager
async def commanding(upstream: str, log: Path, **settings: object) -> AsyncIterator[Command]:
    """Run the command in front of `upstream`; kill it where it has not ended by itself."""
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
    with log.open("wb") as stderr:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "proxy", "serve", "--listen=127.0.0.1:0"),
            f"--upstream={upstream}",
            *flags,
            stdout=asyncio.subprocess.PIPE,
            stderr=stderr,
        )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(_PATIENCE):
            ready = (await process.stdout.readline()).decode()
        found = re.search(r"http://127\.0\.0\.1:(\d+) in front", ready)
        assert found is not None, "it does not start"
        yield Command(process, int(found[1]), log)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        process._transport.close()  # type: ignore[attr-defined]
