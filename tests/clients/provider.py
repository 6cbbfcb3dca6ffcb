"""A provider that plays recorded answers, and the openai SDK in front of it and of the proxy."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from openai import AsyncOpenAI

from tests.proxies import Proxy, relaying
from tests.upstreams import LAST_CHUNK, STREAM_HEAD, Script, Upstream, Visit, answer, chunk

RECORDED = Path(__file__).parent / "recorded"

# What stands in every recorded error and must never come out.
CANARIES = ("canary", "internal", "Traceback", "/srv/", "organization", "worker")


def recorded(name: str) -> bytes:
    return (RECORDED / f"{name}.sse").read_bytes()


def plays(*answers: bytes) -> Script:
    """Play one recorded stream, or whole HTTP answer, at each request; the last one again."""
    left = list(answers)

    async def script(visit: Visit) -> None:
        await visit.body()
        raw = left.pop(0) if len(left) > 1 else left[0]
        if raw.startswith(b"HTTP/1.1 "):
            await visit.send(raw)
            return
        await visit.send(STREAM_HEAD)
        await visit.send(*(chunk(line) for line in raw.splitlines(keepends=True)), LAST_CHUNK)

    return script


def refuses(status: int, error: dict[str, Any] | bytes, **headers: str) -> bytes:
    """Write a whole HTTP error."""
    if isinstance(error, bytes):
        return answer(error, status, "text/html", **headers)
    return answer(json.dumps({"error": error}).encode(), status, **headers)


def sdk(url: str, max_retries: int = 0) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"{url}/v1", api_key="sk-fake", max_retries=max_retries, timeout=20)


@asynccontextmanager
async def playing(
    *answers: bytes, max_retries: int = 0, **settings: Any
) -> AsyncIterator[tuple[Upstream, Proxy, AsyncOpenAI]]:
    """Run the provider and the proxy; give the SDK that talks to the proxy."""
    async with (
        relaying(plays(*answers), **settings) as (upstream, proxy),
        sdk(proxy.url, max_retries) as client,
    ):
        yield upstream, proxy, client
