"""The demo: a faulty provider, the proxy before it, and each failure as both sides see it."""

from __future__ import annotations


async def run_demo(*, serve: bool) -> int:
    """Run the demo; return the exit code."""
    raise NotImplementedError(serve)
