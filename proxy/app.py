"""Wiring: settings to a running proxy."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from aiohttp import web

from proxy.core.failures import Failure
from proxy.core.table import Table
from proxy.core.table_file import load_checked
from proxy.operate.log import Log, StructuredLog
from proxy.settings import Address, Settings
from proxy.transport.headers import credentials_of
from proxy.transport.limits import Limits
from proxy.transport.relay import Relay, Sending
from proxy.transport.server import Server
from proxy.transport.upstream import Upstream

# Connects that wait while the loop is busy; at aiohttp's 128 a burst of 200 clients waits a second.
_BACKLOG = 1024
# Seconds for the endings of streams to be written when their time is over.
_LAST_WORDS = 2.0


@dataclass(slots=True)
class Running:
    """A proxy that serves."""

    address: Address
    admin: Address | None
    relay: Relay
    drain: Callable[[], None]


@asynccontextmanager
async def serving(settings: Settings, table: Table, log: Log) -> AsyncIterator[Running]:
    """Serve until the block is left; then let running exchanges end, each with an ending.

    Raises OSError where an address cannot be listened on.
    """
    limits = settings.limits()
    added = settings.added_headers()
    loop = asyncio.get_running_loop()
    ready = True
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(Upstream(settings.upstream, limits))
        sending = Sending(added, settings.forwarded, credentials_of(added))
        relay = Relay(upstream, lambda: table, sending, limits, log)
        server = Server(relay, relay.refuse, limits)
        listener = await loop.create_server(server, *settings.listen, backlog=_BACKLOG)
        stack.push_async_callback(server.shutdown, 1.0)
        admin = None
        if settings.admin is not None:
            admin = await stack.enter_async_context(_admin(settings.admin, lambda: ready, limits))

        def drain() -> None:
            nonlocal ready
            ready = False
            listener.close()
            server.pre_shutdown()  # idle connections now, busy ones after their answer

        stack.callback(drain)
        try:
            yield Running(_bound(listener), admin, relay, drain)
        finally:
            drain()
            await _wait_for_exchanges(relay, limits.drain)


async def _wait_for_exchanges(relay: Relay, seconds: float) -> None:
    """Give running exchanges their time, then their ending."""
    if not await relay.idle(seconds):
        relay.end_all(Failure.DRAINING)
        await relay.idle(_LAST_WORDS)


@asynccontextmanager
async def _admin(
    address: Address, ready: Callable[[], bool], limits: Limits
) -> AsyncIterator[Address]:
    """Answer health checks."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        status = {"/livez": 200, "/readyz": 200 if ready() else 503}.get(request.path, 404)
        text = {200: "ok\n", 503: "draining\n"}.get(status, "not here: /livez, /readyz\n")
        return web.Response(status=status, text=text)

    def refuse(request: web.BaseRequest, failure: Failure, detail: str) -> web.StreamResponse:
        del request, detail
        return web.Response(status=400, text=f"{failure}\n")

    server = Server(answer, refuse, limits)
    listener = await asyncio.get_running_loop().create_server(server, *address)
    try:
        yield _bound(listener)
    finally:
        listener.close()
        await server.shutdown(1.0)


def _bound(listener: asyncio.Server) -> Address:
    host, port, *_ = listener.sockets[0].getsockname()
    return Address(host, port)


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; a second signal ends at once.

    Raises TableError and OSError where it cannot begin.
    """
    table = load_checked(settings.mappings)
    log = StructuredLog(settings.log_format, settings.log_originals)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    async with serving(settings, table, log) as running:

        def on_signal() -> None:
            if stop.is_set():
                running.relay.end_all(Failure.DRAINING)
            stop.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, on_signal)
        admin = f", admin on http://{running.admin}" if running.admin else ""
        sys.stdout.write(
            f"discreet is ready: http://{running.address} in front of {settings.upstream}{admin}\n"
        )
        sys.stdout.flush()
        await stop.wait()
