"""The event loop of both ends: sockets, times, and nothing else.

An end that is slow is measured as if it were the proxy: its pauses are in every delay, and on a
machine with few cores its work is taken from the proxy's. On asyncio's transports, uvloop's too,
both ends took half as much again.
"""

from __future__ import annotations

import ctypes
import heapq
import os
import select
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from typing import Final

_READABLE: Final = select.EPOLLIN
_WRITABLE: Final = select.EPOLLOUT
# What a read takes at most. glibc gives more than 128 KiB only with fresh pages, each time.
_READ: Final = 64 * 1024

_NONBLOCK: Final = os.O_NONBLOCK | os.O_CLOEXEC
_ABSOLUTE: Final = 1
_NS: Final = 1_000_000_000

_libc: Final = ctypes.CDLL(None, use_errno=True)


class Loop:
    """Calls when a file descriptor is ready, and when it is time. Times are of the monotonic clock.

    Times go to a timer of the kernel's (timerfd_create(2)), not to epoll, which rounds them to
    milliseconds: the events of many streams would come in bursts, one for each millisecond, and
    what is measured as an event's delay were mostly its place in the burst.
    """

    def __init__(self) -> None:
        self._poll = select.epoll()
        self._watched: dict[int, Callable[[int], None]] = {}
        self._timer: int = _libc.timerfd_create(time.CLOCK_MONOTONIC, _NONBLOCK)
        if self._timer < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._calls: list[tuple[float, int, Callable[[], None]]] = []
        self._number = count()
        self._is_over = False
        self.watch(self._timer, self._on_time)

    def watch(self, fd: int, call: Callable[[int], None]) -> None:
        """Call, with epoll's flags, whenever there is something to read."""
        self._poll.register(fd, _READABLE)
        self._watched[fd] = call

    def want_to_write(self, fd: int, wanted: bool) -> None:  # noqa: FBT001 - as the event is
        """Call when something can be written too, or no longer."""
        self._poll.modify(fd, _READABLE | _WRITABLE if wanted else _READABLE)

    def forget(self, fd: int) -> None:
        """Watch it no more; before it is closed."""
        del self._watched[fd]
        self._poll.unregister(fd)

    def call_at(self, due: float, call: Callable[[], None]) -> None:
        """Call at a time, in seconds; what is not wanted any more must know it by itself."""
        heapq.heappush(self._calls, (due, next(self._number), call))
        if self._calls[0][0] == due:
            self._set(due)

    def run(self) -> None:
        """Run until `stop`."""
        self._is_over = False
        while not self._is_over:
            for fd, flags in self._poll.poll():
                call = self._watched.get(fd)
                if call is not None:  # it may have been forgotten in this turn
                    call(flags)

    def stop(self) -> None:
        """End `run` after this turn."""
        self._is_over = True

    def close(self) -> None:
        """Give back what the kernel lent."""
        os.close(self._timer)
        self._poll.close()

    def _on_time(self, flags: int) -> None:
        del flags
        with suppress(BlockingIOError):  # it was set again meanwhile
            os.read(self._timer, 8)
        while self._calls and self._calls[0][0] <= time.monotonic():
            _, _, call = heapq.heappop(self._calls)
            call()
        if self._calls:
            self._set(self._calls[0][0])

    def _set(self, due: float) -> None:
        at = max(1, int(due * _NS))
        times = (ctypes.c_long * 4)(0, 0, at // _NS, at % _NS)  # struct itimerspec
        if _libc.timerfd_settime(self._timer, _ABSOLUTE, times, None):
            raise OSError(ctypes.get_errno(), "timerfd_settime")


class Connection:
    """A connected socket on a loop. `received` and `closed` are what becomes of it."""

    def __init__(self, loop: Loop, connected: socket.socket) -> None:
        connected.setblocking(False)  # noqa: FBT003 - its only argument
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._loop = loop
        self._socket = connected
        self._unsent = memoryview(b"")
        self.is_open = True
        loop.watch(connected.fileno(), self._on_ready)

    def received(self, data: bytes) -> None:
        """Take what came."""
        raise NotImplementedError

    def closed(self) -> None:
        """Hear that the other side closed it, or broke it."""

    def send(self, data: bytes) -> None:
        """Send; what the socket does not take goes as soon as it does."""
        if self._unsent:
            self._unsent = memoryview(b"".join((self._unsent, data)))
        elif self.is_open:
            sent = self._send(data)
            if sent < len(data) and self.is_open:
                self._unsent = memoryview(data)[sent:]
                self._loop.want_to_write(self._socket.fileno(), wanted=True)

    def close(self) -> None:
        """Close it."""
        if self.is_open:
            self.is_open = False
            self._unsent = memoryview(b"")
            self._loop.forget(self._socket.fileno())
            self._socket.close()

    def _send(self, data: bytes | memoryview) -> int:
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0
        except OSError:
            self._break()
            return 0

    def _on_ready(self, flags: int) -> None:
        if self._unsent and flags & _WRITABLE:
            sent = self._send(self._unsent)
            self._unsent = self._unsent[sent:]
            if not self._unsent and self.is_open:
                self._loop.want_to_write(self._socket.fileno(), wanted=False)
        if flags == _WRITABLE or not self.is_open:
            return
        try:
            data = self._socket.recv(_READ)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self.received(data)
        else:
            self._break()

    def _break(self) -> None:
        if self.is_open:
            self.close()
            self.closed()
