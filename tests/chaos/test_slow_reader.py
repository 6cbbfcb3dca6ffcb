"""A client that does not read holds its upstream back; the proxy's memory stays flat."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.chaos.campaign import MIB
from tests.chaos.command import commanding
from tests.proxies import CHAT, RESPONSES, Client, request
from tests.upstreams import (
    CHAT_FINISH,
    CHAT_ROLE,
    DONE,
    LAST_CHUNK,
    STREAM_HEAD,
    Upstream,
    Visit,
    chat_text,
    chunk,
    completed,
    created,
    delta,
)

_EVENTS = 500
_TEXT = "long" * (MIB // 4)

# Two sockets' buffers (Linux grows each to 6 MiB) and the reads under way, many times over.
_HELD = 48 * MIB


class Flood:
    """Sends 500 MB as fast as they are taken."""

    def __init__(self, begin: bytes, text: bytes, end: bytes) -> None:
        self.taken = 0
        self._begin, self._text, self._end = begin, text, end

    async def __call__(self, visit: Visit) -> None:
        await visit.send(STREAM_HEAD, chunk(self._begin))
        piece = chunk(self._text)
        for _ in range(_EVENTS):
            await visit.send(piece)
            self.taken += len(piece)
        await visit.send(chunk(self._end), LAST_CHUNK)

    async def stalls(self) -> int:
        """Wait until nothing is taken any more; return how much was."""
        before, unchanged = -1, 0
        while unchanged < 10:
            await asyncio.sleep(0.05)
            unchanged = unchanged + 1 if self.taken == before else 0
            before = self.taken
        return before


@pytest.mark.parametrize(
    ("path", "begin", "text", "end"),
    [
        (RESPONSES, created(), delta(_TEXT), completed()),
        (CHAT, CHAT_ROLE, chat_text(_TEXT), CHAT_FINISH + DONE),
    ],
    ids=["responses", "chat"],
)
async def test_a_client_that_does_not_read_holds_its_upstream_back(
    path: str, begin: bytes, text: bytes, end: bytes, tmp_path: Path
) -> None:
    flood = Flood(begin, text, end)
    async with Upstream(flood) as upstream, commanding(upstream.url, tmp_path / "log") as command:
        before = command.sample()
        client = Client(*await asyncio.open_connection("127.0.0.1", command.port, limit=MIB))
        await client.send(request("POST", path, b"{}"))
        status, _ = await client.head()
        assert status == 200
        assert await flood.stalls() < _HELD
        read = 0
        while read < 40 * MIB:
            read += len(await client.reader.read(MIB))
        assert await flood.stalls() < read + _HELD
        assert command.sample().peak < before.peak + _HELD
        client.leave()
        await upstream.visit.ended.wait()
