"""Connections that one process accepts and others serve.

    clients → Entrance, in the supervisor → a socket pair for each worker → Door → its server

The kernel's own way, SO_REUSEPORT, spreads connections by a hash of their addresses: of eight
that a gateway keeps, six may be one worker's for hours. Given out in turn, they are four and
four; and what waits to be accepted is nobody's yet, so that a worker that dies takes none along.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from typing import Final, Protocol

# Connects that are taken in one turn of the loop: others wait for it too.
_AT_ONCE: Final = 64
# Seconds until a connection that nobody took is offered again, or one more can be accepted.
_AGAIN: Final = 0.05
# A byte goes with each connection: a message without any would be none.
_HERE: Final = b"c"


def door_pair() -> tuple[socket.socket, socket.socket]:
    """Return the two ends through which one worker gets its connections."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    ours.settimeout(0)
    theirs.settimeout(0)
    return ours, theirs


class Taker(Protocol):
    """Who connections can be given to."""

    def take(self, connection: socket.socket) -> bool:
        """Take a connection; tell whether that can be now."""


class Entrance:
    """Accepts connections, and gives them to the takers in turn.

    listener: is bound, and listens.
    """

    def __init__(self, listener: socket.socket, takers: Sequence[Taker]) -> None:
        self._listener = listener
        self._takers = takers
        self._next = 0
        self._loop = asyncio.get_running_loop()
        self._held: socket.socket | None = None  # accepted, and not given yet
        self._again: asyncio.TimerHandle | None = None
        self._loop.add_reader(listener, self._accept)

    def close(self) -> None:
        """Accept no more."""
        self._pause()
        if self._again is not None:
            self._again.cancel()
        if self._held is not None:
            self._held.close()
        self._listener.close()

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                self._held = self._held or self._listener.accept()[0]
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError:  # no descriptor is left: one may be soon
                self._wait()
                return
            if not self._give(self._held):
                self._wait()
                return
            self._held.close()
            self._held = None

    def _give(self, connection: socket.socket) -> bool:
        for _ in self._takers:
            taker = self._takers[self._next % len(self._takers)]
            self._next += 1
            if taker.take(connection):
                return True
        return False

    def _wait(self) -> None:
        self._pause()
        self._again = self._loop.call_later(_AGAIN, self._go_on)

    def _go_on(self) -> None:
        self._again = None
        self._loop.add_reader(self._listener, self._accept)
        self._accept()

    def _pause(self) -> None:
        if self._listener.fileno() >= 0:
            self._loop.remove_reader(self._listener)


def send_through(end: socket.socket, connection: socket.socket) -> bool:
    """Give a connection to who has the other end; tell whether it could be taken."""
    try:
        socket.send_fds(end, [_HERE], [connection.fileno()])
    except OSError:  # the door is shut, or its worker is so busy that it is full
        return False
    return True


class Door:
    """Where a worker gets its connections: what a listener is to a process that serves alone."""

    def __init__(self, end: socket.socket, server: Callable[[], asyncio.BaseProtocol]) -> None:
        self._end = end
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._coming: set[asyncio.Task[object]] = set()  # a task that nobody holds may vanish
        self._loop.add_reader(end, self._on_connection)

    def close(self) -> None:
        """Take what was given already, and no more."""
        self._on_connection()
        self._shut()

    def _on_connection(self) -> None:
        while self._end.fileno() >= 0:
            try:
                _, descriptors, *_ = socket.recv_fds(self._end, 1, 1)
            except BlockingIOError:
                return
            except OSError:
                descriptors = []
            if not descriptors:
                self._shut()  # the supervisor is gone, and this worker is about to be told so
                return
            connection = socket.socket(fileno=descriptors[0])
            connection.settimeout(0)
            task = self._loop.create_task(self._serve(connection))
            self._coming.add(task)
            task.add_done_callback(self._coming.discard)

    async def _serve(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._server, connection)
        except OSError:
            connection.close()  # the client has left again

    def _shut(self) -> None:
        if self._end.fileno() >= 0:
            self._loop.remove_reader(self._end)
            self._end.close()
