"""The demo: a faulty provider, the proxy before it, and each failure as both sides see it.

Rule 1. It needs no key and no network but loopback, and heeds no `DISCREET_*` variable.
Rule 2. What it counts is what both sides delivered; nothing in it is a recording.
"""

from __future__ import annotations

import asyncio
import io
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, TextIO

import aiohttp
from pydantic import SecretStr
from yarl import URL

from proxy.app import serving
from proxy.core.table_file import load_checked
from proxy.demo.outcome import Outcome, count
from proxy.demo.scenarios import SCENARIOS, Scenario
from proxy.demo.transcript import ask
from proxy.demo.view import View
from proxy.operate.log import StructuredLog
from proxy.operate.record import LogFormat
from proxy.settings import Settings
from proxy.values import Address

# Seconds of silence until the proxy gives up: an audience has less patience than a client.
_IDLE: Final = 1.0
# Seconds of silence until we believe that the bare provider hangs.
_PATIENCE: Final = 1.5
# Seconds that the proxy gets to answer; it never needs them.
_LONG: Final = 30.0

# The scenario whose line of the log is shown.
_LOGGED: Final = "traceback"


async def run_demo(*, serve: bool) -> int:
    """Run the demo; return the exit code.

    serve: keep both servers running, until Ctrl-C or SIGTERM.
    """
    return await (_serve() if serve else _show())


async def _show() -> int:
    view, log = View(), io.StringIO()
    view.begin()
    outcomes = []
    async for outcome in play_all(log):
        view.show(outcome)
        outcomes.append(outcome)
    shown = next(one.got for one in outcomes if one.scenario.name == _LOGGED)
    logged = next(line for line in log.getvalue().splitlines() if shown.reference in line)
    counted = count(outcomes)
    view.end(counted, logged)
    return 0 if counted.is_good else 1


async def play_all(log: TextIO) -> AsyncIterator[Outcome]:
    """Play every scenario against the bare provider and through the proxy.

    log: where the proxy writes its lines.
    """
    async with _both("json", log) as (provider, proxy), aiohttp.ClientSession() as session:

        async def play(scenario: Scenario) -> Outcome:
            said = ask(session, provider, scenario, _PATIENCE)
            got = ask(session, proxy, scenario, _LONG)
            return Outcome(scenario, *await asyncio.gather(said, got))

        # All at once, so that one silence is the wait for all of them.
        playing = [asyncio.ensure_future(play(scenario)) for scenario in SCENARIOS]
        for played in playing:
            yield await played


async def _serve() -> int:
    from proxy.demo.provider import until_stopped  # as below

    async with _both("console", sys.stderr) as (provider, proxy):
        View().serving(proxy, provider)
        await until_stopped()
    return 0


@asynccontextmanager
async def _both(form: LogFormat, log: TextIO) -> AsyncIterator[tuple[str, str]]:
    """Start both servers on free ports; give their URLs, the provider's first."""
    # Not at the top: `python -m proxy.demo.provider` runs this module first.
    from proxy.demo.provider import providing

    async with providing() as provider:
        settings = Settings.model_construct(  # reads no environment
            upstream=URL(provider),
            listen=Address("127.0.0.1", 0),
            upstream_api_key=SecretStr("sk-demo"),
            idle_timeout=_IDLE,
            drain_timeout=_IDLE,
        )
        table = load_checked(settings.mappings)
        async with serving(settings, table, StructuredLog(form, "masked", log)) as running:
            yield provider, f"http://{running.address}"
