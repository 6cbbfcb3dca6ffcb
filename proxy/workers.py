"""Several worker processes behind one address, and the supervisor that keeps them.

The workers share the address by SO_REUSEPORT: the kernel spreads connections over them, and no
worker waits for another. The supervisor serves no client. It starts a worker again when it
dies, hands a signal to all of them so that they drain together, and answers on the admin port
for all of them: their metrics are shared through files in a directory of its own.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from proxy.app import announce, run_loop, serve_worker
from proxy.core.table_file import load_checked
from proxy.operate.log import StructuredLog
from proxy.settings import Address, Settings
from proxy.transport.admin import admin_port

# A worker that dies at once, again and again, is started less and less often.
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 5.0
_LIVED: Final = 10.0


class Worker:
    """One worker process: started, watched, ended."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.ready = asyncio.Event()
        self.pause = _FIRST_PAUSE
        self._began = 0.0
        self._process: SpawnProcess | None = None
        self._pipe: Connection | None = None

    def start(self) -> None:
        """Start it."""
        context = get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(self._settings, theirs), daemon=True)
        self._process.start()
        theirs.close()
        self._began = time.monotonic()

    async def ended(self) -> int:
        """Wait until it ends; return its exit code. Notes when it becomes ready."""
        assert self._process is not None  # noqa: S101 - it was started
        assert self._pipe is not None  # noqa: S101
        loop = asyncio.get_running_loop()
        over = asyncio.Event()

        def on_word() -> None:
            loop.remove_reader(self._pipe.fileno())  # type: ignore[union-attr]
            self.ready.set()

        loop.add_reader(self._pipe.fileno(), on_word)
        loop.add_reader(self._process.sentinel, over.set)
        try:
            await over.wait()
        finally:
            loop.remove_reader(self._process.sentinel)
            loop.remove_reader(self._pipe.fileno())
            self.ready.clear()
        self._process.join()
        self._pipe.close()
        mark_process_dead(self._process.pid)  # type: ignore[no-untyped-call]
        lived = time.monotonic() - self._began
        self.pause = _FIRST_PAUSE if lived > _LIVED else min(self.pause * 2, _LONGEST_PAUSE)
        return self._process.exitcode or 0

    def stop(self) -> None:
        """Tell it to drain; told twice, it ends at once."""
        if self._process is not None and self._process.is_alive():
            self._process.terminate()


async def supervise(settings: Settings) -> None:
    """Keep `settings.workers` workers until SIGTERM or SIGINT.

    Raises TableError and OSError where they could not begin.
    """
    load_checked(settings.mappings)
    log = StructuredLog(settings.log_format, settings.log_originals)
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    async with AsyncExitStack() as stack:
        address = stack.enter_context(_reserved(settings.listen))
        stack.enter_context(_shared_metrics())
        workers = [
            Worker(settings.model_copy(update={"listen": address, "admin": None}))
            for _ in range(settings.workers)
        ]

        def ready() -> bool:
            return not stopping.is_set() and any(worker.ready.is_set() for worker in workers)

        admin: Address | None = None
        if settings.admin is not None:
            where = await stack.enter_async_context(
                admin_port(*settings.admin, ready, _gather, settings.limits())
            )
            admin = Address(*where)

        def on_signal() -> None:
            stopping.set()
            for worker in workers:
                worker.stop()

        for one in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(one, on_signal)
        async with asyncio.TaskGroup() as group:
            for number, worker in enumerate(workers):
                group.create_task(_keep(worker, number, log, stopping))
            begun = group.create_task(_announce_when_ready(workers, settings, address, admin))
            await stopping.wait()
            begun.cancel()


async def _announce_when_ready(
    workers: list[Worker], settings: Settings, address: Address, admin: Address | None
) -> None:
    for worker in workers:
        await worker.ready.wait()
    announce(settings, address, admin)


async def _keep(worker: Worker, number: int, log: StructuredLog, stopping: asyncio.Event) -> None:
    while not stopping.is_set():
        worker.start()
        code = await worker.ended()
        if stopping.is_set():
            return
        log.say("a worker died and is started again", worker=number, exit_code=code)
        try:
            async with asyncio.timeout(worker.pause):
                await stopping.wait()
        except TimeoutError:
            continue


@contextmanager
def _reserved(address: Address) -> Iterator[Address]:
    """Hold the address without listening, so that every worker gets the same port."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(tuple(address))
        yield Address(address.host, held.getsockname()[1])


@contextmanager
def _shared_metrics() -> Iterator[None]:
    """Give the workers a directory for their figures."""
    directory = tempfile.mkdtemp(prefix="discreet-metrics-")
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = directory
    try:
        yield
    finally:
        del os.environ["PROMETHEUS_MULTIPROC_DIR"]
        shutil.rmtree(directory, ignore_errors=True)


def _gather() -> bytes:
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)


def _work(settings: Settings, pipe: Connection) -> None:
    """Be a worker process."""
    # Ctrl-C reaches the whole group; the supervisor passes it on, once.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        run_loop(serve_worker(settings, pipe.fileno(), lambda: pipe.send("ready")))
    except OSError as error:
        sys.stderr.write(f"a worker cannot start: {error.strerror}\n")
        sys.exit(1)
