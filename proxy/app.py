"""Wiring: settings to a running proxy."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

from prometheus_client import CollectorRegistry, generate_latest

from proxy.core.failures import Failure
from proxy.core.table import Table
from proxy.core.table_file import load_checked
from proxy.memory import settle
from proxy.operate.incidents import Entry
from proxy.operate.log import Log, StructuredLog
from proxy.operate.metrics import Metrics
from proxy.operate.observer import Observer, Operator
from proxy.operate.office import Office
from proxy.operate.tables import Tables
from proxy.settings import Settings
from proxy.transport.admin import admin_port
from proxy.transport.door import Door
from proxy.transport.headers import credentials_of
from proxy.transport.reach import Reach
from proxy.transport.relay import Relay, Sending
from proxy.transport.server import Server, bound_address
from proxy.transport.upstream import Upstream
from proxy.values import Address

# Connects that wait while the loop is busy; at aiohttp's 128 a burst of 200 clients waits a second.
BACKLOG: Final = 1024
# Seconds for the endings of streams to be written when their time is over.
_LAST_WORDS: Final = 2.0


@dataclass(slots=True)
class Running:
    """A proxy that serves."""

    address: Address
    admin: Address | None
    relay: Relay
    tables: Tables
    connections: Callable[[], int]
    drain: Callable[[], None]
    hurry: asyncio.Event


@dataclass(frozen=True, slots=True)
class Work:
    """What a worker has of its supervisor.

    door: through which its connections come.
    report: takes its incidents.
    """

    door: socket.socket
    report: Callable[[Entry], None]


@asynccontextmanager
async def serving(
    settings: Settings, table: Table, log: Log, work: Work | None = None
) -> AsyncIterator[Running]:
    """Serve until the block is left; then let running exchanges end, each with an ending.

    work: what a worker has of its supervisor; its metrics it shares through files.

    Raises OSError where an address cannot be listened on.
    """
    limits = settings.limits()
    added = settings.added_headers()
    registry = CollectorRegistry()
    metrics = Metrics(None if work else registry)
    ready = True
    hurry = asyncio.Event()
    async with AsyncExitStack() as stack:
        tables = reloading_tables(settings, table, log, metrics)

        def figures() -> bytes:
            operator.tell()
            return generate_latest(registry)

        office = Office(tables, lambda: ready, lambda: relay.running, figures)
        upstream = await stack.enter_async_context(Upstream(settings.upstream, limits))
        sending = Sending(added, settings.forwarded, credentials_of(added))
        keep = work.report if work else office.tell
        operator = Operator(log, metrics, keep, settings.log_originals)
        stack.callback(operator.tell)
        observer: Observer = operator
        if settings.otel:
            # An extra: the package may not be there, and reading it takes a second.
            from proxy.operate.telemetry import by_otlp

            observer = telemetry = by_otlp(observer)
            stack.callback(telemetry.close)
        relay = Relay(upstream, lambda: tables.table, sending, limits, observer)
        server = Server(relay, relay.refuse, limits)
        listener, address = await _listen(server, settings.listen, work)
        stack.push_async_callback(server.shutdown, 1.0)
        await stack.enter_async_context(watching(tables))
        admin = None
        if settings.admin is not None:
            admin = await stack.enter_async_context(administered(settings, settings.admin, office))

        def look_away() -> None:
            nonlocal ready
            ready = False
            metrics.draining()
            server.is_leaving = True

        def drain() -> None:
            look_away()
            listener.close()
            server.pre_shutdown()  # idle connections now, busy ones after their answer

        stack.callback(drain)
        try:
            yield Running(
                address=address,
                admin=admin,
                relay=relay,
                tables=tables,
                connections=lambda: len(server.connections),
                drain=drain,
                hurry=hurry,
            )
        finally:
            look_away()
            with suppress(TimeoutError):
                await asyncio.wait_for(hurry.wait(), limits.drain_delay)
            drain()
            await _wait_for_exchanges(relay, limits.drain)


@asynccontextmanager
async def administered(
    settings: Settings, address: Address, office: Office
) -> AsyncIterator[Address]:
    """Answer the operator while the block runs; yield where."""
    reach = Reach(settings.upstream) if settings.ready_check else None
    port = admin_port(address, office, settings.token(), settings.limits(), reach)
    async with port as bound:
        yield Address(*bound)


def reloading_tables(settings: Settings, table: Table, log: Log, metrics: Metrics | None) -> Tables:
    """Hold a table, telling the log and the metrics of each reload."""

    def said(refused: list[str]) -> None:
        if metrics is not None:
            metrics.reloaded(tables.version, took_effect=not refused)
        if refused:
            log.say("the new table is refused, the old one stays", urgent=True, problems=refused)
        else:
            log.say("the table is reloaded", file=str(settings.mappings))

    tables = Tables(settings.mappings, table, said)
    return tables


@asynccontextmanager
async def watching(tables: Tables) -> AsyncIterator[None]:
    """Reload the table when its file changes, while the block runs."""
    task = asyncio.get_running_loop().create_task(tables.watch())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _listen(
    server: Server, address: Address, work: Work | None
) -> tuple[asyncio.Server | Door, Address]:
    """Let clients in, and return where; a worker's come through its door."""
    if work:
        return Door(work.door, server), address
    loop = asyncio.get_running_loop()
    listener = await loop.create_server(server, *address, backlog=BACKLOG)
    return listener, Address(*bound_address(listener))


async def _wait_for_exchanges(relay: Relay, seconds: float) -> None:
    """Give running exchanges their time, then their ending."""
    if not await relay.idle(seconds):
        relay.end_all(Failure.DRAINING)
        await relay.idle(_LAST_WORDS)


async def serve(settings: Settings) -> None:
    """Serve in this process until SIGTERM or SIGINT; a second signal ends at once.

    Raises TableError and OSError where it cannot begin.
    """
    table = load_checked(settings.mappings)
    log = StructuredLog(settings.log_format, settings.log_originals)
    async with log.attached(), serving(settings, table, log) as running:
        settle()
        stop = _stop_on_signals(running, signal.SIGTERM, signal.SIGINT)
        announce(settings, running.address, running.admin)
        await stop.wait()


async def serve_worker(
    settings: Settings, supervisor: int, ready: Callable[[], None], work: Work
) -> None:
    """Serve as one of several workers until SIGTERM, or until the supervisor is gone.

    supervisor: a file descriptor that becomes readable at the supervisor's end.
    ready: called when this worker serves.
    """
    table = load_checked(settings.mappings)
    log = StructuredLog(settings.log_format, settings.log_originals)
    async with log.attached(), serving(settings, table, log, work) as running:
        settle()
        stop = _stop_on_signals(running, signal.SIGTERM)
        loop = asyncio.get_running_loop()

        def on_orphaned() -> None:
            loop.remove_reader(supervisor)
            stop.set()

        loop.add_reader(supervisor, on_orphaned)
        ready()
        await stop.wait()
        loop.remove_reader(supervisor)


def _stop_on_signals(running: Running, *signals: signal.Signals) -> asyncio.Event:
    """Return an event that the first signal sets; the next gives every stream its ending."""
    stop = asyncio.Event()

    def on_signal() -> None:
        if stop.is_set():
            running.hurry.set()
            running.relay.end_all(Failure.DRAINING)
        stop.set()

    loop = asyncio.get_running_loop()
    for number in signals:
        loop.add_signal_handler(number, on_signal)
    reload_on_hangup(running.tables)
    return stop


def reload_on_hangup(tables: Tables, also: Callable[[], None] = lambda: None) -> None:
    """Read the table again on SIGHUP; `also` is called with it."""
    loop = asyncio.get_running_loop()
    under_way: set[asyncio.Task[bool]] = set()  # a task that nobody holds may vanish

    def on_hangup() -> None:
        task = loop.create_task(tables.reload())
        under_way.add(task)
        task.add_done_callback(under_way.discard)
        also()

    loop.add_signal_handler(signal.SIGHUP, on_hangup)


def announce(settings: Settings, address: Address, admin: Address | None) -> None:
    """Say that the proxy is ready."""
    more = f", admin on http://{admin}" if admin else ""
    line = f"discreet is ready: http://{address} in front of {settings.upstream}{more}\n"
    sys.stdout.write(line)
    sys.stdout.flush()


def run_loop(main: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine to its end on the fastest event loop there is."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(main)
    else:
        uvloop.run(main)
