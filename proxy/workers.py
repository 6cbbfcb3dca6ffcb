"""Several worker processes behind one address, and the supervisor that keeps them.

The supervisor accepts connections and gives them to the workers in turn (`transport/door.py`); it
reads nothing of them. It starts a worker again when it dies, hands a signal to all of them so that
they drain together, and answers on the admin port for all of them: their metrics are shared through
files in a directory of its own.
"""

from __future__ import annotations

import asyncio
import os
import select
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from proxy.app import (
    BACKLOG,
    Work,
    administered,
    announce,
    reload_on_hangup,
    reloading_tables,
    run_loop,
    serve_worker,
    watching,
)
from proxy.core.table_file import load_checked
from proxy.operate.incidents import Entry
from proxy.operate.log import StructuredLog
from proxy.operate.office import Office
from proxy.settings import Settings
from proxy.transport.door import Entrance, door_pair, send_through
from proxy.values import Address

# A worker that dies at once, again and again, is started less and less often.
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 5.0
_LIVED: Final = 10.0
_READY: Final = "ready"


class Worker:
    """One worker process: started, watched, ended.

    tell: takes its incidents.
    left: called when it takes no more connections.
    """

    def __init__(
        self, settings: Settings, tell: Callable[[Entry], None], left: Callable[[], None]
    ) -> None:
        self._settings = settings
        self._tell = tell
        self._left = left
        self.ready = asyncio.Event()
        self.pause = _FIRST_PAUSE
        self._began = 0.0
        self._process: SpawnProcess | None = None
        self._pipe: Connection | None = None
        self._door: socket.socket | None = None

    def start(self) -> None:
        """Start it."""
        context = get_context("spawn")
        self._pipe, their_pipe = context.Pipe()
        self._door, their_door = door_pair()
        args = (self._settings, their_pipe, their_door)
        self._process = context.Process(target=_work, args=args, daemon=True)
        self._process.start()
        their_pipe.close()
        their_door.close()
        # Nothing is ever said through it, so that it is readable when it is shut.
        asyncio.get_running_loop().add_reader(self._door, self._leave)
        self._began = time.monotonic()

    async def ended(self) -> int:
        """Wait until it ends; return its exit code. Notes when it becomes ready."""
        assert self._process is not None  # noqa: S101 - it was started
        assert self._pipe is not None  # noqa: S101
        loop = asyncio.get_running_loop()
        over = asyncio.Event()

        loop.add_reader(self._pipe.fileno(), self._on_word, self._pipe)
        loop.add_reader(self._process.sentinel, over.set)
        try:
            await over.wait()
        finally:
            loop.remove_reader(self._process.sentinel)
            loop.remove_reader(self._pipe.fileno())
            self.ready.clear()
            self._leave()
        self._process.join()
        self._pipe.close()
        mark_process_dead(self._process.pid)  # type: ignore[no-untyped-call]
        lived = time.monotonic() - self._began
        self.pause = _FIRST_PAUSE if lived > _LIVED else min(self.pause * 2, _LONGEST_PAUSE)
        return self._process.exitcode or 0

    def take(self, connection: socket.socket) -> bool:
        """Give it a connection; tell whether it takes any."""
        return self.takes and self._door is not None and send_through(self._door, connection)

    @property
    def takes(self) -> bool:
        """Tell whether it serves, and its door is open."""
        return self.ready.is_set() and self._door is not None

    def _leave(self) -> None:
        if self._door is not None:
            asyncio.get_running_loop().remove_reader(self._door)
            self._door.close()
            self._door = None
            self._left()

    def _on_word(self, pipe: Connection) -> None:
        """Hear a worker: that it is ready, or an incident."""
        try:
            word = pipe.recv()
        except (EOFError, OSError):
            asyncio.get_running_loop().remove_reader(pipe.fileno())
            return
        if word == _READY:
            self.ready.set()
        else:
            self._tell(word)

    def send(self, number: signal.Signals) -> None:
        """Send it a signal. SIGTERM: drain; a second one: end at once. SIGHUP: reload."""
        if self._process is not None and self._process.is_alive() and self._process.pid:
            os.kill(self._process.pid, number)


async def supervise(settings: Settings) -> None:
    """Keep `settings.workers` workers until SIGTERM or SIGINT.

    Raises TableError and OSError where they could not begin.
    """
    table = load_checked(settings.mappings)
    log = StructuredLog(settings.log_format, settings.log_originals)
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    workers: list[Worker] = []

    def ready() -> bool:
        return not stopping.is_set() and any(worker.ready.is_set() for worker in workers)

    def send(number: signal.Signals) -> None:
        for worker in workers:
            worker.send(number)

    def stop() -> None:
        stopping.set()
        send(signal.SIGTERM)

    def left() -> None:
        if stopping.is_set() and not any(worker.takes for worker in workers):
            entrance.close()

    async with AsyncExitStack() as stack:
        listener = stack.enter_context(_listening(settings.listen))
        address = Address(settings.listen.host, listener.getsockname()[1])
        stack.enter_context(_shared_metrics())
        tables = reloading_tables(settings, table, log, None)
        office = Office(tables, ready, _in_flight, _gather)
        for_workers = settings.model_copy(update={"listen": address, "admin": None})
        workers += [Worker(for_workers, office.tell, left) for _ in range(settings.workers)]
        entrance = Entrance(listener, workers)
        stack.callback(entrance.close)
        await stack.enter_async_context(watching(tables))
        admin: Address | None = None
        if settings.admin is not None:
            admin = await stack.enter_async_context(administered(settings, settings.admin, office))

        loop.add_signal_handler(signal.SIGTERM, stop)
        loop.add_signal_handler(signal.SIGINT, stop)
        reload_on_hangup(tables, lambda: send(signal.SIGHUP))
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
        what = "a worker died and is started again"
        log.say(what, urgent=True, worker=number, exit_code=code)
        try:
            async with asyncio.timeout(worker.pause):
                await stopping.wait()
        except TimeoutError:
            continue


@contextmanager
def _listening(address: Address) -> Iterator[socket.socket]:
    """Listen; who connects before a worker serves is answered when one does."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with socket.create_server(tuple(address), family=family, backlog=BACKLOG) as listener:
        listener.settimeout(0)
        yield listener


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


def _registry() -> CollectorRegistry:
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return registry


def _gather() -> bytes:
    return generate_latest(_registry())


def _in_flight() -> int:
    return int(_registry().get_sample_value("discreet_exchanges_in_flight") or 0)


def _work(settings: Settings, pipe: Connection, door: socket.socket) -> None:
    """Be a worker process."""
    # Ctrl-C reaches the whole group; the supervisor passes it on, once.
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def report(entry: Entry) -> None:
        # A supervisor that does not read must not hold up a stream: an incident is dropped.
        if select.select([], [pipe], [], 0)[1]:
            with suppress(OSError):
                pipe.send(entry)

    try:
        work = Work(door, report)
        run_loop(serve_worker(settings, pipe.fileno(), lambda: pipe.send(_READY), work))
    except OSError as error:
        sys.stderr.write(f"a worker cannot start: {error.strerror}\n")
        sys.exit(1)
