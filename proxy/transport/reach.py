"""Whether the upstream's host answers at all, for those who ask whether the proxy is ready."""

from __future__ import annotations

import asyncio
import time
from typing import Final

import aiohttp
from yarl import URL

# Probes come every few seconds, from several sides; the upstream is asked for all of them.
_FRESH: Final = 5.0
# Less than a probe's own patience is by default in Kubernetes with a few failures allowed.
_PATIENCE: Final = 3.0


class Reach:
    """Asks the upstream, and remembers for a while.

    url: what is asked for; any answer will do, an error too: the host is there.
    """

    def __init__(self, url: URL) -> None:
        self._url = url
        self._asked_at = float("-inf")
        self._answers = False
        self._asking = asyncio.Lock()

    async def answers(self) -> bool:
        """Tell whether the host answered just now, or a moment ago."""
        async with self._asking:
            if time.monotonic() - self._asked_at > _FRESH:
                self._answers = await self._ask()
                self._asked_at = time.monotonic()
        return self._answers

    async def _ask(self) -> bool:
        timeout = aiohttp.ClientTimeout(total=_PATIENCE)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.head(self._url, allow_redirects=False),
            ):
                return True
        except (aiohttp.ClientError, OSError):
            return False
