"""The log never holds up a stream, whoever reads it, or does not."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest

from proxy.operate.outlet import _MOST, Outlet
from tests.proxies import CHAT, Client
from tests.upstreams import PATIENCE, Upstream, says_json


def said_of(count: int) -> bytes:
    return b"left out: %d" % count


class Pipe:
    """A pipe: its writing end as text, and what can be read of it now."""

    def __init__(self) -> None:
        self.reading, writing = os.pipe()
        os.set_blocking(self.reading, False)
        self.out: TextIO = os.fdopen(writing, "w")

    def read(self) -> bytes:
        found = b""
        try:
            while piece := os.read(self.reading, 65536):
                found += piece
        except BlockingIOError:
            pass
        return found

    def close(self) -> None:
        self.out.close()
        os.close(self.reading)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.close()


def test_what_has_no_descriptor_gets_each_line() -> None:
    out = io.StringIO()
    outlet = Outlet(out, said_of)
    outlet.write(b"one")
    outlet.write(b"two")
    outlet.close()
    assert out.getvalue() == "one\ntwo\n"


def test_without_a_loop_each_line_is_written_at_once(pipe: Pipe) -> None:
    outlet = Outlet(pipe.out, said_of)
    outlet.write(b"one")
    assert pipe.read() == b"one\n"


async def test_the_lines_of_a_turn_are_one_write(pipe: Pipe) -> None:
    outlet = Outlet(pipe.out, said_of)
    outlet.attach(asyncio.get_running_loop())
    outlet.write(b"one")
    outlet.write(b"two")
    assert pipe.read() == b""
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert pipe.read() == b"one\ntwo\n"


async def test_a_reader_that_stalls_gets_every_line_in_order_later(pipe: Pipe) -> None:
    outlet = Outlet(pipe.out, said_of)
    outlet.attach(asyncio.get_running_loop())
    written = [b"%d " % number + b"x" * 5000 for number in range(100)]  # several pipes full
    for line in written:
        outlet.write(line)
        await asyncio.sleep(0)
    found = b""
    async with asyncio.timeout(PATIENCE):
        while found.count(b"\n") < len(written):
            found += pipe.read()
            await asyncio.sleep(0.01)
    assert found.splitlines() == written


async def test_what_nobody_reads_is_left_out_and_counted(pipe: Pipe) -> None:
    outlet = Outlet(pipe.out, said_of)
    outlet.attach(asyncio.get_running_loop())
    line = b"x" * 9999
    count = 2 * _MOST // len(line)
    for _ in range(count):
        outlet.write(line)
    found = b""
    async with asyncio.timeout(PATIENCE):
        while b"left out" not in found:
            found += pipe.read()
            await asyncio.sleep(0.001)
    *kept, last = found.splitlines()
    dropped = int(last.rpartition(b" ")[2])
    assert set(kept) == {line}
    assert len(kept) + dropped == count
    assert dropped > 100


def test_a_reader_that_stalls_at_the_end_is_not_waited_for_long(pipe: Pipe) -> None:
    outlet = Outlet(pipe.out, said_of)
    for _ in range(100):
        outlet._keep(b"x" * 5000)
    outlet.close()
    assert len(pipe.read()) >= 4096


def test_a_file_gets_all(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as out:
        outlet = Outlet(out, said_of)
        outlet.write("ü".encode() * 100_000)
        outlet.close()
    assert (tmp_path / "log").read_text(encoding="utf-8") == "ü" * 100_000 + "\n"


async def test_clients_are_answered_while_nobody_reads_the_log() -> None:
    async with Upstream(says_json({"error": {"message": "x" * 1500}}, 500)) as upstream:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "proxy", "serve", "--listen=127.0.0.1:0"),
            f"--upstream={upstream.url}",
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=2,  # asyncio reads no further either
        )
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            found = re.search(rb"127\.0\.0\.1:(\d+) in front", await process.stdout.read(200))
            assert found is not None
            client = Client(*await asyncio.open_connection("127.0.0.1", int(found[1])))
            for _ in range(150):  # of which a pipe takes some thirty
                assert (await client.ask(target=CHAT, body=b"{}")).status == 500
            client.leave()
            process.terminate()
            log = await asyncio.wait_for(process.stderr.read(), PATIENCE)
            assert await asyncio.wait_for(process.wait(), PATIENCE) == 0
        finally:
            if process.returncode is None:
                process.kill()
        lines = [json.loads(line) for line in log.splitlines()]
        assert len([line for line in lines if line["event"] == "exchange"]) == 150
